package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

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
type Reader struct {
	src   Source
	steps *atomic.Uint64 // counts what scans look at; nil: nobody asks
	pace  func() error   // before each record, nil: none
}

// NewReader returns a Reader of a snapshot.
func NewReader(src Source) Reader { return Reader{src: src} }

// Paced returns a Reader that calls pace before each record that it reads or visits,
// and ends with its error. pace may wait: what a call reads is known to nobody before.
func (r Reader) Paced(pace func() error) Reader {
	r.pace = pace
	return r
}

// record is called before each record.
func (r Reader) record() error {
	if r.pace == nil {
		return nil
	}
	return r.pace()
}

// read hands a value to decode, during the call only, and reports whether it is
// there.
func (r Reader) read(key []byte, decode func(v []byte) error) (found bool, err error) {
	if err := r.record(); err != nil {
		return false, err
	}
	v, closer, err := r.src.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read record %q: %w", key[:1], err)
	}
	if err = errors.Join(decode(v), closer.Close()); err != nil {
		return false, fmt.Errorf("decode record %q: %w", key[:1], err)
	}
	return true, nil
}

func get[T any, P interface {
	*T
	proto.Message
}](r Reader, key []byte) (*T, error) {
	m := new(T)
	found, err := r.read(key, func(v []byte) error { return proto.Unmarshal(v, P(m)) })
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

// Orgs lists orgs in the order of their ids, from after the given one, at most
// limit, and whether more follow.
func (r Reader) Orgs(from OrgID, limit int) (list []*statepb.Org, more bool, err error) {
	start := append(orgKey(from), 0)
	if from == (OrgID{}) {
		start = []byte{prefixOrg}
	}
	err = r.scan(start, after([]byte{prefixOrg}), func(_, v []byte) (bool, error) {
		if more = len(list) == limit; more {
			return false, nil
		}
		o := new(statepb.Org)
		if err := proto.Unmarshal(v, o); err != nil {
			return false, err
		}
		list = append(list, o)
		return true, nil
	})
	return list, more, err
}

// Key returns the key with this SHA-256, nil if there is none.
func (r Reader) Key(hash [32]byte) (*statepb.Key, error) {
	return get[statepb.Key](r, keyKey(hash))
}

// remembered returns what a change came to, nil if that is not known.
func (r Reader) remembered(org OrgID, id [onceSize]byte) (*statepb.Remembered, error) {
	return get[statepb.Remembered](r, onceKey(org, id))
}

// rememberedAt returns the id of the request that was remembered under a number.
func (r Reader) rememberedAt(q onceQueue, number uint64) (id [onceSize]byte, err error) {
	found, err := r.read(onceAgeKey(q, number), func(v []byte) error {
		if copy(id[:], v) != onceSize {
			return fmt.Errorf("it has %d bytes", len(v))
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("number %d is missing", number)
	}
	return id, err
}

// rememberedRange returns the first number there is and the next.
func (r Reader) rememberedRange(q onceQueue) (first, next uint64, err error) {
	_, err = r.read(onceRangeKey(q), func(v []byte) error {
		if len(v) != 16 {
			return fmt.Errorf("it has %d bytes", len(v))
		}
		first, next = binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])
		return nil
	})
	return first, next, err
}

// Occupant returns one that may have expired: decision.Occupant.Present judges.
func (r Reader) Occupant(holder OrgID, id string) (*statepb.Occupant, error) {
	return get[statepb.Occupant](r, occupantKey(holder, id))
}

// Seats returns a holder's counters, nil if it never had an occupant. They count
// expired occupants until these are swept; Used does not.
func (r Reader) Seats(holder OrgID) (*statepb.Seats, error) {
	return get[statepb.Seats](r, seatsKey(holder))
}

// Mark is the newest command that the state holds.
type Mark struct {
	Index uint64
	Time  decision.Millis // never behind an earlier command's
}

const markSize = 16

// Mark returns the newest command's mark, zero before the first.
func (r Reader) Mark() (m Mark, err error) {
	_, err = r.read(markKey, func(v []byte) error {
		if len(v) != markSize {
			return fmt.Errorf("it has %d bytes", len(v))
		}
		m.Index = binary.BigEndian.Uint64(v)
		m.Time = int64(binary.BigEndian.Uint64(v[8:]))
		return nil
	})
	return m, err
}

// Plan tells how an org's plan stands at now.
func (r Reader) Plan(org *statepb.Org, now decision.Millis) (Plan, error) {
	plans, err := r.Plans()
	if err != nil {
		return Plan{}, err
	}
	used, err := r.Used(idOf(org.GetId()), now)
	if err != nil {
		return Plan{}, err
	}
	return planOf(org, plans, used, now), nil
}

// Used counts the active occupants that have not expired by now.
func (r Reader) Used(holder OrgID, now decision.Millis) (uint32, error) {
	s, err := r.Seats(holder)
	if err != nil {
		return 0, err
	}
	used := s.GetActive()
	if s.GetEnding() > 0 {
		ended, err := r.countEnded(holder, 0, now)
		return used - ended, err
	}
	return used, nil
}

// countEnded counts the occupants whose seats end from one time to another, both included.
func (r Reader) countEnded(holder OrgID, from, to decision.Millis) (n uint32, err error) {
	err = r.scan(timedKey(prefixByEnd, holder, from, ""), timedKey(prefixByEnd, holder, to+1, ""), func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	return n, err
}

// Cursor is a place in a list: the last occupant that was given out.
type Cursor struct {
	CreatedAt decision.Millis // not negative
	ID        string
}

// ListBytes is about how much of names and metadata a list holds at most: more than 1,000
// of the largest have, and a twelfth of what 10,000 would.
const ListBytes = 5 << 20

// List returns a holder's occupants that stand, in the order of
// (createdAt, id), from after the cursor, at most limit and ListBytes, and whether more
// follow.
func (r Reader) List(holder OrgID, from Cursor, limit int, now decision.Millis) (list []*statepb.Occupant, more bool, err error) {
	start := timedKey(prefixByAge, holder, from.CreatedAt, from.ID)
	if from != (Cursor{}) {
		start = append(start, 0) // the first key behind the cursor's own
	}
	size := 0
	err = r.scan(start, after(holderKey(prefixByAge, holder, "")), func(k, _ []byte) (bool, error) {
		o, err := r.Occupant(holder, timedID(k))
		if err != nil || !Stands(o, now) {
			return true, err
		}
		size += len(o.GetId()) + len(o.GetName()) + len(o.GetMetadata())
		if more = len(list) == limit || size > ListBytes; more {
			return false, nil
		}
		list = append(list, o)
		return true, nil
	})
	return list, more, err
}

// scan visits [from, to) until visit returns false or an error. The slices are
// valid during the visit only.
func (r Reader) scan(from, to []byte, visit func(k, v []byte) (more bool, err error)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("scan records %q: %w", from[:1], err)
		}
	}()
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer func() {
		r.count(it)
		err = errors.Join(err, it.Close()) // Close tells what ended the iteration
	}()
	for ok := it.First(); ok; ok = it.Next() {
		if err := r.record(); err != nil {
			return err
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if more, err := visit(it.Key(), v); err != nil || !more {
			return err
		}
	}
	return nil
}

// count adds the keys that an iterator has looked at, removed ones too.
func (r Reader) count(it *pebble.Iterator) {
	if r.steps != nil {
		stats := it.Stats()
		r.steps.Add(uint64(stats.ForwardStepCount[pebble.InternalIterCall] + stats.ForwardSeekCount[pebble.InternalIterCall]))
	}
}
