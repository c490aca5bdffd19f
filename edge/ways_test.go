package edge

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// Ways in which others failed that no other test of the edge is named for; docs/guarantee.md, Thirteen ways in which others have failed, lists them all.

// TestAPausedEdgeAnswersNothingOnWaking: its clock has counted, its timers have not run, and it has heard of nothing. What it
// remembers is whole, and denied.
func TestAPausedEdgeAnswersNothingOnWaking(t *testing.T) {
	for _, pause := range []time.Duration{0, testLease, time.Hour} {
		inWorld(t, func(w *world) {
			w.start()
			w.want("d", "ALLOW", false)
			w.a.set(func() {
				w.a.devices["d"] = revoked() // and the authority has waited for the lease's end
				w.a.grant = func(*link.Renew) *link.Grant { return nil }
				w.a.began = w.a.began.Add(-pause)
			})
			if pause == 0 {
				w.want("d", "ALLOW", true) // it was not paused: this is what the pause is judged by
				return
			}
			w.want("d", "SYSTEM_UNAVAILABLE", false)
			w.a.set(func() { w.a.grant = nil })
			w.a.breakOff()
			time.Sleep(time.Second)
			w.want("d", "DEVICE_REVOKED", false)
		})
	}
}

// TestARestartedEdgeRemembersNothing of the process before: no lease, no entry, and it does not say that it holds any.
func TestARestartedEdgeRemembersNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.want("d", "ALLOW", true)
		before := w.a.heard().hello
		granting := false
		w.a.set(func() {
			w.a.devices["d"] = revoked() // nobody tells it
			w.a.grant = func(r *link.Renew) *link.Grant {
				if granting {
					return w.a.granted(r)
				}
				return nil
			}
		})
		w.restart()
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		hello := w.a.heard().hello
		if hello == before || string(hello.GetProcessId()) == string(before.GetProcessId()) {
			t.Errorf("the process is %x, as before", hello.GetProcessId())
		}
		if hello.GetLastIndex() != 0 || len(hello.GetIncarnation()) != 0 || strings.Trim(string(hello.GetHeld()), "\x00") != "" {
			t.Errorf("it says that it goes on at %d of %x", hello.GetLastIndex(), hello.GetIncarnation())
		}
		w.a.set(func() { granting = true })
		time.Sleep(testLease)
		w.want("d", "DEVICE_REVOKED", false)
	})
}

// TestAnEdgeKeepsNoFiles: nothing of this package can write what a later process would read.
func TestAnEdgeKeepsNoFiles(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("list the package: %v, %v", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			switch path, _ := strconv.Unquote(spec.Path.Value); path {
			case "os", "io/ioutil", "syscall", "golang.org/x/sys/unix":
				t.Errorf("%s imports %s: an edge holds no durable state", name, path)
			}
		}
	}
}

// TestAnIdleEntryIsNoStaler: how long nobody has asked for it makes no difference to what it is worth, neither after a change
// nor without one.
func TestAnIdleEntryIsNoStaler(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.a.set(func() { w.a.devices["idle"] = active() })
		w.start()
		w.want("idle", "ALLOW", false)
		w.want("d", "ALLOW", false)
		asked := w.a.Now()
		// Others are busy meanwhile.
		for w.a.Now() < asked+clock.Time(testTTL/2) {
			time.Sleep(testTTL / 20)
			w.want("d", "ALLOW", true)
		}
		w.a.change(t, func() { w.a.devices["idle"] = revoked() }, w.a.device("idle"))
		w.want("idle", "DEVICE_REVOKED", false)
		w.want("d", "ALLOW", true)

		// Changed behind the authority's back, as it were: the entry ends with its time, unasked.
		w.a.set(func() { w.a.devices["idle"] = active() })
		time.Sleep(testTTL)
		w.want("idle", "ALLOW", false)
	})
}
