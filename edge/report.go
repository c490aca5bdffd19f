package edge

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/link"
)

// Bounds of reports (I10).
const (
	// noteEvery is how often it is noted that a device asks.
	noteEvery = time.Minute
	// reportEvery and reportMax bound what is sent: bytes, a second.
	reportEvery = time.Second
	reportMax   = 64 << 10
	// reportRest is room for what take does not count: the tallies, and the end of the last sighting.
	reportRest = 1 << 10
	// sightingsMax bounds what waits to be sent. Of it, what may not exist gets half.
	sightingsMax = 16 << 10
	deniedBits   = 14
)

// sightings are the devices that asked and are not reported yet. A validate leaves one
// behind once a minute for each device, at the most, and never waits: what finds no room
// is lost, and a statistic with it.
type sightings struct {
	waiting chan sighting
	dropped prometheus.Counter
	// denied tells of whom the org alone decided, and who has no entry here: in each slot
	// a hash of the device and the minute. Two that share one are noted more often.
	lately [1 << deniedBits]atomic.Uint64
}

// sighting is a device that asked, or a key that was used.
type sighting struct {
	key    *keyEntry    // or nil, and then
	device *deviceEntry // or nil, and then
	org    orgID
	id     string
	at     decision.Millis
}

func (s *sighting) name() (orgID, string) {
	if s.device != nil {
		return s.device.name()
	}
	return s.org, s.id
}

func newSightings(m *metrics) *sightings {
	return &sightings{waiting: make(chan sighting, sightingsMax), dropped: m.unreported}
}

// asked notes that a device which exists asked. On the hot path it is one load.
func (s *sightings) asked(d *deviceEntry, now clock.Time, at decision.Millis) {
	if d.note(now) {
		s.put(sighting{device: d, at: at})
	}
}

// used notes that a key decided. On the hot path it is one load.
func (s *sightings) used(k *keyEntry, now clock.Time, at decision.Millis) {
	last := k.noted.Load()
	if last != 0 && now.Sub(clock.Time(last)) < noteEvery || !k.noted.CompareAndSwap(last, int64(now)) {
		return
	}
	s.put(sighting{key: k, at: at})
}

// denied notes that a device asked of which the edge does not know whether it exists,
// because its org decided.
func (s *sightings) denied(org orgID, device []byte, hash uint64, now clock.Time, at decision.Millis) {
	minute := uint64(now)/uint64(noteEvery) + 1
	slot, tag := &s.lately[hash&(1<<deniedBits-1)], hash^minute*0x9e3779b97f4a7c15
	if slot.Load() == tag {
		return
	}
	slot.Store(tag)
	if len(s.waiting) >= sightingsMax/2 {
		s.dropped.Inc() // a flood of ids that nobody knows must not push out those that are known
		return
	}
	s.put(sighting{org: org, id: string(device), at: at})
}

func (s *sightings) put(one sighting) {
	select {
	case s.waiting <- one:
	default:
		s.dropped.Inc()
	}
}

// take returns what one report may carry, nil if nothing waits.
func (s *sightings) take() (list []*link.Seen, keys []*link.Used) {
	byOrg := map[orgID]*link.Seen{}
	for room := reportMax - reportRest; room > 0; {
		var one sighting
		select {
		case one = <-s.waiting:
		default:
			return list, keys
		}
		if one.key != nil {
			keys = append(keys, &link.Used{KeyHash: one.key.sum[:], AtMs: one.at})
			room -= len(one.key.sum) + 16
			continue
		}
		org, id := one.name()
		of := byOrg[org]
		if of == nil {
			of = &link.Seen{OrgId: org[:]}
			byOrg[org] = of
			list = append(list, of)
			room -= len(org) + 8
		}
		of.DeviceIds, of.AtMs = append(of.DeviceIds, id), append(of.AtMs, one.at)
		room -= len(id) + 10
	}
	return list, keys
}

// reports sends a report now and then while a session lasts. Until one has gone, no
// other is made.
func (s *session) reports(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	last := uint64(0)
	for first := true; ; first = false {
		s.mu.Lock()
		room := s.report == nil && !s.over && !s.returned
		s.mu.Unlock()
		if room {
			r := &link.Report{Entries: s.e.caches.entries()}
			r.Seen, r.Used = s.e.sight.take()
			validates, total := s.e.metrics.tallies()
			r.Validates = validates
			if first || r.Seen != nil || r.Used != nil || total != last {
				last = total
				s.mu.Lock()
				s.report = r
				s.mu.Unlock()
				s.nudge()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tallies are the validates so far, by code, and all of them.
func (m *metrics) tallies() (list []*link.Tally, total uint64) {
	for _, c := range decision.Codes() {
		t := &link.Tally{Code: c.String(), Hits: count(m.hits[c]), Misses: count(m.misses[c])}
		if n := t.GetHits() + t.GetMisses(); n > 0 {
			list, total = append(list, t), total+n
		}
	}
	return list, total
}

func count(c prometheus.Counter) uint64 {
	var m dto.Metric
	if c.Write(&m) != nil {
		return 0 // cannot be: it is a counter
	}
	return uint64(m.GetCounter().GetValue())
}

// entries is how many records are remembered, or wait to be forgotten.
func (c *caches) entries() int64 {
	return c.keys.MaxCost() - c.keys.RemainingCost() + c.refusedKeys.MaxCost() - c.refusedKeys.RemainingCost() +
		c.orgs.MaxCost() - c.orgs.RemainingCost() + c.devices.MaxCost() - c.devices.RemainingCost() +
		c.refusedDevices.MaxCost() - c.refusedDevices.RemainingCost()
}
