package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"machineid/shared/decision"
)

// Scenario is one kind of load.
type Scenario struct {
	Name  string
	Short string
	// Modes are its variants, the usual one first; none: it has no variants.
	Modes []string
	// Rate, Orgs and Devices are what it takes if nothing else is said.
	Rate          Rate
	Orgs, Devices int

	ops   []op
	spare int // devices that each org must have room for besides
	build func(*run) (background func(context.Context), err error)
	never bool // it cannot run in a closed loop
	// each begins the name of the operations that every target has one of, after the others; "": there are none.
	each string
	from string // what latency counts from, if not from when a request was due
}

// Ops are the names of its operations with so many targets, the main one first.
func (s *Scenario) Ops(targets int) []string {
	var names []string
	for _, o := range s.ops {
		names = append(names, o.name)
	}
	if s.each != "" {
		for i := range targets {
			names = append(names, s.each+strconv.Itoa(i+1))
		}
	}
	return names
}

// Scenarios are all there are.
var Scenarios = []*Scenario{
	{
		Name: "validate", Short: "Validates of one kind: known to the edge, not known to it, or of devices that do not exist",
		Modes: []string{"hit", "cold", "unknown"}, Rate: Rate{1000, 1000}, Orgs: 10, Devices: 1000,
		ops: []op{{name: opValidate}}, build: buildValidate,
	},
	{
		Name: "mixed", Short: "Validates with registers, revokes and restores among them",
		Rate: Rate{1000, 1000}, Orgs: 10, Devices: 1000, spare: 1,
		ops: []op{{name: opValidate}, {name: "register"}, {name: "revoke"}, {name: "restore"}, {name: "remove", about: aboutRemove}}, build: buildMixed,
	},
	{
		Name: "revoke", Short: "How long after a revoke each edge denies, and whether any allows once it has returned",
		Rate: Rate{5, 5}, Orgs: 10, Devices: 100, never: true, each: "deny_", from: "when a revoke was sent",
		ops: []op{
			{name: "deny", about: "from sending the revoke to the answer of each target's first denial"},
			{name: "deny_last", about: "the same of the last target: from then on no target allows"},
			{name: "revoke", about: "from sending the revoke to its answer"},
			{name: "restore"},
		}, build: buildRevoke,
	},
	{
		Name: "storm", Short: "Whole orgs switched off and on and revoked at once, under validates",
		Rate: Rate{1000, 1000}, Orgs: 10, Devices: 1000,
		ops: []op{
			{name: opValidate},
			{name: "org_off", about: "one org"},
			{name: "org_on", about: "one org"},
			{name: "revoke_all", about: "all devices of one org in one call"},
			{name: "restore_all", about: "all devices of one org in one call"},
			{name: "revoke", about: "one device, where the server has no call for all"},
			{name: "restore", about: "one device, where the server has no call for all"},
		}, build: buildStorm,
	},
	{
		Name: "failover", Short: "What stays available while you kill something: longest gaps, errors by code",
		Rate: Rate{500, 500}, Orgs: 10, Devices: 200,
		ops: []op{
			{name: opValidate},
			{name: "change", about: "revokes and restores, each sent to the next target"},
			{name: "after", about: "validates at every target right after each revoke that returned; denials and failures are right here"},
		}, build: buildFailover,
	},
	{
		Name: "register", Short: "New devices",
		Rate: Rate{200, 200}, Orgs: 10, Devices: 0, spare: 3,
		ops: []op{{name: "register"}, {name: "remove", about: aboutRemove}}, build: buildRegister,
	},
}

const (
	opValidate  = "validate"
	aboutRemove = "frees the seat that the register before it took, where orgs have few; not part of the rate"
)

// Find returns a scenario by its name.
func Find(name string) (*Scenario, error) {
	var all []string
	for _, s := range Scenarios {
		if s.Name == name {
			return s, nil
		}
		all = append(all, s.Name)
	}
	return nil, fmt.Errorf("%q is no scenario: there are %s", name, strings.Join(all, ", "))
}

// warms reports whether targets are asked about every device before the measurement.
func (c *Config) warms() bool {
	return c.Mode != "cold" && c.Mode != "unknown" && c.Scenario.Name != "register"
}

// Check finds what contradicts itself in a configuration, each fault with the flag that it is about. named is whether targets were
// named at all, well or not.
func (c *Config) Check(named bool) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	s := c.Scenario
	if c.Mode != "" && !slices.Contains(s.Modes, c.Mode) {
		if len(s.Modes) == 0 {
			fault("--mode: %s has no variants; leave it out", s.Name)
		} else {
			fault("--mode: %q is none of %s", c.Mode, strings.Join(s.Modes, ", "))
		}
	}
	if !named {
		fault("--target: is required; name the URLs of the edges, for example http://127.0.0.1:8080")
	}
	if c.Closed && s.never {
		fault("--closed-loop: %s measures single calls at a low rate; leave it out", s.Name)
	}
	if c.Duration < time.Second || c.Duration > 24*time.Hour {
		fault("--duration: %v is out of range; choose 1s to 24h", c.Duration)
	}
	if c.Warmup < 0 || c.Warmup > time.Hour {
		fault("--warmup: %v is out of range; choose 0s to 1h", c.Warmup)
	}
	if c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute {
		fault("--timeout: %v is out of range; choose 10ms to 1m", c.Timeout)
	}
	if c.Connections < 1 || c.Connections > 60_000 {
		fault("--connections: %d is out of range; choose 1 to 60000", c.Connections)
	}
	if c.Orgs < 1 || c.Orgs > 1_000_000 {
		fault("--orgs: %d is out of range; choose 1 to 1000000", c.Orgs)
	}
	if least := min(s.Devices, 1); c.Devices < least || c.Devices > 100_000_000 {
		fault("--devices: %d is out of range; choose %d to 100000000", c.Devices, least)
	}
	if c.Zipf != 0 && !(c.Zipf > 1 && c.Zipf <= 10) {
		fault("--zipf: %v is out of range; choose above 1 to 10, or 0 for an even choice", c.Zipf)
	}
	if !(c.ChangeRate > 0 && c.ChangeRate <= 10_000) {
		fault("--change-rate: %v is out of range; choose above 0 to 10000", c.ChangeRate)
	}
	return errors.Join(faults...)
}

// lanesFor makes a lane for each target, whose requests f makes.
func (r *run) lanesFor(f func(*lane) func(w *worker, due time.Duration), gaps bool) {
	n := len(r.cfg.Targets)
	for i, t := range r.cfg.Targets {
		l := &lane{
			target: t, workers: r.cfg.perTarget(i), closed: r.cfg.Closed,
			plan: plan{rate: r.cfg.Rate.share(n), warmup: r.cfg.Warmup, length: r.cfg.Duration, shift: float64(i) / float64(n)},
		}
		if gaps {
			l.gap = &gap{}
		}
		l.arrive = f(l)
		r.lanes = append(r.lanes, l)
	}
}

// ask validates a device, judges the answer by the promise, and records it as the main operation. Decisions other than those expected are errors.
func (w *worker) ask(due time.Duration, d *Device, expected ...Code) {
	b, sent := d.before(), w.run.now()
	a := w.conn.validate(d.org.agent, d.id)
	violated := w.run.promise.check(d, b, a, w.conn.to, sent)
	w.done(0, due, a, violated || !slices.Contains(expected, a.code))
}

var (
	deviceRevoked  = Code(decision.DeviceRevoked)
	deviceNotFound = Code(decision.DeviceNotFound)
	orgDisabled    = Code(decision.OrgDisabled)
)

func buildValidate(r *run) (func(context.Context), error) {
	switch r.cfg.Mode {
	case "cold":
		r.lanesFor(func(l *lane) func(*worker, time.Duration) {
			next := make(chan *Device, len(r.world.Devices))
			for i := range r.world.Devices {
				next <- &r.world.Devices[i]
			}
			return func(w *worker, due time.Duration) {
				if !r.measuring(due) { // what the warm-up asked about would be known
					w.ask(due, r.stranger(w), deviceNotFound)
					return
				}
				select {
				case d := <-next:
					w.ask(due, d, allow)
				default:
					if !l.spent.Swap(true) {
						r.notef("%s was asked about every device once, and the run ended: for a longer one raise --devices", l.target.URL)
					}
				}
			}
		}, false)
	case "unknown":
		r.lanesFor(func(*lane) func(*worker, time.Duration) {
			return func(w *worker, due time.Duration) {
				w.ask(due, r.stranger(w), deviceNotFound)
			}
		}, false)
	default:
		r.lanesFor(func(*lane) func(*worker, time.Duration) {
			return func(w *worker, due time.Duration) {
				w.ask(due, &r.world.Devices[w.pick()], allow)
			}
		}, false)
	}
	return nil, nil
}

// stranger is a device that nobody has registered or asked about, in some org.
func (r *run) stranger(w *worker) *Device {
	return &Device{id: r.world.stranger(), org: r.world.Orgs[w.rng.IntN(len(r.world.Orgs))]}
}

// register makes a new device, and removes it again where seats are few.
func (w *worker) register(opRegister, opRemove int, due time.Duration) {
	r := w.run
	n := r.world.next.Add(1) - 1
	id := r.world.name(n)
	if r.world.Lifted {
		o := r.world.Orgs[n%int64(len(r.world.Orgs))]
		a := w.conn.call(http.MethodPost, "devices/register", orgKey(o.agent), device(id))
		w.done(opRegister, due, a, !a.ok())
		return
	}
	var o *Org
	select {
	case o = <-r.world.seats:
	default:
		for o == nil { // every seat is taken by a register under way: that is short
			select {
			case o = <-r.world.seats:
			case <-time.After(time.Millisecond):
				if r.over() {
					return
				}
			}
		}
	}
	a := w.conn.call(http.MethodPost, "devices/register", orgKey(o.agent), device(id))
	w.done(opRegister, due, a, !a.ok())
	began := r.now()
	for {
		a = w.conn.call(http.MethodPost, "devices/remove", orgKey(o.admin), device(id))
		gone := a.ok() || a.status == http.StatusNotFound
		w.done(opRemove, began, a, !gone)
		if gone {
			r.world.seats <- o
			return
		}
		if began = r.now(); r.over() || !w.waiter.sleep(pause) {
			return
		}
	}
}

func buildRegister(r *run) (func(context.Context), error) {
	r.lanesFor(func(*lane) func(*worker, time.Duration) {
		return func(w *worker, due time.Duration) { w.register(0, 1, due) }
	}, false)
	return nil, nil
}
