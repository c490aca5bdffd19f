package cli

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"machineid/internal/testkit/bubble"
)

// TestASeatIsGivenOnWhenItIsFree: who is given the seat of another is told so when no edge allows that one any more. One that is cut off may, until
// its lease is over, and the call that took the seat away waits for that.
func TestASeatIsGivenOnWhenItIsFree(t *testing.T) {
	for path, body := range map[string]string{
		"devices/register": device("new"), "devices/unrevoke": device("back"), "devices/unrevoke_batch": `{"deviceIds":["back"]}`,
	} {
		t.Run(path, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.disk = vfs.NewCrashableMem()
				w.startAuthority(1)
				w.key = w.change("org/create", `{}`).Key
				w.change("devices/register", device("back"))
				w.change("devices/revoke", device("back"))
				for _, id := range []string{"x", "y", "z"} { // the free plan's three
					w.change("devices/register", device(id))
				}
				r := newRelay(w, 1)
				e := w.startEdge(0, 1, r)
				w.usable(e)
				if a, status := w.call(w.authority(), path, body); status == 200 && path != "devices/unrevoke_batch" {
					t.Fatalf("there is a seat: %+v", a)
				}
				r.cut.Store(true)
				revoked := make(chan struct{})
				go func() {
					w.change("devices/revoke", device("z"))
					close(revoked)
				}()
				time.Sleep(50 * time.Millisecond) // it is in the log, and the edge does not know
				if a, _ := w.call(e, "devices/validate", device("z")); a.Code != "ALLOW" {
					t.Fatalf("the edge says %s, so this shows nothing", a.Code)
				}
				if a, status := w.call(w.authority(), path, body); status != 200 {
					t.Errorf("HTTP %d, %+v", status, a)
				}
				if a, _ := w.call(e, "devices/validate", device("z")); a.Code == "ALLOW" {
					t.Error("the seat of z was given on, and z is allowed")
				}
				r.cut.Store(false)
				<-revoked
				w.end(e)
				r.server.Stop()
				w.stopAuthority()
				time.Sleep(2 * time.Minute)
			})
		})
	}
}
