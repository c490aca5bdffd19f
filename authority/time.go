package authority

import (
	"context"
	"fmt"
	"time"

	"machineid/authority/state/statepb"
)

// Authority time only rises (I11). A leader may tell edges and callers a time only up to the one that the state reserves: whoever leads next begins
// there, so it is behind nothing that was told. The idea is that of a timestamp oracle's high-water mark (Percolator, 2010).
const (
	// reserveWindow is how far ahead time is reserved, and so how far the next leader may find itself ahead of its own clock.
	reserveWindow = 3 * time.Second
	// reserveEarly is how much before its end the next window is reserved.
	reserveEarly = reserveWindow / 2
)

// time is the authority's time in milliseconds: this node's clock, if it fits those of the others, but never behind what the state holds or what was told before.
func (n *Node) time() int64 {
	now, _, _ := n.read()
	return now
}

// read returns the authority's time, and the wall clock by which it goes on if that fits.
func (n *Node) read() (now, wall int64, fits bool) {
	n.beginTime()
	now = n.state.Time()
	if wall, fits = n.wall(); fits {
		now = max(now, wall)
	}
	return n.newest.Raise(now), wall, fits
}

// beginTime has a term begin where time was reserved in the ones before: nobody has told a later one. Whoever asks first does it, for a
// call may come before this node has done anything else in the term; and nobody asks while it is done, or it could take for an earlier leader's what this one has reserved since.
func (n *Node) beginTime() {
	if term, leads := n.store.Leading(); !leads || n.timed.Load() == term {
		return
	}
	n.timing.Lock()
	defer n.timing.Unlock()
	if term, leads := n.store.Leading(); leads && n.timed.Load() != term {
		begins := max(n.state.Time(), n.state.Reserved())
		n.newest.Raise(begins)
		n.begins.Raise(begins)
		n.timed.Store(term)
	}
}

// due is up to when time must be reserved for a window to be left of it. The window is counted from the wall clock: a leader that begins ahead of its own lets it catch up,
// or each would begin further ahead than the last.
func due(now, wall int64, fits bool, window time.Duration) int64 {
	if !fits {
		return now
	}
	return max(now, wall+window.Milliseconds())
}

// edgeTime is the authority's time, and whether edges may be told it: not where the clock is off, and not before it is reserved.
func (n *Node) edgeTime() (ms int64, ok bool) {
	now, wall, fits := n.read()
	reserved := n.state.Reserved()
	if reserved < due(now, wall, fits, reserveEarly) {
		select {
		case n.reserveSoon <- struct{}{}:
		default:
		}
	}
	return now, now <= reserved && fits
}

// Now is the time in milliseconds that commands carry, and by which they are judged: no edge that may answer is behind it, once it is held down no more. What a leader before told is not
// taken back, though this node may know of older leases of its own.
func (n *Node) Now() int64 { return max(n.hub.Told(), n.begins.Latest()) }

// Told is Now as far as it is reserved: by it the authority judges what it tells.
func (n *Node) Told() int64 { return max(min(n.Now(), n.state.Reserved()), n.state.Time()) }

// reserve has the time reserved for a window, if less than that is left of the last.
func (n *Node) reserve(ctx context.Context, left time.Duration) error {
	until := func(window time.Duration) int64 {
		now, wall, fits := n.read()
		return due(now, wall, fits, window)
	}
	enough := func() bool { return n.state.Cluster() == nil || n.state.Reserved() >= until(left) }
	if enough() {
		return nil
	}
	select {
	case n.reserving <- struct{}{}:
		defer func() { <-n.reserving }()
	case <-ctx.Done():
		return fmt.Errorf("reserve time: %w", ctx.Err())
	}
	if enough() {
		return nil
	}
	if _, _, err := n.propose(ctx, &statepb.Command{
		TimeMs: n.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: n.cfg.ID},
		Change: &statepb.Command_ReserveTime{ReserveTime: &statepb.ReserveTime{UntilMs: until(reserveWindow)}},
	}); err != nil {
		return fmt.Errorf("reserve time: %w", err)
	}
	return nil
}

// keepReserved has time reserved in time while anybody is told it, until the term ends.
func (n *Node) keepReserved(ctx context.Context) {
	const retry = 100 * time.Millisecond
	for {
		select {
		case <-n.reserveSoon:
		case <-ctx.Done():
			return
		}
		if n.reserve(ctx, reserveEarly) != nil {
			select {
			case <-time.After(retry):
			case <-ctx.Done():
				return
			}
		}
	}
}
