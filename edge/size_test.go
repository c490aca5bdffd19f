//go:build !race

package edge

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/shared/decision"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

const fleetDevices = 1_000_000

// TestAllocRemembered: an edge takes at most 320 bytes of live heap for each of a million devices
// that it remembers, with all that it keeps beside them: ristretto's tables and counters, floors,
// and the keys and orgs, one for a hundred devices.
func TestAllocRemembered(t *testing.T) {
	const most = 320
	live := func() int64 {
		runtime.GC()
		runtime.GC() // what pools held went in the first
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	e, n := fleet(t, fleetDevices, 10_000)
	each := float64(live()-before) / float64(n)
	t.Logf("%d devices, %.0f bytes each", n, each)
	if n < fleetDevices*99/100 {
		t.Errorf("%d devices are remembered of %d", n, fleetDevices)
	}
	if each > most {
		t.Errorf("a device takes %.0f bytes, the most is %d", each, most)
	}
	runtime.KeepAlive(e)
}

func fleetOrg(i int) orgID { return orgID{byte(i), byte(i >> 8), 1} }

func fleetKey(i int) orgkey.Key {
	k, err := orgkey.New(bytes.NewReader(bytes.Repeat(fmt.Appendf(nil, "%09d", i), 20)))
	if err != nil {
		panic(err)
	}
	return k
}

func fleetID(i int) string { return fmt.Sprintf("agent-%018d", i) }

// fleet is an edge that remembers as many devices, of as many orgs in turn, and how many of
// them it does: ristretto may drop some.
func fleet(tb testing.TB, devices, orgs int) (*Edge, int) {
	tb.Helper()
	e, err := New(Config{ID: "e1", Limits: DefaultLimits(), NoDate: true, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(e.caches.close)
	hasher, err := link.NewHasher(make([]byte, 16))
	if err != nil {
		tb.Fatal(err)
	}
	m := &memory{caches: e.caches, epoch: 1, hasher: hasher, sight: e.sight, ttl: 10 * time.Minute}
	e.memory.Store(m)
	e.lease.Store(1 << 62)
	at := stamp{index: 1, expires: 1 << 62, epoch: 1}
	sums := make([]orgkey.Hash, orgs)
	for i := range orgs {
		sums[i] = fleetKey(i).Hash()
		of := &owner{org: fleetOrg(i)}
		m.keep(&found{
			key: newKey(at, sums[i], of, hasher, decision.Key{Known: true}),
			org: newOrg(at, of, decision.Holder{Known: true}),
		}, 0)
	}
	e.caches.keys.Wait()
	e.caches.orgs.Wait()
	for i := range devices {
		m.keep(&found{device: newDevice(at, m.ownerOf(fleetOrg(i%orgs)), fleetID(i), decision.Occupant{Known: true})}, 0)
		if i%10_000 == 0 {
			e.caches.devices.Wait() // or it drops what comes
		}
	}
	e.caches.devices.Wait()
	n := 0
	for i := range devices {
		code, _ := m.judge(&question{sum: sums[i%orgs], device: []byte(fleetID(i))}, 1, 1, nil)
		if code == decision.Allow {
			n++
		}
	}
	return e, n
}
