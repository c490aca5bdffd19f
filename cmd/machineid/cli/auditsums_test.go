package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestAuditSumsGrow: an entry for what is left out is listed again when its count has grown, and only then, for an hour.
func TestAuditSumsGrow(t *testing.T) {
	t.Parallel()
	var count, calls atomic.Int64
	count.Store(2)
	s := httptest.NewServer(asNode(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if got := r.URL.Query(); got.Get("cursor") != "7-2" || got.Get("limit") != "1" {
			t.Errorf("asked %v", got)
		}
		_, _ = fmt.Fprintf(w, `{"status":"ok","request_id":"r","entries":[{"id":"7-1","count":%d,"leftOut":true}],"nextCursor":"7-1"}`, count.Load())
	}))
	t.Cleanup(s.Close)
	c := (&operatorFlags{urls: []string{s.URL}, token: clusterToken}).client()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	var sums auditSums
	sums.note([]auditView{
		{ID: "8-0", Count: 5, At: now.Format(time.RFC3339)},
		{ID: "7-1", Count: 2, LeftOut: true, At: now.Format(time.RFC3339)},
		{ID: "3-0", Count: 9, LeftOut: true, At: now.Add(-2 * time.Hour).Format(time.RFC3339)},
	}, now)
	for i, step := range []struct {
		after time.Duration
		count int64
		shown int
		asked int64
	}{
		{sumsPause, 2, 0, 1},
		{sumsPause + time.Second, 3, 0, 1}, // too early to ask
		{2 * sumsPause, 3, 1, 2},
		{3 * sumsPause, 3, 0, 3},
		{sumsKept, 4, 1, 4},
		{sumsKept + sumsPause, 5, 0, 4},
	} {
		count.Store(step.count)
		list, err := sums.grown(t.Context(), c, "operator/audit", now.Add(step.after))
		if err != nil || len(list) != step.shown || calls.Load() != step.asked || step.shown == 1 && list[0].Count != int(step.count) {
			t.Errorf("step %d: %+v after %d calls, %v", i, list, calls.Load(), err)
		}
	}
	many := make([]auditView, 3*sumsMost)
	for i := range many {
		many[i] = auditView{ID: fmt.Sprint(1000-i, "-0"), LeftOut: true}
	}
	if sums.note(many, now); len(sums.list) != sumsMost || sums.list[sumsMost-1].id != "1000-0" {
		t.Errorf("%d are remembered, the last %+v", len(sums.list), sums.list[len(sums.list)-1])
	}
}
