//go:build unix

package cli

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// This file is the judge of the virtual cluster: what its clients saw, and which answers that allows. It does no I/O, so that
// forged histories can be fed to it.

// subject is one register: a device of an org, or with device "" the org's switch.
type subject struct{ org, device string }

// What a subject can be. A switch is on or off; a device is absent, active or revoked (history_test.go).
const (
	switchOn  condition = "on"
	switchOff condition = "off"
)

// forever is the return of a call whose outcome is not known: it is made at any later time, or never.
const forever = time.Duration(math.MaxInt64)

// access is one call at the authority: a change, or a look ("get").
type access struct {
	subject
	what             action
	called, returned time.Duration
	// after is what the subject was when the call was decided, or what an unknown change makes of it.
	after condition
	// refused, changed: of a change that was answered.
	refused, changed bool
	// passing: a validate that the authority answered. It does not wait for the edges, which may tell what was before.
	passing bool
	client  int
}

const (
	sight     action = "get"
	switchIt  action = "org/execution on"
	switchOut action = "org/execution off"
)

// makes is what a change makes of its subject.
func (a action) makes() condition {
	return map[action]condition{
		register: active, revoke: revoked, unrevoke: active, remove: absent, switchIt: switchOn, switchOut: switchOff,
	}[a]
}

// glance is an answer of validate.
type glance struct {
	org, device, by string
	key             string // the id of the key that asked; "" is one that stays
	sent, got       time.Duration
	code            string
}

// annals are all that was seen. keys are changes of keys: their subject's device is the key's id.
type annals struct {
	accesses, keys []access
	glances        []glance
}

// What changes a key. One that is in force is active, else it is absent.
const (
	makeKey action = "org/keys"
	dropKey action = "org/keys/revoke"
)

// initially is what every subject was before its first access.
func (s subject) initially() condition {
	if s.device == "" {
		return switchOn
	}
	return absent
}

// looks reports whether an access told what its subject was, and left it so.
func (a access) looks() bool { return a.what == sight || a.refused }

// bySubject groups the accesses.
func (h *annals) bySubject() map[subject][]access {
	out := map[subject][]access{}
	for _, a := range h.accesses {
		out[a.subject] = append(out[a.subject], a)
	}
	return out
}

// era is what one change made of a subject, and when that can have been so: from the change's call until, at the latest, something
// had returned that surely came after it and left or found something else.
type era struct {
	after       condition
	from, until time.Duration
}

// eras are those of a subject's changes, and that of what it was before them.
func (s subject) eras(list []access) (out []era) {
	changes := []access{{after: s.initially(), called: math.MinInt64, returned: math.MinInt64}}
	for _, a := range list {
		if !a.looks() {
			changes = append(changes, a)
		}
	}
	for _, c := range changes {
		e := era{c.after, c.called, forever}
		for _, a := range list {
			// What validate says at the authority need not be in force at the edges yet.
			if a.called > c.returned && !a.passing && (!a.looks() || a.after != c.after) {
				e.until = min(e.until, a.returned)
			}
		}
		out = append(out, e)
	}
	return out
}

// may lists what a subject can be for a question that was sent and answered then (DESIGN.md of the project, The promise).
func may(eras []era, sent, got time.Duration) (out []condition) {
	for _, e := range eras {
		if e.from <= got && e.until >= sent && !slices.Contains(out, e.after) {
			out = append(out, e.after)
		}
	}
	return out
}

// says is what a code tells of a device.
var says = map[string]condition{codeAllow: active, codeRevoked: revoked, codeNotFound: absent}

// irregular returns a fault for every answer that breaks the promise.
func (h *annals) irregular() (faults []string) {
	subjects := map[subject][]era{}
	for s, list := range h.bySubject() {
		subjects[s] = s.eras(list)
	}
	keys := map[subject][]era{}
	for s, list := range (&annals{accesses: h.keys}).bySubject() {
		keys[s] = s.eras(list)
	}
	for _, g := range h.glances {
		if g.code == codeUnsure {
			continue // no answer
		}
		state := func(s subject) []condition {
			if eras, known := subjects[s]; known {
				return may(eras, g.sent, g.got)
			}
			return []condition{s.initially()} // nobody touched it
		}
		org, dev := state(subject{g.org, ""}), state(subject{g.org, g.device})
		key := []condition{active}
		if g.key != "" {
			key = may(keys[subject{g.org, g.key}], g.sent, g.got)
		}
		told, known := says[g.code]
		switch {
		case g.code == codeUnknownKey && slices.Contains(key, absent):
			continue
		case !slices.Contains(key, active):
			faults = append(faults, fmt.Sprintf("%s says %s to key %s of %s, in what was sent at %v and answered at %v; the key was %v",
				g.by, g.code, g.key, g.org, g.sent, g.got, key))
			continue
		}
		if g.code == codeDisabled && slices.Contains(org, switchOff) || known && slices.Contains(org, switchOn) && slices.Contains(dev, told) {
			continue
		}
		faults = append(faults, fmt.Sprintf("%s says %s of %s.%s to what was sent at %v and answered at %v; the org was %v and the device %v",
			g.by, g.code, g.org, g.device, g.sent, g.got, org, dev))
	}
	return faults
}

// objects is what the authority must look like to those who ask it: each subject changes and is read at one moment within each
// call. It goes by what each answer said.
var objects = porcupine.Model{
	Init: func() any { return condition("") },
	Step: func(state, input, _ any) (bool, any) {
		now, _ := state.(condition)
		a, _ := input.(access)
		if now == "" {
			now = a.initially()
		}
		next := after(now, a.what)
		switch {
		case a.returned == forever:
			return true, next
		case a.what == sight:
			return now == a.after, now
		case a.refused:
			return next == now && now == a.after, now
		}
		// A register that met an active device, a revoke that met a revoked one, change nothing and say so.
		return next == a.after && a.changed == (next != now) && mayBe(now, a.what), next
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string {
		a, _ := input.(access)
		return fmt.Sprintf("%s: %s refused %v changed %v", a.what, a.after, a.refused, a.changed)
	},
}

// after is what a change makes of a subject, the same if it is refused.
func after(now condition, what action) condition {
	if what == switchIt || what == switchOut {
		return what.makes()
	}
	return what.after(record{condition: now}, 0).condition // nothing, if it is a look
}

// mayBe reports whether a change is not refused.
func mayBe(now condition, what action) bool {
	if what == register {
		return now != revoked
	}
	return now != absent
}

// nonlinear names the subjects whose calls no order explains, and those of which it is not known.
func (h *annals) nonlinear() (faults []string) {
	for s, list := range h.bySubject() {
		var ops []porcupine.Operation
		for _, a := range list {
			ops = append(ops, porcupine.Operation{ClientId: a.client, Input: a, Call: int64(a.called), Return: int64(a.returned)})
		}
		if got := porcupine.CheckOperationsTimeout(objects, ops, 20*time.Second); got != porcupine.Ok {
			faults = append(faults, fmt.Sprintf("%s.%s: %d calls are %s", s.org, s.device, len(ops), got))
		}
	}
	return faults
}
