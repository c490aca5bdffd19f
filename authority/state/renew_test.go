package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// TestIncarnationsGrow, whatever the clock says and whatever the one before was (I7).
func TestIncarnationsGrow(t *testing.T) {
	now := time.Now()
	max64 := bytes.Repeat([]byte{0xff}, 16)
	max64[7] = 0xfe
	for name, old := range map[string][]byte{
		"none": nil, "zero": make([]byte, 16), "of the future": NewIncarnation(nil, now.Add(1000*time.Hour)), "of now": NewIncarnation(nil, now),
		"random and large": bytes.Repeat([]byte{0xf0}, 16), "nearly the last": max64,
	} {
		next := NewIncarnation(old, now)
		if len(next) != 16 || bytes.Compare(next, old) <= 0 {
			t.Errorf("%s: %x after %x", name, next, old)
		}
		if name == "nearly the last" {
			continue // then it is the last
		}
		if again := NewIncarnation(next, now.Add(-time.Hour)); bytes.Compare(again, next) <= 0 {
			t.Errorf("%s: %x after %x, with a clock that went back", name, again, next)
		}
	}
}

// TestRenewOpensTheRecord: leases that were given after the backup may be out, as
// long as any may be, also if none was before (I8).
func TestRenewOpensTheRecord(t *testing.T) {
	const most = int64(longestLease)
	for name, c := range map[string]struct{ link, want *statepb.LinkRecord }{
		"none": {nil, &statepb.LinkRecord{Open: true, LeaseNs: most, CacheTtlNs: int64(time.Hour), ClockBoundPpm: 100_000}},
		"closed": {
			&statepb.LinkRecord{LeaseNs: int64(time.Second), CacheTtlNs: int64(time.Minute), ClockBoundPpm: 10_000},
			&statepb.LinkRecord{Open: true, LeaseNs: most, CacheTtlNs: int64(time.Hour), ClockBoundPpm: 100_000},
		},
		"listed, and longer than any": {
			&statepb.LinkRecord{Open: true, LeaseNs: 2 * most, CacheTtlNs: int64(2 * time.Hour), ClockBoundPpm: 200_000, Listed: true, Holders: []*statepb.LeaseHolder{{}}},
			&statepb.LinkRecord{Open: true, LeaseNs: 2 * most, CacheTtlNs: int64(2 * time.Hour), ClockBoundPpm: 200_000},
		},
	} {
		db := openDB(t)
		m := New(func(uint64, []Concern) {})
		b := db.NewIndexedBatch()
		tx := &tx{m: m, w: b, r: NewReader(b), cmd: &statepb.Command{}, emit: &emission{}}
		tx.putCluster(&statepb.Cluster{ClusterId: "c", Incarnation: make([]byte, 16), Link: c.link})
		if err := b.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		w := db.NewBatch()
		if err := Renew(db, w, "c", "d"); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		got, err := NewReader(db).Cluster()
		if err != nil || !proto.Equal(got.GetLink(), c.want) || got.GetClusterId() != "d" || !slices.Equal(got.GetReplaces(), []string{"c"}) || bytes.Equal(got.GetIncarnation(), make([]byte, 16)) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	db := openDB(t)
	if err := Renew(db, db.NewBatch(), "c", "d"); err == nil {
		t.Error("an empty state was renewed")
	}
}

// TestRenewRemembersTheClustersBefore: the newest are kept, in order, and the name that edges know is among them (I12, I13).
func TestRenewRemembersTheClustersBefore(t *testing.T) {
	db := openDB(t)
	m := New(func(uint64, []Concern) {})
	b := db.NewIndexedBatch()
	(&tx{m: m, w: b, r: NewReader(b), cmd: &statepb.Command{}, emit: &emission{}}).putCluster(&statepb.Cluster{ClusterId: "known to edges", Incarnation: make([]byte, 16)})
	if err := b.Commit(pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	want := []string{"c0", "known to edges"}
	for i := range 40 {
		w := db.NewBatch()
		if err := errors.Join(Renew(db, w, fmt.Sprintf("c%d", i), fmt.Sprintf("c%d", i+1)), w.Commit(pebble.NoSync)); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			want = append(want, fmt.Sprintf("c%d", i))
		}
		want = want[max(len(want)-mostReplaced, 0):]
		c, err := NewReader(db).Cluster()
		if err != nil || c.GetClusterId() != fmt.Sprintf("c%d", i+1) || !slices.Equal(c.GetReplaces(), want) {
			t.Fatalf("after %d: %v, %v; want %q", i, c, err, want)
		}
	}
}
