package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"machineid/raftstore"
)

// A leader's wall clock becomes the authority's time, which never goes back: one that runs ahead by a year would end every
// entitlement at once, for good. So each node compares its clock with those of the others all the time, and stamps nothing
// unless the last comparison found it right and it has not jumped since. One that would have to stamp, because it leads, hands over.
const (
	clocksEvery = time.Second
	// clocksApart is how far a clock may be off the median of all.
	clocksApart = 10 * time.Second
	// clocksNeeded is how many must be known, its own included: of two nobody can tell which is right.
	clocksNeeded = 3
)

// errSkewed is why a leader stamps nothing.
var errSkewed = fmt.Errorf("%w: this node's clock is off those of the others, or not compared with them yet", raftstore.ErrNotLeader)

// clocks is what a node knows of its wall clock.
type clocks struct {
	known chan struct{} // closed when they were compared once
	again chan struct{} // asks for a comparison
	last  atomic.Pointer[comparison]
}

// comparison is one look at all clocks.
type comparison struct {
	wall int64     // this node's, in milliseconds
	at   time.Time // the same moment by the monotonic clock
	off  time.Duration
}

func newClocks() clocks {
	return clocks{known: make(chan struct{}), again: make(chan struct{}, 1)}
}

// export registers how far the last comparison found this node's clock ahead of the median: positive is ahead, 0 also while
// fewer than clocksNeeded are known.
func (c *clocks) export(reg prometheus.Registerer) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_authority_clock_offset_seconds",
		Help: "How far this node's clock is ahead of the median of all nodes'; 0 while fewer than three are known.",
	}, func() float64 {
		if last := c.last.Load(); last != nil {
			return last.off.Seconds()
		}
		return 0
	})
}

// clockFits reports whether this node's wall clock may become the authority's time.
func (n *Node) clockFits() bool {
	c := n.clocks.last.Load()
	if c == nil {
		return false
	}
	jumped := time.Duration(n.cfg.Wall().UnixMilli()-c.wall)*time.Millisecond - time.Since(c.at)
	if jumped.Abs() > clocksApart {
		select {
		case n.clocks.again <- struct{}{}:
		default:
		}
	}
	return (c.off+jumped).Abs() <= clocksApart && jumped.Abs() <= clocksApart
}

// keepTime compares the clocks until ctx ends.
func (n *Node) keepTime(ctx context.Context) {
	tick := time.NewTicker(clocksEvery)
	defer tick.Stop()
	for {
		n.compareClocks(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.clocks.again:
		}
	}
}

func (n *Node) compareClocks(ctx context.Context) {
	members, err := n.store.Members(ctx)
	if err != nil || ctx.Err() != nil {
		return
	}
	c := &comparison{wall: n.cfg.Wall().UnixMilli(), at: time.Now()}
	var best string
	c.off, best = offMedian(members, n.cfg.ID, c.wall)
	if n.clocks.last.Swap(c) == nil {
		close(n.clocks.known)
	}
	if _, leads := n.store.Leading(); !leads || c.off.Abs() <= clocksApart {
		return
	}
	n.log.LogAttrs(ctx, slog.LevelError, "this node's clock is off those of the others: it decides nothing and hands over; set its clock",
		slog.Duration("off", c.off), slog.String("to", best))
	if err := n.store.TransferLeadership(ctx, best); err != nil && !errors.Is(err, raftstore.ErrNotLeader) {
		n.log.LogAttrs(ctx, slog.LevelError, "the leadership is not handed over", slog.Any("error", err))
	}
}

// offMedian tells how far the clock of node id, which says now, is ahead of the median of all that are known, 0 if too few are;
// and which other voter is closest to the median.
func offMedian(members []raftstore.Member, id string, now int64) (off time.Duration, best string) {
	var clocks []int64 // ahead of ours
	for _, m := range members {
		switch {
		case m.ID == id:
			clocks = append(clocks, 0)
		case m.Err == nil && m.Status.TimeMs != 0:
			clocks = append(clocks, m.Status.TimeMs-now)
		}
	}
	if len(clocks) < clocksNeeded {
		return 0, ""
	}
	slices.Sort(clocks)
	median := clocks[len(clocks)/2]
	if len(clocks)%2 == 0 {
		median = (clocks[len(clocks)/2-1] + median) / 2
	}
	closest := int64(-1)
	for _, m := range members {
		if m.ID == id || !m.Voter || m.Err != nil || m.Status.TimeMs == 0 {
			continue
		}
		if d := abs(m.Status.TimeMs - now - median); closest < 0 || d < closest {
			closest, best = d, m.ID
		}
	}
	return time.Duration(-median) * time.Millisecond, best
}

func abs(n int64) int64 { return max(n, -n) }
