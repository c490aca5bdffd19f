package cli

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"machineid/internal/testkit/bubble"
)

// copied is the authority's disk as it is now.
func (w *world) copied() *vfs.MemFS {
	return w.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// putBack ends the authority and starts it from an older copy of its disk.
func (w *world) putBack(disk *vfs.MemFS) {
	w.stopAuthority()
	w.disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(2, 2))})
	w.startAuthority(1)
}

// flurry makes changes of a device that nobody asks for, so that indexes pass.
func (w *world) flurry(changes int) {
	for range changes / 2 {
		w.change("devices/revoke", device("y"))
		w.change("devices/unrevoke", device("y"))
	}
}

// busy waits behind a flurry until edges have heard how far it is.
func (w *world) busy(changes int) {
	w.flurry(changes)
	time.Sleep(w.times.Lease)
}

// TestAnOlderCopyIsPutBack: what came after the copy is lost, but what comes from then on is in force when it returns (I13), at edges that have
// met what is lost: none goes on from an index of a history that is no more, whatever terms and indexes are used twice, and none has to be
// restarted.
func TestAnOlderCopyIsPutBack(t *testing.T) {
	for name, back := range map[string]func(w *world, e *member, r *relay){
		"before the edge has heard how far what it read is": func(w *world, e *member, _ *relay) {
			disk := w.copied()
			w.flurry(40)
			a, _ := w.call(e, "devices/validate", device("z"))
			if a.Code != "ALLOW" {
				w.t.Errorf("z: %s", a.Code)
			}
			w.putBack(disk)
		},
		"of the reign that the edge has met": func(w *world, e *member, _ *relay) {
			w.usable(e)
			disk := w.copied()
			w.busy(40)
			w.putBack(disk)
		},
		"by a term that is used twice": func(w *world, e *member, _ *relay) {
			disk := w.copied()
			w.stopAuthority()
			w.startAuthority(1)
			w.usable(e)
			w.busy(40)
			w.putBack(disk)
		},
		"of long before the reign that the edge has met": func(w *world, e *member, _ *relay) {
			disk := w.copied()
			for range 4 {
				w.stopAuthority()
				w.startAuthority(1)
				w.usable(e)
				w.busy(10)
			}
			w.putBack(disk)
		},
		"while the edge is cut off": func(w *world, e *member, r *relay) {
			disk := w.copied()
			w.stopAuthority()
			w.startAuthority(1)
			w.usable(e)
			w.busy(40)
			r.cut.Store(true)
			w.putBack(disk)
		},
		"twice": func(w *world, e *member, _ *relay) {
			w.usable(e)
			disk := w.copied()
			w.busy(40)
			w.putBack(disk)
			w.usable(e)
			w.busy(20)
			w.putBack(disk)
		},
		"twice, the second time while the edge is cut off": func(w *world, e *member, r *relay) {
			w.usable(e)
			w.busy(10)
			first := w.copied()
			w.busy(40)
			w.putBack(first)
			w.usable(e)
			second := w.copied()
			w.busy(40)
			r.cut.Store(true)
			w.putBack(second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.disk = vfs.NewCrashableMem()
				w.startAuthority(1)
				w.key = w.change("org/create", `{}`).Key
				w.change("devices/register", device("z"))
				w.change("devices/register", device("y"))
				r := newRelay(w, 1)
				e := w.startEdge(0, 1, r)
				back(w, e, r)
				w.change("devices/revoke", device("z"))
				returned := time.Since(w.start)
				w.busy(80)
				old, right := 0, 0
				for range 300 {
					r.cut.Store(time.Since(w.start) < returned+2*w.times.Lease && r.cut.Load())
					sent := time.Since(w.start)
					switch a, _ := w.call(e, "devices/validate", device("z")); a.Code {
					case "ALLOW":
						if old++; old == 1 {
							t.Errorf("z is allowed %v after its revoke has returned", sent-returned)
						}
					case "DEVICE_REVOKED":
						right++
					}
					time.Sleep(100 * time.Millisecond)
				}
				if right < 150 {
					t.Errorf("%d old answers, %d right ones: the edge has not come back by itself", old, right)
				}
				w.end(e)
				r.server.Stop()
				w.stopAuthority()
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

// usable waits until an edge allows "z", by its memory: caches that are being cleared may drop the first answer.
func (w *world) usable(e *member) {
	w.t.Helper()
	allowed := 0
	w.until("the edge allows z", func() bool {
		if a, _ := w.call(e, "devices/validate", device("z")); a.Code == "ALLOW" {
			allowed++
		}
		time.Sleep(100 * time.Millisecond)
		return allowed > 5
	})
}
