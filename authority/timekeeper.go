package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"machineid/raftstore"
)

// A leader's wall clock becomes the authority's time, which never goes back: one that runs ahead by a year would end every
// entitlement at once, for good. So a leader compares its clock with those of the others, and one that is off hands over.
const (
	clocksEvery = time.Second
	// clocksApart is how far a leader may be off the median of all clocks.
	clocksApart = 10 * time.Second
	// clocksNeeded is how many must be known, its own included: of two nobody can tell which is right.
	clocksNeeded = 3
)

// errSkewed is why a leader stamps nothing.
var errSkewed = fmt.Errorf("%w: this node's clock is off those of the others, and it is handing over", raftstore.ErrNotLeader)

// keepTime compares clocks while this node leads.
func (n *Node) keepTime(ctx context.Context) {
	defer n.skewed.Store(false)
	tick := time.NewTicker(clocksEvery)
	defer tick.Stop()
	for {
		members, err := n.store.Members(ctx)
		if err == nil && ctx.Err() == nil {
			off, best := offMedian(members, n.cfg.ID, n.cfg.Wall().UnixMilli())
			if n.skewed.Swap(off.Abs() > clocksApart); off.Abs() > clocksApart {
				n.log.LogAttrs(ctx, slog.LevelError, "this node's clock is off those of the others: it decides nothing more and hands over; set its clock",
					slog.Duration("off", off), slog.String("to", best))
				if err := n.store.TransferLeadership(ctx, best); err != nil && !errors.Is(err, raftstore.ErrNotLeader) {
					n.log.LogAttrs(ctx, slog.LevelError, "the leadership is not handed over", slog.Any("error", err))
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
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
