package hub

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"machineid/shared/clock"
)

// meter allows each of many names something: burst at once, and then one every so often. It is a GCRA (ATM Forum, 1996), which keeps one time for
// a name. Safe for concurrent use.
type meter struct {
	every time.Duration
	burst int
	// room has a name beyond metered take the place of one that has used little, for those who must not be shut out by whoever makes up names.
	room bool

	mu    sync.Mutex
	full  map[string]clock.Time // when all of a name's burst is there again
	swept clock.Time
}

// metered is how many names are kept apart. Who comes beyond shares one, or has others make room.
const metered = 8 << 10

// sampled is of how many names the one is found that makes room.
const sampled = 16

// take reports whether a name may, and counts it.
func (m *meter) take(name string, now clock.Time) bool { return m.owe(name, 1, now) == 0 }

// owe counts n for a name if that may now, and is 0; else it tells when to ask again. What exceeds the burst is owed.
func (m *meter) owe(name string, n int, now clock.Time) (wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.full[name]; !known && len(m.full) >= metered {
		if now.Sub(m.swept) >= m.every {
			m.sweep(now)
		}
		switch {
		case len(m.full) < metered:
		case m.room:
			m.makeRoom()
		default:
			name = ""
		}
	}
	at := max(m.full[name], now)
	if wait = at.Sub(now) - m.every*time.Duration(m.burst-1); wait > 0 {
		return wait
	}
	if m.full == nil {
		m.full = map[string]clock.Time{}
	}
	m.full[name] = at.Add(m.every * time.Duration(n))
	return 0
}

// sweep forgets those who are as if they had never come. m.mu is held.
func (m *meter) sweep(now clock.Time) {
	m.swept = now
	for name, full := range m.full {
		if full <= now {
			delete(m.full, name)
		}
	}
}

// makeRoom forgets the one of some names that has used least. m.mu is held.
func (m *meter) makeRoom() {
	n, least := 0, ""
	for name, full := range m.full { // begins anywhere
		if n == 0 || full < m.full[least] {
			least = name
		}
		if n++; n == sampled {
			break
		}
	}
	delete(m.full, least)
}

// voice is what sessions have this node log: edges that come and go over and over, and addresses that make up edges, say little of it (I14). Safe
// for concurrent use.
type voice struct {
	log   *slog.Logger
	clock clock.Clock
	edges meter // by address and edge
	hosts meter // by address, of IPv6 by site
	left  atomic.Int64
}

// A line of an edge beyond edgeLines is one a minute, and of an address beyond hostLines one a second.
const edgeLines, hostLines = 8, 256

func newVoice(log *slog.Logger, c clock.Clock) *voice {
	return &voice{log: log, clock: c, edges: meter{every: time.Minute, burst: edgeLines}, hosts: meter{every: time.Second, burst: hostLines}}
}

// say logs, unless there were too many lines of this edge lately. How many were left out, of all edges, the next line tells.
func (v *voice) say(ctx context.Context, level slog.Level, host, edge, message string, attrs ...slog.Attr) {
	now := v.clock.Now()
	if !v.edges.take(host+" "+edge, now) || !v.hosts.take(siteOf(host), now) {
		v.left.Add(1)
		return
	}
	attrs = append(attrs, slog.String("edge", edge), slog.String("address", host))
	if n := v.left.Swap(0); n > 0 {
		attrs = append(attrs, slog.Int64("lines_left_out", n))
	}
	v.log.LogAttrs(ctx, level, message, attrs...)
}
