package hub

import (
	"cmp"
	"slices"
	"time"
)

// Session describes one edge's session.
type Session struct {
	EdgeID, Version string
	Format          int    // the newest that the edge understands
	Address         string // of the edge's end of the stream
	Connected       bool   // else its stream broke, and its lease runs on
	Since           time.Duration
	LeaseLeft       time.Duration // as booked
	Acked           uint64
	Behind          int           // changes that it has not acknowledged
	BehindFor       time.Duration // how long ago the oldest of them was sent
	AckTook         time.Duration // from a change to its acknowledgement, the last time; 0: none yet
	// As the edge last reported of its process; Reported is false before.
	Reported     bool
	Hits, Misses uint64
	Entries      int64
}

// Sessions lists the sessions of this reign, broken ones whose lease runs on too, by
// edge id. It is nil while this node does not lead.
func (h *Hub) Sessions() []Session {
	now := h.cfg.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reign == nil {
		return nil
	}
	list := make([]Session, 0, len(h.reign.sessions))
	for s := range h.reign.sessions {
		s.mu.Lock()
		one := Session{
			EdgeID: s.edgeID, Version: s.version, Format: s.format, Address: s.address, Connected: !s.broken, Since: now.Sub(s.since),
			LeaseLeft: max(0, s.leaseEnd.Sub(now)), Acked: s.acked, Behind: s.lapsed.n + len(s.waits), AckTook: s.ackTook,
			Reported: s.reported, Hits: s.hits, Misses: s.misses, Entries: s.entries,
		}
		switch {
		case s.lapsed.n > 0:
			one.BehindFor = now.Sub(s.lapsed.since)
		case len(s.waits) > 0:
			one.BehindFor = now.Sub(s.waits[0].began)
		}
		s.mu.Unlock()
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Session) int {
		return cmp.Or(cmp.Compare(a.EdgeID, b.EdgeID), cmp.Compare(b.Since, a.Since))
	})
	return list
}
