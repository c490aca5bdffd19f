//go:build unix

package cli

import (
	"fmt"
	"slices"
	"time"
)

// This file is the judge of ends (I11): what was told as ended is over for whoever asks after that, and stays over. It does no
// I/O, so that forged histories can be fed to it.

// mortal is what a call or the time ends: a key, a device, what an org is entitled to; or that nobody holds the org.
type mortal struct{ kind, id string }

const (
	mortalKey    = "key"
	mortalHold   = "hold" // ended: the org is held
	mortalAccess = "access"
	mortalDevice = "device"
)

// word is what somebody said of a mortal.
type word struct {
	mortal

	// by is the process that said it, if it is an edge's. All nodes of the authority are one place, "".
	by        string
	how       string // the call that was answered
	ended     bool
	sent, got time.Duration
	// passing: a validate that the authority answered. It does not wait for the edges.
	passing bool
}

const authorityItself = ""

// deed is a call that ends a mortal, or has it live on: it may be made at any moment from its call to its return.
type deed struct {
	mortal

	ends             bool
	called, returned time.Duration
}

// ledger is all that was said and done.
type ledger struct {
	words []word
	deeds []deed
}

// obituaries are the words that something has ended, in order. The return of a call that ends it is one of the authority.
func (l *ledger) obituaries(m mortal) (out []word) {
	for _, w := range l.words {
		if w.mortal == m && w.ended {
			out = append(out, w)
		}
	}
	for _, d := range l.deeds {
		if d.mortal == m && d.ends && d.returned != forever {
			out = append(out, word{mortal: m, how: "the call that ends it", ended: true, sent: d.called, got: d.returned})
		}
	}
	slices.SortFunc(out, func(a, b word) int { return int(a.got - b.got) })
	return out
}

// excused reports whether a deed explains that alive was said after ended.
func excused(ended, alive word, deeds []deed) bool {
	// What ends it by a call may be known here and not yet there, until the call has returned. The authority has one order.
	pending := alive.by != authorityItself && (ended.passing || ended.by != authorityItself)
	return slices.ContainsFunc(deeds, func(d deed) bool {
		if d.ends {
			return pending && d.called <= ended.got && d.returned >= alive.sent
		}
		return d.called <= alive.got && d.returned >= ended.sent
	})
}

// undead returns a fault for every word that something lives which had ended, as the same place or the authority had told
// before that was asked.
func (l *ledger) undead() (faults []string) {
	ends, deeds := map[mortal][]word{}, map[mortal][]deed{}
	for _, d := range l.deeds {
		deeds[d.mortal] = append(deeds[d.mortal], d)
	}
	for _, alive := range l.words {
		if alive.ended {
			continue
		}
		if _, known := ends[alive.mortal]; !known {
			ends[alive.mortal] = l.obituaries(alive.mortal)
		}
		for _, ended := range ends[alive.mortal] {
			if ended.got >= alive.sent {
				break // they are in order
			}
			if ended.by != authorityItself && ended.by != alive.by || excused(ended, alive, deeds[alive.mortal]) {
				continue
			}
			faults = append(faults, fmt.Sprintf("%v %s lives says %v, when it had ended said %v; deeds %v",
				alive.kind, alive.id, alive, ended, deeds[alive.mortal]))
			break
		}
	}
	return faults
}

func (w word) String() string {
	by := w.by
	if by == authorityItself {
		by = "the authority"
	}
	return fmt.Sprintf("%s in [%v, %v] (%s)", by, w.sent, w.got, w.how)
}

func (d deed) String() string {
	return fmt.Sprintf("%s in [%v, %v]", map[bool]string{true: "ended", false: "begun"}[d.ends], d.called, d.returned)
}

const (
	codeFrozen  = "PLAN_FROZEN"
	codeExpired = "ENTITLEMENT_EXPIRED"
)

// endings is the order in which validate judges.
var endings = []struct{ kind, code string }{
	{mortalKey, codeUnknownKey}, {mortalHold, codeFrozen}, {mortalAccess, codeExpired}, {mortalDevice, codeNotFound},
}

// implied is what a code of validate says of the mortals that were asked about, by kind: what it names has ended, and what is
// judged before that lives.
func implied(code string, about map[string]string) (out []word) {
	last := slices.IndexFunc(endings, func(e struct{ kind, code string }) bool { return e.code == code })
	if last < 0 && code != codeAllow {
		return nil // it is no answer
	}
	for i, e := range endings {
		if id, asked := about[e.kind]; asked && (last < 0 || i <= last) {
			out = append(out, word{mortal: mortal{e.kind, id}, ended: i == last})
		}
	}
	return out
}
