package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Mix is how many of a hundred requests, or of whatever they add up to, are of each kind.
type Mix struct{ Validate, Register, Revoke, Restore float64 }

// UsualMix is what mixed sends if nothing else is said.
var UsualMix = Mix{97, 1, 1, 1}

func (m Mix) sum() float64 { return m.Validate + m.Register + m.Revoke + m.Restore }

// ParseMix reads validate=97,register=1,revoke=1,restore=1. What is left out is 0.
func ParseMix(text string) (m Mix, err error) {
	seen := map[string]bool{}
	for one := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(one), "=")
		if seen[name] {
			return m, fmt.Errorf("%q: %s is named twice", one, name)
		}
		seen[name] = true
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v >= 0 && v <= 1e6) {
			return m, fmt.Errorf("%q is no share such as revoke=1", one)
		}
		switch name {
		case "validate":
			m.Validate = v
		case "register":
			m.Register = v
		case "revoke":
			m.Revoke = v
		case "restore":
			m.Restore = v
		default:
			return m, fmt.Errorf("%q: there are validate, register, revoke and restore", one)
		}
	}
	if m.sum() == 0 {
		return m, errors.New("all shares are 0")
	}
	return m, nil
}

// The operations of mixed, in the order of its ops.
const (
	mixRegister = iota + 1 // after validate
	mixRevoke
	mixRestore
	mixRemove
)

func buildMixed(r *run) (func(context.Context), error) {
	revoked := make(chan *Device, len(r.world.Devices)) // each of them busy
	mix := r.cfg.Mix
	r.lanesFor(func(*lane) func(*worker, time.Duration) {
		return func(w *worker, due time.Duration) {
			x := w.rng.Float64() * mix.sum()
			switch {
			case x < mix.Validate:
			case x < mix.Validate+mix.Register:
				w.register(mixRegister, mixRemove, due)
				return
			case x < mix.Validate+mix.Register+mix.Revoke:
				if w.revokeSome(due, revoked) || w.restoreSome(due, revoked) {
					return
				}
			default:
				if w.restoreSome(due, revoked) || w.revokeSome(due, revoked) {
					return
				}
			}
			w.ask(due, &r.world.Devices[w.pick()], allow, deviceRevoked)
		}
	}, false)
	return nil, nil
}

// revokeSome revokes a device that nobody else changes, if one is found.
func (w *worker) revokeSome(due time.Duration, revoked chan *Device) bool {
	const tries = 8
	for range tries {
		d := &w.run.world.Devices[w.rng.IntN(len(w.run.world.Devices))]
		if d.busy.CompareAndSwap(false, true) {
			a := w.revoke(w.conn, d)
			w.done(mixRevoke, due, a, !a.ok())
			revoked <- d
			return true
		}
	}
	return false
}

// restoreSome gives a revoked device back, if there is one.
func (w *worker) restoreSome(due time.Duration, revoked chan *Device) bool {
	select {
	case d := <-revoked:
		a := w.restore(w.conn, d)
		w.done(mixRestore, due, a, !a.ok())
		if a.ok() {
			d.busy.Store(false)
		} else {
			revoked <- d
		}
		return true
	default:
		return false
	}
}

// revoke revokes a device; only who may change it calls it.
func (w *worker) revoke(c *Conn, d *Device) answer {
	a := c.call(http.MethodPost, "devices/revoke", orgKey(d.org.admin), device(d.id))
	if a.ok() {
		d.right.gone(w.run.now())
	}
	return a
}

// restore gives a device its right back; only who may change it calls it.
func (w *worker) restore(c *Conn, d *Device) answer {
	d.right.unsure()
	a := c.call(http.MethodPost, "devices/unrevoke", orgKey(d.org.admin), device(d.id))
	if unknown(a) {
		d.right.doubtful(w.run.now())
	}
	return a
}

// unknown reports whether a change may still be carried out, or may have been.
func unknown(a answer) bool {
	return !a.ok() && (a.status == 0 || a.status >= http.StatusInternalServerError) && string(a.text("outcome")) != "not_done"
}
