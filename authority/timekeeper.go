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
	"machineid/shared/clock"
)

// A leader's wall clock becomes the authority's time, which never goes back: one that runs ahead by a year would end every
// entitlement at once, for good. So each node compares its clock with those of the others all the time, and stamps nothing
// unless it is known to be right and has not jumped since. One that would have to stamp, because it leads, hands over.
const (
	clocksEvery = time.Second
	// clocksSoon is how soon a node that knows nothing of its clock yet asks again.
	clocksSoon = 100 * time.Millisecond
	// clocksApart is how far a clock may be off the median of all.
	clocksApart = 10 * time.Second
	// clocksNeeded is how many tell which of them is wrong: of two nobody can.
	clocksNeeded = 3
	// clocksPause is how long a node at least keeps between two hand-overs for its clock's sake, if it is elected again.
	clocksPause = 5 * time.Second
)

// errSkewed is why a leader stamps nothing.
var errSkewed = fmt.Errorf("%w: this node's clock is off those of the others, or not compared with them yet", raftstore.ErrNotLeader)

// clocks is what a node knows of its wall clock.
type clocks struct {
	known chan struct{} // closed when they were compared once
	again chan struct{} // asks for a comparison
	last  atomic.Pointer[comparison]
	// handedOver is when the leadership was last given away because of the clock, and said when that was last tried in vain.
	handedOver, said time.Time
}

// comparison is one look at all clocks.
type comparison struct {
	wall int64      // this node's, in milliseconds
	at   clock.Time // the same moment by a clock that nobody sets
	off  time.Duration
	// sure says that off is known, and counts until it is known better. If not, two clocks disagree of which neither is known, or none: nobody answered.
	sure, none bool
}

func newClocks() clocks {
	return clocks{known: make(chan struct{}), again: make(chan struct{}, 1)}
}

// export registers how far the last comparison found this node's clock ahead of the median: positive is ahead, 0 also while
// that is not known.
func (c *clocks) export(reg prometheus.Registerer) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_authority_clock_offset_seconds",
		Help: "How far this node's clock is ahead of the median of all nodes'; 0 while that is not known.",
	}, func() float64 {
		if last := c.last.Load(); last != nil {
			return last.off.Seconds()
		}
		return 0
	})
}

// moved is how far the wall clock was set since c.
func (c *comparison) moved(wall int64, at clock.Time) time.Duration {
	return milliseconds(wall-c.wall) - at.Sub(c.at)
}

func isOff(off time.Duration) bool { return off.Abs() > clocksApart }

// clockFits reports whether this node's wall clock may become the authority's time.
func (n *Node) clockFits() bool {
	_, fits := n.wall()
	return fits
}

// wall reads this node's wall clock, in milliseconds, and reports whether what was read may become the authority's time. Who read it again to use it could find that it was set.
func (n *Node) wall() (ms int64, fits bool) {
	ms = n.cfg.Wall().UnixMilli()
	return ms, n.fits(ms)
}

func (n *Node) fits(wall int64) bool {
	c := n.clocks.last.Load()
	if c == nil || c.none {
		return false
	}
	jumped := c.moved(wall, n.cfg.Clock.Now())
	if isOff(jumped) {
		select {
		case n.clocks.again <- struct{}{}:
		default:
		}
	}
	return !isOff(c.off+jumped) && !isOff(jumped)
}

// clockOff is how far the clock is known to be off, for the others to count with.
func (n *Node) clockOff() (time.Duration, bool) {
	c := n.clocks.last.Load()
	if c == nil || !c.sure {
		return 0, false
	}
	return c.off, true
}

// clockFault says what is wrong with the clock, "" if it fits.
func (n *Node) clockFault() string {
	switch c := n.clocks.last.Load(); {
	case n.clockFits():
		return ""
	case c == nil || c.none:
		return "its clock is not compared with those of the others yet"
	case !isOff(c.off):
		return "its clock was set and is not compared with those of the others since"
	case !c.sure:
		return fmt.Sprintf("its clock is %v ahead of the other's, and nobody can tell which is right", c.off.Round(time.Second))
	default:
		return fmt.Sprintf("its clock is %v off those of the others", c.off.Round(time.Second))
	}
}

// unfit says why this node should not lead now (raftstore.Config).
func (n *Node) unfit() string {
	if n.stopping.Load() {
		return "it is being stopped"
	}
	return n.clockFault()
}

// keepTime compares the clocks until ctx ends.
func (n *Node) keepTime(ctx context.Context) {
	for {
		n.compareClocks(ctx)
		pause := clocksEvery
		if c := n.clocks.last.Load(); c == nil || c.none {
			pause = clocksSoon
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-n.clocks.again:
		}
	}
}

func (n *Node) compareClocks(ctx context.Context) {
	members, err := n.store.Members(ctx)
	if err != nil || ctx.Err() != nil {
		return
	}
	wall, at := n.cfg.Wall().UnixMilli(), n.cfg.Clock.Now()
	c := compare(members, n.cfg.ID, wall, n.clocks.last.Load().known(wall, at))
	c.wall, c.at = wall, at
	if n.clocks.last.Swap(c) == nil {
		close(n.clocks.known)
	}
	if why := n.clockFault(); why != "" {
		n.giveAway(ctx, why)
	}
}

// giveAway hands over if this node leads. It is not the clean hand-over: that one records who holds a lease, and this node writes nothing.
func (n *Node) giveAway(ctx context.Context, why string) {
	if _, leads := n.store.Leading(); !leads || time.Since(n.clocks.handedOver) < clocksPause {
		return
	}
	err := n.store.TransferLeadership(ctx, "")
	switch {
	case err == nil:
		n.clocks.handedOver = time.Now()
		n.log.LogAttrs(ctx, slog.LevelError, "this node led and decided nothing because of its clock: it has handed over; set the clock", slog.String("because", why))
	case !errors.Is(err, raftstore.ErrNotLeader) && time.Since(n.clocks.said) >= clocksPause:
		n.clocks.said = time.Now()
		n.log.LogAttrs(ctx, slog.LevelError, "this node leads, decides nothing because of its clock, and cannot hand over; set the clock",
			slog.String("because", why), slog.Any("error", err))
	}
}

// known is how far off the clock is now by what was known of it, nil if nothing was: a clock that is set moves by as much as it is set.
func (c *comparison) known(wall int64, at clock.Time) *time.Duration {
	if c == nil || !c.sure {
		return nil
	}
	off := c.off + c.moved(wall, at)
	return &off
}

// compare judges the clock of the member id, which says now. before is how far off it is by what was known, nil if nothing was.
//
// If all answer and can tell, their clocks count as they are. Else those count that are known, each set right by what is known of it, so that
// wrong ones cannot outvote the others while some are away; and if none is known, all that are there.
func compare(members []raftstore.Member, id string, now int64, before *time.Duration) *comparison {
	own := []int64{0} // clocks are counted by how far they are ahead of this one
	var others, known []int64
	voters, votes := 0, false
	for _, m := range members {
		if m.Voter {
			voters++
			votes = votes || m.ID == id
		}
		if m.ID == id || m.Err != nil || m.Status.TimeMs == 0 {
			continue
		}
		ahead := m.Status.TimeMs - now
		others = append(others, ahead)
		if off := m.Status.ClockOffMs; off != nil {
			if isOff(milliseconds(*off)) {
				ahead -= *off
			}
			known = append(known, ahead)
		}
	}
	sole := votes && voters == 1
	all := slices.Concat(own, others)
	switch off, tells := median(all); {
	case sole && len(members) == 1, tells && len(all) == len(members):
		return &comparison{off: off, sure: true}
	case before != nil:
		if off, tells := median(slices.Concat(own, known)); tells {
			return &comparison{off: off, sure: true}
		}
		return &comparison{off: *before, sure: true}
	case len(known) > 0: // the word of who knows
		off, _ := median(known)
		return &comparison{off: off, sure: true}
	case tells:
		return &comparison{off: off, sure: true}
	case sole: // nobody else could lead
		return &comparison{sure: true}
	default:
		return &comparison{off: off, none: len(others) == 0}
	}
}

// median is how far this node's clock is ahead of the median of some, and whether they can tell: three or more, or two that agree. Of an even
// number it is the lower of the two in the middle, since a clock that is behind does no harm that stays.
func median(ahead []int64) (off time.Duration, tells bool) {
	slices.Sort(ahead)
	first, last := ahead[0], ahead[len(ahead)-1]
	return -milliseconds(ahead[(len(ahead)-1)/2]), len(ahead) >= clocksNeeded || len(ahead) == 2 && !isOff(milliseconds(last-first))
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
