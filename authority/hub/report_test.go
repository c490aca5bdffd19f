package hub

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state"
	"machineid/shared/link"
)

// lastSeen reads the state.
func (w *realWorld) lastSeen(id string) (at int64) {
	w.t.Helper()
	err := w.hub.look(func(rd state.Reader, _ uint64) (err error) {
		at, err = rd.LastSeen(orgA, id)
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	return at
}

func seenNow(ids ...string) *link.ToAuthority {
	s := &link.Seen{OrgId: orgA[:]}
	for _, id := range ids {
		s.DeviceIds, s.AtMs = append(s.DeviceIds, id), append(s.AtMs, time.Now().UnixMilli())
	}
	return &link.ToAuthority{Report: &link.Report{
		Seen: []*link.Seen{s}, Entries: 7,
		Validates: []*link.Tally{{Code: "ALLOW", Hits: 90, Misses: 8}, {Code: "A_CODE_OF_TOMORROW", Misses: 2}},
	}}
}

// TestReportsAreRecorded once a minute for each device that exists, in a command that
// concerns nobody; what an edge counts is shown with its session (I10).
func TestReportsAreRecorded(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		p := w.join("e", 1)
		p.frames()
		first := time.Now().UnixMilli()
		p.tell(seenNow("d", "nobody", strings.Repeat("x", maxID+1)))
		time.Sleep(2 * flushTime)
		synctest.Wait()
		if got := w.lastSeen("d"); got != first {
			t.Errorf("seen at %d, want %d", got, first)
		}
		if w.lastSeen("nobody") != 0 {
			t.Error("a device that is not there was seen")
		}
		if len(invalidated(p.frames())) != 0 {
			t.Error("the edge is told of what no decision depends on")
		}
		before := w.applied()
		for range 5 { // many edges, or one that says it too often
			p.tell(seenNow("d", "nobody"))
			time.Sleep(2 * flushTime)
		}
		if w.applied() != before {
			t.Error("a device is recorded more than once a minute")
		}
		time.Sleep(seenEvery)
		p.tell(seenNow("d"))
		time.Sleep(2 * flushTime)
		if got := w.lastSeen("d"); got <= first || w.applied() == before {
			t.Errorf("seen at %d, after %d", got, first)
		}
		for _, s := range []*link.Seen{{OrgId: []byte{1}, DeviceIds: []string{"d"}, AtMs: []int64{1}}, {OrgId: orgA[:], DeviceIds: []string{"d"}}, nil} {
			p.tell(&link.ToAuthority{Report: &link.Report{Seen: []*link.Seen{s}}})
		}
		if p.over() {
			t.Error("a report that makes no sense ended the session")
		}
		time.Sleep(seenEvery)
		for i := range 2 {
			last, before := w.lastSeen("d"), w.applied()
			w.hub.Seen(orgA, "d", time.Now().Add(time.Hour).UnixMilli())
			time.Sleep(2 * flushTime)
			if got := w.lastSeen("d"); (got > last) != (i == 0) || (w.applied() > before) != (i == 0) || got > time.Now().UnixMilli() {
				t.Errorf("a time of the future, said again after %d: seen at %d, after %d", i, got, last)
			}
		}
	})
}

// TestUsesOfKeysAreRecorded as devices are: once a minute, of keys that there are.
func TestUsesOfKeysAreRecorded(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		lastUsed := func(hash [32]byte) (at int64) {
			t.Helper()
			if err := w.hub.look(func(rd state.Reader, _ uint64) (err error) {
				at, err = rd.LastUsed(hash)
				return err
			}); err != nil {
				t.Error(err)
			}
			return at
		}
		p := w.join("e", 1)
		p.frames()
		say := func() {
			now := time.Now().UnixMilli()
			p.tell(&link.ToAuthority{Report: &link.Report{Used: []*link.Used{
				{KeyHash: w.hash[:], AtMs: now}, {KeyHash: make([]byte, 32), AtMs: now}, {KeyHash: []byte{1}, AtMs: now}, nil,
			}}})
			time.Sleep(2 * flushTime)
			synctest.Wait()
		}
		first := time.Now().UnixMilli()
		say()
		if got := lastUsed(w.hash); got != first {
			t.Errorf("used at %d, want %d", got, first)
		}
		if lastUsed([32]byte{}) != 0 || len(invalidated(p.frames())) != 0 || p.over() {
			t.Error("a key that is not there was used, or an edge is told")
		}
		before := w.applied()
		for range 5 {
			say()
		}
		if w.applied() != before {
			t.Error("a key is recorded more than once a minute")
		}
		time.Sleep(seenEvery)
		w.hub.Used(w.hash, time.Now().UnixMilli()) // as the node's own calls say it
		time.Sleep(2 * flushTime)
		if got := lastUsed(w.hash); got <= first || w.applied() == before {
			t.Errorf("used at %d, after %d", got, first)
		}
	})
}

// TestSightingsAreBounded whatever edges say, and one is never two.
func TestSightingsAreBounded(t *testing.T) {
	q := &sightings{}
	taken := 0
	for i := range 300_000 {
		if q.add(sighted{org: orgA, id: fmt.Sprint("stranger-", i, strings.Repeat("x", i%200))}, int64(i)) {
			taken++
		}
	}
	if q.bytes > waitingMax || taken != len(q.at) || taken < 10_000 || taken == 300_000 {
		t.Errorf("%d bytes, %d of %d taken", q.bytes, len(q.at), taken)
	}
	q.take(flushMax)
	if len(q.at) != taken-flushMax {
		t.Errorf("%d are left of %d", len(q.at), taken)
	}
	for len(q.at) > 0 {
		q.take(flushMax)
	}
	if q.bytes != 0 {
		t.Errorf("%d bytes of nothing", q.bytes)
	}
	q.add(sighted{org: orgA, id: "d"}, 5)
	q.add(sighted{org: orgA, id: "d"}, 4)
	if got := q.take(10); len(got) != 1 || got[sighted{org: orgA, id: "d"}] != 5 {
		t.Errorf("took %v", got)
	}
}
