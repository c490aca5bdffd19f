package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// Source is what a Reader reads: a snapshot, or the batch of Apply.
type Source interface {
	Get(key []byte) (value []byte, closer io.Closer, err error)
	NewIter(o *pebble.IterOptions) (*pebble.Iterator, error)
}

// Reader reads the state. It is as consistent and as safe for concurrent use as
// its source. A record that is not there is nil, not an error.
type Reader struct{ src Source }

// NewReader returns a Reader of a snapshot.
func NewReader(src Source) Reader { return Reader{src} }

// read fills m and reports whether the record is there.
func (r Reader) read(key []byte, m proto.Message) (found bool, err error) {
	v, closer, err := r.src.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read record %q: %w", key[:1], err)
	}
	err = proto.Unmarshal(v, m)
	if err = errors.Join(err, closer.Close()); err != nil {
		return false, fmt.Errorf("decode record %q: %w", key[:1], err)
	}
	return true, nil
}

func get[T any, P interface {
	*T
	proto.Message
}](r Reader, key []byte) (*T, error) {
	m := new(T)
	found, err := r.read(key, P(m))
	if err != nil || !found {
		return nil, err
	}
	return m, nil
}

// Cluster returns what all nodes share, nil before the first Seed.
func (r Reader) Cluster() (*statepb.Cluster, error) { return get[statepb.Cluster](r, clusterKey) }

// Plans returns the tiers, nil before the first Seed.
func (r Reader) Plans() (*statepb.Plans, error) { return get[statepb.Plans](r, plansKey) }

// Org returns an org, nil if there is none.
func (r Reader) Org(id OrgID) (*statepb.Org, error) { return get[statepb.Org](r, orgKey(id)) }

// Key returns the key with this SHA-256, nil if there is none.
func (r Reader) Key(hash [32]byte) (*statepb.Key, error) {
	return get[statepb.Key](r, keyKey(hash[:]))
}

// Occupant returns one that may have expired: decision.Occupant.Present judges.
func (r Reader) Occupant(holder OrgID, id string) (*statepb.Occupant, error) {
	return get[statepb.Occupant](r, occupantKey(holder, id))
}

// Seats returns a holder's counters, never nil. They count expired occupants
// until these are swept; Used does not.
func (r Reader) Seats(holder OrgID) (*statepb.Seats, error) {
	var s statepb.Seats
	_, err := r.read(seatsKey(holder), &s)
	return &s, err
}

// Mark is the newest command that the state holds.
type Mark struct {
	Index uint64
	Time  decision.Millis // never behind an earlier command's
}

// Mark returns the newest command's mark, zero before the first.
func (r Reader) Mark() (m Mark, err error) {
	v, closer, err := r.src.Get(markKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return Mark{}, nil
	}
	if err != nil {
		return Mark{}, fmt.Errorf("read the mark: %w", err)
	}
	m.Index = binary.BigEndian.Uint64(v)
	m.Time = int64(binary.BigEndian.Uint64(v[8:])) //nolint:gosec // written by tx.mark
	return m, closer.Close()
}

// Plan tells how an org's plan stands at now.
func (r Reader) Plan(org *statepb.Org, now decision.Millis) (Plan, error) {
	plans, err := r.Plans()
	if err != nil {
		return Plan{}, err
	}
	used, err := r.Used(OrgID(org.Id), now)
	return planOf(org, plans, used, now), err
}

// Used counts the active occupants that have not expired by now.
func (r Reader) Used(holder OrgID, now decision.Millis) (uint32, error) {
	s, err := r.Seats(holder)
	if err != nil || s.Active == 0 || s.Ending == 0 {
		return s.GetActive(), err
	}
	used := s.Active
	err = r.scan(timedKey(prefixByEnd, holder, 0, ""), timedKey(prefixByEnd, holder, now+1, ""), func(_, active []byte) bool {
		used -= uint32(active[0])
		return true
	})
	return used, err
}

// ended lists occupants that have expired by now, at most limit.
func (r Reader) ended(holder OrgID, now decision.Millis, limit int) (ids []string, err error) {
	err = r.scan(timedKey(prefixByEnd, holder, 0, ""), timedKey(prefixByEnd, holder, now+1, ""), func(k, _ []byte) bool {
		_, id := timedOf(k)
		ids = append(ids, id)
		return len(ids) < limit
	})
	return ids, err
}

// Cursor is a place in a list: the last occupant that was given out.
type Cursor struct {
	CreatedAt decision.Millis
	ID        string
}

// List returns a holder's occupants that have not expired, in the order of
// (createdAt, id), from after the cursor, at most limit, and whether more follow.
func (r Reader) List(holder OrgID, from Cursor, limit int, now decision.Millis) (list []*statepb.Occupant, more bool, err error) {
	start := timedKey(prefixByAge, holder, from.CreatedAt, from.ID)
	if from != (Cursor{}) {
		start = append(start, 0) // the first key behind the cursor's own
	}
	prefix := append([]byte{prefixByAge}, holder[:]...)
	var inner error
	err = r.scan(start, after(prefix), func(k, _ []byte) bool {
		_, id := timedOf(k)
		o, err := r.Occupant(holder, id)
		if err != nil {
			inner = err
			return false
		}
		if !OccupantOf(o).Present(now) {
			return true
		}
		if more = len(list) == limit; more {
			return false
		}
		list = append(list, o)
		return true
	})
	return list, more, errors.Join(err, inner)
}

// scan visits [from, to) until visit returns false.
func (r Reader) scan(from, to []byte, visit func(k, v []byte) bool) error {
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("scan records %q: %w", from[:1], err)
	}
	for ok := it.First(); ok && visit(it.Key(), it.Value()); ok = it.Next() {
	}
	return errors.Join(it.Error(), it.Close())
}

// auditAt names an audit entry.
type auditAt struct {
	index uint64
	n     uint16
	org   OrgID
}

// auditsBefore lists the oldest audit entries made before t, at most limit, and
// tells the time of the oldest that is left, or t if that is unknown.
func (r Reader) auditsBefore(t int64, limit int) (list []auditAt, oldest int64, err error) {
	var inner error
	oldest = t
	err = r.scan([]byte{prefixAudit}, []byte{prefixAudit + 1}, func(k, v []byte) bool {
		var e statepb.AuditEntry
		if inner = proto.Unmarshal(v, &e); inner != nil || e.AtMs >= t {
			oldest = e.AtMs
			return false
		}
		list = append(list, auditAt{binary.BigEndian.Uint64(k[1:]), binary.BigEndian.Uint16(k[9:]), OrgID(e.OrgId)})
		return len(list) < limit
	})
	return list, oldest, errors.Join(err, inner)
}
