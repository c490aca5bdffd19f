package authority

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/raftstore"
)

func TestOffMedian(t *testing.T) {
	const now = int64(1_000_000_000)
	clock := func(id string, off time.Duration) raftstore.Member {
		return raftstore.Member{Life: raftstore.Life{ID: id}, Voter: true, Status: raftstore.NodeStatus{TimeMs: now + off.Milliseconds()}}
	}
	dead := raftstore.Member{Life: raftstore.Life{ID: "a9"}, Voter: true, Err: errors.New("dead")}
	listener := clock("a8", 0)
	listener.Voter = false
	for name, c := range map[string]struct {
		others []raftstore.Member
		off    time.Duration
		best   string
	}{
		"alone":                      {},
		"of two nobody can tell":     {others: []raftstore.Member{clock("a2", time.Hour)}},
		"nor of two and a dead one":  {others: []raftstore.Member{clock("a2", time.Hour), dead}},
		"all agree":                  {others: []raftstore.Member{clock("a2", 0), clock("a3", 0)}, best: "a2"},
		"one other is wrong":         {others: []raftstore.Member{clock("a2", time.Hour), clock("a3", time.Second)}, off: -time.Second, best: "a3"},
		"this one is ahead":          {others: []raftstore.Member{clock("a2", -time.Minute), clock("a3", -time.Minute-time.Second)}, off: time.Minute, best: "a2"},
		"this one is behind":         {others: []raftstore.Member{clock("a2", time.Minute), clock("a3", time.Hour)}, off: -time.Minute, best: "a2"},
		"a listener knows the time":  {others: []raftstore.Member{listener, clock("a3", time.Hour)}, best: "a3"},
		"four clocks, between two":   {others: []raftstore.Member{clock("a2", 20*time.Second), clock("a3", 30*time.Second), clock("a4", 40*time.Second)}, off: -25 * time.Second, best: "a2"},
		"of five, two may be so off": {others: []raftstore.Member{clock("a2", time.Hour), clock("a3", time.Hour), clock("a4", 0), clock("a5", 0)}, best: "a4"},
	} {
		own := raftstore.Member{Life: raftstore.Life{ID: "a1"}, Voter: true, Leader: true, Status: raftstore.NodeStatus{TimeMs: now}}
		off, best := offMedian(append([]raftstore.Member{own}, c.others...), "a1", now)
		if off != c.off || best != c.best {
			t.Errorf("%s: off %v, best %q; want %v, %q", name, off, best, c.off, c.best)
		}
	}
}

// What the metric tells has the sign of the log's line: ahead is positive.
func TestClockOffsetIsExported(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c := newClocks()
	c.export(reg)
	tell := func(want float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); got != want {
			t.Errorf("%s is %v, want %v", families[0].GetName(), got, want)
		}
	}
	tell(0)
	c.last.Store(&comparison{off: 2500 * time.Millisecond})
	tell(2.5)
	c.last.Store(&comparison{off: -time.Minute})
	tell(-60)
}
