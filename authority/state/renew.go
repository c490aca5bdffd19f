package state

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// incarnationSize is the length of an incarnation: milliseconds since 1970 in 8
// bytes, big endian, and 8 random bytes. So later ones are larger, and an edge can
// tell which of two is the newer (I7).
const incarnationSize = 16

// NewIncarnation returns one that is larger than old, which may be nil.
func NewIncarnation(old []byte, now time.Time) []byte {
	at := uint64(max(now.UnixMilli(), 0))
	if len(old) == incarnationSize {
		if was := binary.BigEndian.Uint64(old); was >= at && was < math.MaxUint64 {
			at = was + 1
		}
	}
	next := make([]byte, incarnationSize)
	binary.BigEndian.PutUint64(next, at)
	_, _ = rand.Read(next[8:]) // never fails
	return next
}

// What leases given since a backup was taken may have been at most, whatever was set then.
const (
	longestLease    = 5 * time.Second
	longestCacheTTL = time.Hour
	largestBoundPpm = 100_000 // of any clock: 10 %
)

// mostReplaced is how many names of clusters before it a cluster remembers.
const mostReplaced = 16

// How a state became another cluster's.
const (
	Restored  = "cluster.restored"
	Recovered = "cluster.recovered"
)

// Renewing returns Renew for a node, with what the audit is to say of it.
func Renewing(action, node string) func(r pebble.Reader, w *pebble.Batch, from, to string) error {
	return func(r pebble.Reader, w *pebble.Batch, from, to string) error {
		if err := Renew(r, w, from, to); err != nil {
			return err
		}
		return noteRenewal(r, w, &statepb.AuditEntry{
			Action: action, Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: node}, OrgId: make([]byte, len(OrgID{})), Target: to, Count: 1,
			Settings: []*statepb.Setting{Setting("clusterId", Text(from), Text(to))},
		})
	}
}

// noteRenewal adds an entry behind the newest there is. No command comes between: the state is that of its newest one.
func noteRenewal(r pebble.Reader, w *pebble.Batch, e *statepb.AuditEntry) error {
	rd := NewReader(r)
	mark, err := rd.Mark()
	if err != nil {
		return err
	}
	last, _, err := rd.Audit(OrgID{}, Place{}, 1, 0)
	if err != nil {
		return err
	}
	place := auditID{index: mark.Index}
	if len(last) > 0 && last[0].Index >= mark.Index {
		place = auditID{last[0].Index, last[0].N + 1}
	}
	e.AtMs = max(mark.Time, time.Now().UnixMilli())
	raw, err := proto.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode an audit entry: %w", err)
	}
	if err := errors.Join(w.Set(auditKey(place), raw, nil), w.Set(orgAuditKey(OrgID{}, place), nil, nil)); err != nil {
		return fmt.Errorf("write an audit entry: %w", err)
	}
	return nil
}

// Renew makes a restored or recovered state that of the cluster to, which replaces
// the cluster from (I13), and another incarnation, in which leases of the time
// before may still be out, as long as any may be (I7, I8).
func Renew(r pebble.Reader, w *pebble.Batch, from, to string) error {
	c, err := NewReader(r).Cluster()
	if err != nil {
		return err
	}
	if c == nil {
		return errors.New("the state belongs to no cluster")
	}
	old := c.GetIncarnation()
	c = clone(c)
	c.Incarnation = NewIncarnation(old, time.Now())
	if bytes.Compare(c.Incarnation, old) <= 0 {
		return errors.New("there is no incarnation after this one")
	}
	c.Replaces = append(c.Replaces, from)
	if named := c.GetClusterId(); named != "" && named != from { // by a state that was made before the two names were one
		c.Replaces = append(c.Replaces, named)
	}
	c.Replaces = c.Replaces[max(len(c.Replaces)-mostReplaced, 0):]
	c.ClusterId = to
	if c.Link == nil { // of before the first lease: some may have been given since
		c.Link = &statepb.LinkRecord{}
	}
	c.Link.Open = true
	c.Link.Listed, c.Link.Holders = false, nil // who holds leases now is not known
	c.Link.LeaseNs = max(c.Link.LeaseNs, int64(longestLease))
	c.Link.CacheTtlNs = max(c.Link.CacheTtlNs, int64(longestCacheTTL))
	c.Link.ClockBoundPpm = max(c.Link.ClockBoundPpm, largestBoundPpm)
	raw, err := proto.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the cluster's record: %w", err)
	}
	if err := w.Set(clusterKey, raw, nil); err != nil {
		return fmt.Errorf("write the cluster's record: %w", err)
	}
	return nil
}

// Counts tells how much a state holds.
func Counts(r pebble.Reader) (orgs, devices, keys int, err error) {
	for prefix, n := range map[byte]*int{prefixOrg: &orgs, prefixOccupant: &devices, prefixKey: &keys} {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
		if err != nil {
			return 0, 0, 0, fmt.Errorf("count the state's records: %w", err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			*n++
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return 0, 0, 0, fmt.Errorf("count the state's records: %w", err)
		}
	}
	return orgs, devices, keys, nil
}

// Describe names the change in an encoded command, with its org and its device: for people who look into a log.
func Describe(raw []byte) string {
	var cmd statepb.Command
	if err := proto.Unmarshal(raw, &cmd); err != nil {
		return "unreadable"
	}
	m := cmd.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("change"))
	if field == nil {
		return "unknown"
	}
	out := string(field.Name())
	change := m.Get(field).Message()
	if f := change.Descriptor().Fields().ByName("org_id"); f != nil {
		out += " " + idOf(change.Get(f).Bytes()).String()
	}
	if f := change.Descriptor().Fields().ByName("device_id"); f != nil {
		out += fmt.Sprintf(" %q", change.Get(f).String())
	}
	return out
}
