package cli

import (
	"strconv"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// A log that is healthy says nothing of a cache above it: an edge may acknowledge every change and put none in force. So what is
// probed is the cache: a device of the operator's own is revoked and restored, and each edge is asked about it (docs/operations.md).

// canary probes every edge once and names those whose answer is not the new one.
func canary(w *world) (frozen []string) {
	w.t.Helper()
	for _, step := range []struct{ path, code string }{{"devices/revoke", "DEVICE_REVOKED"}, {"devices/unrevoke", "ALLOW"}} {
		for _, e := range w.edges {
			w.call(e, "devices/validate", device("canary")) // it is in the cache
		}
		w.change(step.path, device("canary"))
		for _, e := range w.edges {
			if got, _ := w.call(e, "devices/validate", device("canary")); got.Code != step.code {
				frozen = append(frozen, e.name)
			}
		}
	}
	return frozen
}

// TestACanaryFindsAFrozenCache: the second of two edges acknowledges what it does not put in force. Changes return at once, no lease
// runs out, both edges are ready; only the canary tells.
func TestACanaryFindsAFrozenCache(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(strconv.FormatBool(frozen), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.startAuthority(1)
				w.key = w.change("org/create", `{}`).Key
				w.change("devices/register", device("canary"))
				for i := range 2 {
					r := newRelay(w, uint64(i))
					if frozen && i == 1 {
						mutants["acknowledged but not in force"](r)
					}
					w.edges = append(w.edges, w.startEdge(i, 1, r))
				}
				began := time.Now()
				found := canary(w)
				if took := time.Since(began); took >= w.times.Lease {
					t.Errorf("it took %v: a lease ran out, so the log was not healthy", took)
				}
				for _, e := range w.edges {
					if why := e.ready(); len(why) > 0 {
						t.Errorf("%s is not ready: %v", e.name, why)
					}
				}
				// Of revoked and restored, a frozen cache tells one: it says ALLOW all the time.
				if frozen && (len(found) != 1 || found[0] != "e1") || !frozen && len(found) > 0 {
					t.Errorf("found %v", found)
				}
				for _, e := range w.edges {
					w.end(e)
					e.relay.server.Stop()
				}
				w.stopAuthority()
				time.Sleep(2 * time.Minute) // for what fasthttp cleans up
			})
		})
	}
}
