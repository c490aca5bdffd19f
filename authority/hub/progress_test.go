package hub

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"machineid/authority/state"
)

// Two changes of one call: who had to be told of both is one, and expired if it was so once.
func TestPropagationsAdd(t *testing.T) {
	var sum Propagation
	sum.Add(Propagation{Index: 3, Edges: 2, Confirmed: 1, Expired: 1, ElapsedMs: 1, told: places{0b11}, late: places{0b10}})
	sum.Add(Propagation{Index: 5, Edges: 2, Confirmed: 2, ElapsedMs: 2, told: places{0b110, 1}})
	if sum.Index != 5 || sum.Edges != 4 || sum.Confirmed != 3 || sum.Expired != 1 || sum.ElapsedMs != 3 {
		t.Errorf("%+v", sum)
	}
}

// The next session of a process takes the place of the one before: both are one edge, also in the sum of several changes.
func TestAHandedOverSessionIsOneEdge(t *testing.T) {
	before, next := &session{slot: 3}, &session{slot: 70}
	first, second := newChange(1, 0), newChange(2, 0)
	first.expect(before, 1)
	if !first.handOver(before, next) || second.handOver(before, next) {
		t.Error("who was waited for is handed over, nobody else")
	}
	second.expect(next, 1)
	var sum Propagation
	sum.Add(first.propagation())
	sum.Add(second.propagation())
	if sum.Edges != 1 {
		t.Errorf("%d edges were told, want 1", sum.Edges)
	}
}

// TestProgress says of a change at every moment what Settle would, and who is waited for.
func TestProgress(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		ctx := context.Background()
		prompt, silent := w.joinHoldingAll("prompt", 1), w.joinHoldingAll("silent", 2)
		index := w.revoke()
		synctest.Wait()
		step := func(what string, org state.OrgID, want Progress) {
			t.Helper()
			p, err := w.hub.Progress(ctx, index, org)
			short, cancel := context.WithTimeout(ctx, time.Nanosecond)
			defer cancel()
			_, serr := w.hub.Settle(short, index)
			if org == orgA && p.Pending != (serr != nil) {
				t.Errorf("%s: pending %v, and Settle says %v", what, p.Pending, serr)
			}
			p.Elapsed, want.Index = 0, index
			if !slices.Equal(p.Waiting, want.Waiting) {
				t.Errorf("%s: waiting for %q, want %q", what, p.Waiting, want.Waiting)
			}
			p.Waiting, want.Waiting = nil, nil
			if err != nil || p.Pending != want.Pending || p.Known != want.Known || p.Edges != want.Edges || p.Confirmed != want.Confirmed || p.Expired != want.Expired {
				t.Errorf("%s: %+v, %v; want %+v", what, p, err, want)
			}
		}
		step("told", orgA, Progress{Pending: true, Known: true, Edges: 2, Waiting: []string{"prompt", "silent"}})
		step("asked by another org", orgB, Progress{})
		if list := w.hub.Sessions(); len(list) != 2 || list[0].EdgeID != "prompt" || list[1].Behind != 1 || list[0].AckTook != 0 || list[0].Reported {
			t.Errorf("sessions: %+v", list)
		}
		time.Sleep(time.Millisecond)
		prompt.ack(index)
		prompt.tell(seenNow())
		if list := w.hub.Sessions(); list[0].Behind != 0 || list[0].AckTook.Round(time.Millisecond) != time.Millisecond || list[1].BehindFor < time.Millisecond ||
			list[0].Hits != 90 || list[0].Misses != 10 || list[0].Entries != 7 || !list[0].Connected {
			t.Errorf("sessions: %+v", list)
		}
		step("one has acknowledged", orgA, Progress{Pending: true, Known: true, Edges: 2, Confirmed: 1, Waiting: []string{"silent"}})
		silent.hangUp()
		time.Sleep(stretched)
		synctest.Wait()
		step("one has run out of its lease", orgA, Progress{Known: true, Edges: 2, Confirmed: 1, Expired: 1})

		var waited, leases dto.Metric
		if err := errors.Join(w.hub.metrics.waited.Write(&waited), w.hub.metrics.expired.Write(&leases)); err != nil ||
			waited.GetCounter().GetValue() != 1 || leases.GetCounter().GetValue() != 1 {
			t.Errorf("%v; %v changes waited for %v leases", err, &waited, &leases)
		}
		w.hub.mu.Lock()
		w.hub.reign.holdUntil = w.Now().Add(time.Second)
		w.hub.mu.Unlock()
		step("an earlier leader's leases may be out", orgA, Progress{Pending: true, Known: true, Edges: 2, Confirmed: 1, Expired: 1})
		time.Sleep(time.Second)

		w.hub.mu.Lock()
		w.hub.recent[index%recentMax] = nil
		w.hub.mu.Unlock()
		step("it made way", orgA, Progress{})
		if prompt.renew() == nil {
			t.Fatal("no lease")
		}
		next := w.revoke()
		synctest.Wait()
		if _, err := w.hub.Progress(ctx, next+1, orgA); !errors.Is(err, ErrNoIndex) {
			t.Errorf("of an index that is not there: %v", err)
		}
		w.hub.mu.Lock()
		w.hub.recent[next%recentMax] = nil
		w.hub.mu.Unlock()
		index = next
		step("it made way before it settled", orgA, Progress{Pending: true})
		prompt.ack(next)
		step("and it settled", orgA, Progress{})
	})
}

// TestProgressOfAnotherReign: of a change that was dispatched while another led, or in an earlier reign, this node knows whether it is in
// force, and not who was told.
func TestProgressOfAnotherReign(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		ctx := context.Background()
		w.joinHoldingAll("e", 1).hangUp()
		own := w.revoke()
		synctest.Wait()
		become := func(r *reign) (was *reign) {
			w.hub.mu.Lock()
			defer w.hub.mu.Unlock()
			was, w.hub.reign = w.hub.reign, r
			return was
		}
		is := func(what string, index uint64, pending, known bool) {
			t.Helper()
			p, err := w.hub.Progress(ctx, index, orgA)
			if err != nil || p.Pending != pending || p.Known != known || !known && (p.Edges != 0 || p.Waiting != nil) {
				t.Errorf("%s: %+v, %v; want pending %v, known %v", what, p, err, pending, known)
			}
		}
		is("its own", own, true, true)
		reigned := become(nil)
		others := w.revoke()
		synctest.Wait()
		become(reigned)
		is("another's", others, false, false)
		become(&reign{term: reigned.term, ctx: reigned.ctx, id: reigned.id, directory: reigned.directory, sessions: map[*session]struct{}{}})
		is("of an earlier reign", own, true, false)
		become(reigned)
		is("its own again", own, true, true)
	})
}

// TestPropagationOfAPendingChange claims nothing.
func TestPropagationOfAPendingChange(t *testing.T) {
	for want, p := range map[string]Propagation{
		`{"pending":true,"index":7}`:                                      {Index: 7, Pending: true, Edges: 1},
		`{"index":7,"edges":2,"confirmed":1,"expired":1,"elapsedMs":0.5}`: {Index: 7, Edges: 2, Confirmed: 1, Expired: 1, ElapsedMs: 0.5},
	} {
		if got, err := json.Marshal(p); err != nil || string(got) != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}
