package api

import (
	"context"
	"time"

	"machineid/authority/hub"
	"machineid/shared/wire"
)

// edge is one edge's session in answers.
type edge struct {
	ID          string   `json:"id"`
	Address     string   `json:"address"`
	Version     string   `json:"version"`
	State       string   `json:"state"` // connected, or gone: its lease runs on
	Since       instant  `json:"since"`
	LeaseLeftMs int64    `json:"leaseLeftMs"`
	Acked       uint64   `json:"acked"`
	Behind      int      `json:"behind"`
	BehindMs    float64  `json:"behindMs"`
	AckMs       *float64 `json:"ackMs"`
	Hits        *uint64  `json:"hits"`
	Misses      *uint64  `json:"misses"`
	HitRate     *float64 `json:"hitRate"`
	Entries     *int64   `json:"entries"`
}

func edgeOf(s *hub.Session, now time.Time) edge {
	e := edge{
		ID: s.EdgeID, Address: s.Address, Version: s.Version, State: "gone", Since: instant(now.Add(-s.Since).UnixMilli()),
		LeaseLeftMs: s.LeaseLeft.Milliseconds(), Acked: s.Acked, Behind: s.Behind, BehindMs: millis(s.BehindFor),
	}
	if s.Connected {
		e.State = "connected"
	}
	if s.AckTook > 0 {
		took := millis(s.AckTook)
		e.AckMs = &took
	}
	if s.Reported {
		e.Hits, e.Misses, e.Entries = &s.Hits, &s.Misses, &s.Entries
		if all := s.Hits + s.Misses; all > 0 {
			rate := float64(s.Hits) / float64(all)
			e.HitRate = &rate
		}
	}
	return e
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// showEdges lists the edges that have a session, and those whose lease runs on after one. Only the leader knows them.
func showEdges(r *request) (step, error) {
	return step{change: func(context.Context) (any, error) {
		list := r.api.cfg.Hub.Sessions()
		if list == nil {
			return nil, &unavailable{outcome: wire.OutcomeNotDone, cause: hub.ErrNotLeading}
		}
		now, edges := time.Now(), make([]edge, len(list))
		for i := range list {
			edges[i] = edgeOf(&list[i], now)
		}
		return struct {
			wire.Envelope
			Node  string `json:"node"`
			Edges []edge `json:"edges"`
		}{r.in.Envelope("ok"), r.api.cfg.Nodes.Status().ID, edges}, nil
	}}, nil
}
