package hub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/link"
)

// Bounds of what comes of reports (I10). They are statistics: what is beyond is dropped
// and counted.
const (
	// seenEvery is how long a device's last-seen time stands before it is written anew.
	seenEvery = time.Minute
	flushTime = 2 * time.Second
	// waitingMax bounds the bytes that wait to be recorded.
	waitingMax = 8 << 20
	// flushMax is how many devices are recorded at one flush, seenMax how many by one
	// command: a change never waits for more than one such.
	flushMax, seenMax = 8192, 128
	flushCall         = 2 * time.Second
)

// sightings are devices that edges say have asked, and keys that were used, on their way into the state.
type sightings struct {
	mu    sync.Mutex
	at    map[sighted]int64 // the newest time of each
	bytes int
}

// sighted is a device, or with key a key, whose id is its hash.
type sighted struct {
	org state.OrgID
	id  string
	key bool
}

// room is what one takes, about.
func (s sighted) room() int { return 64 + len(s.id) }

// add takes one, and reports whether there was room for it.
func (q *sightings) add(s sighted, at int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	last, known := q.at[s]
	switch {
	case known:
		q.at[s] = max(last, at)
		return true
	case q.bytes+s.room() > waitingMax:
		return false
	case q.at == nil:
		q.at = map[sighted]int64{}
	}
	q.at[s] = at
	q.bytes += s.room()
	return true
}

// take removes up to n.
func (q *sightings) take(n int) map[sighted]int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.at) <= n {
		all := q.at
		q.at, q.bytes = nil, 0
		return all
	}
	some := make(map[sighted]int64, n)
	for s, at := range q.at {
		if len(some) == n {
			break
		}
		some[s] = at
		delete(q.at, s)
		q.bytes -= s.room()
	}
	return some
}

// report takes an edge's report.
func (h *Hub) report(s *session, r *link.Report) {
	for _, of := range r.GetSeen() {
		if len(of.GetOrgId()) != 16 || len(of.GetDeviceIds()) != len(of.GetAtMs()) {
			continue
		}
		for i, id := range of.GetDeviceIds() {
			h.Seen(state.OrgID(of.GetOrgId()), id, of.GetAtMs()[i])
		}
	}
	for _, u := range r.GetUsed() {
		if len(u.GetKeyHash()) == 32 {
			h.Used([32]byte(u.GetKeyHash()), u.GetAtMs())
		}
	}
	hits, misses := uint64(0), uint64(0)
	for _, t := range r.GetValidates() {
		hits += t.GetHits()
		misses += t.GetMisses()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits, s.misses, s.entries, s.reported = hits, misses, r.GetEntries(), true
}

// maxID is how long a device's id may be: nothing longer is one.
const maxID = 256

// Seen notes that a device asked at a time of the authority's. It may not exist. Safe for
// concurrent use; it never blocks.
func (h *Hub) Seen(org state.OrgID, device string, atMs int64) {
	if len(device) > maxID || !h.sightings.add(sighted{org: org, id: device}, min(atMs, h.cfg.Now())) {
		h.metrics.unseen.Inc()
	}
}

// Used notes that a key was used at a time of the authority's. It may not exist. Safe for
// concurrent use; it never blocks.
func (h *Hub) Used(keyHash [32]byte, atMs int64) {
	if !h.sightings.add(sighted{id: string(keyHash[:]), key: true}, min(atMs, h.cfg.Now())) {
		h.metrics.unseen.Inc()
	}
}

// recordSeen writes what was reported into the state while a reign lasts: a few devices a
// command, one command at a time, behind whatever else is proposed. What fails is not
// tried again, for the device will ask again.
func (h *Hub) recordSeen(r *reign) {
	tick := time.NewTicker(flushTime)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		if due := h.sightings.take(flushMax); len(due) > 0 && h.Leading() {
			if err := h.flushSeen(r.ctx, due); err != nil && r.ctx.Err() == nil {
				h.log.LogAttrs(r.ctx, slog.LevelDebug, "last-seen times not recorded", slog.Any("error", err))
			}
		}
	}
}

// flushSeen records those that stand and whose time is old.
func (h *Hub) flushSeen(ctx context.Context, due map[sighted]int64) error {
	byOrg, unknown := map[state.OrgID]*statepb.Seen{}, 0
	var keys []*statepb.Used
	now := h.cfg.Now()
	err := h.look(func(rd state.Reader, _ uint64) error {
		for s, at := range due {
			if s.key {
				hash := [32]byte([]byte(s.id))
				k, err := rd.Key(hash)
				if err != nil {
					return err
				}
				last, err := rd.LastUsed(hash)
				if err != nil {
					return err
				}
				if k != nil && (last == 0 || at-last >= seenEvery.Milliseconds()) {
					keys = append(keys, &statepb.Used{KeyHash: hash[:], AtMs: at})
				}
				continue
			}
			o, err := rd.Occupant(s.org, s.id)
			if err != nil {
				return err
			}
			if !state.Stands(o, now) {
				unknown++
				continue
			}
			last, err := rd.LastSeen(s.org, s.id)
			if err != nil {
				return err
			}
			if at-last < seenEvery.Milliseconds() && last != 0 {
				continue
			}
			of := byOrg[s.org]
			if of == nil {
				of = &statepb.Seen{OrgId: s.org[:]}
				byOrg[s.org] = of
			}
			of.DeviceIds, of.AtMs = append(of.DeviceIds, s.id), append(of.AtMs, at)
		}
		return nil
	})
	if err != nil {
		return err
	}
	h.metrics.unseen.Add(float64(unknown))
	c, n := &statepb.SetSeen{}, 0
	send := func() error {
		if n == 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, flushCall)
		defer cancel()
		_, err := h.cfg.Propose(ctx, &statepb.Command{
			TimeMs: h.cfg.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: h.cfg.ID},
			Change: &statepb.Command_SetSeen{SetSeen: c},
		})
		if err != nil {
			h.metrics.unseen.Add(float64(n))
			return fmt.Errorf("record when %d devices and keys were seen: %w", n, err)
		}
		c, n = &statepb.SetSeen{}, 0
		return nil
	}
	for org, of := range byOrg {
		for len(of.DeviceIds) > 0 {
			k := min(seenMax-n, len(of.DeviceIds))
			c.Orgs = append(c.Orgs, &statepb.Seen{OrgId: org[:], DeviceIds: of.DeviceIds[:k], AtMs: of.AtMs[:k]})
			of.DeviceIds, of.AtMs = of.DeviceIds[k:], of.AtMs[k:]
			if n += k; n == seenMax {
				if err := send(); err != nil {
					return err
				}
			}
		}
	}
	for len(keys) > 0 {
		k := min(seenMax-n, len(keys))
		c.Keys, keys = append(c.Keys, keys[:k]...), keys[k:]
		if n += k; n == seenMax {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}
