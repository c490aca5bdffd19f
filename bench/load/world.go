package load

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"machineid/shared/decision"
)

// World is the orgs and devices of one run, made by it and taken away by it.
type World struct {
	Orgs    []*Org
	Devices []Device // Devices[i] belongs to Orgs[i%len(Orgs)]
	Lifted  bool     // orgs may have as many devices as they need

	cfg     *Config
	tag     string
	limit   int          // devices of an org
	next    atomic.Int64 // the number of the next device that register makes
	unknown atomic.Int64 // how many devices that do not exist were asked about
	seats   chan *Org    // where limits hold: a place for one more device each
	mu      sync.Mutex
	notes   []string
	control atomic.Int64 // spreads calls over targets
}

// Org is an org of this run.
type Org struct {
	ID           string
	admin, agent string
	right        right
}

// Device is a device of this run.
type Device struct {
	id    []byte
	org   *Org
	right right
	busy  atomic.Bool // somebody changes it
}

// prepareWorkers is how many connections prepare and clean up at the least, and at the most: as many as measure.
const (
	prepareWorkers     = 64
	mostPrepareWorkers = 512
)

// prepare makes the world. What it has made when it fails is in the world too.
func (w *World) prepare(ctx context.Context) error {
	if err := w.reach(); err != nil {
		return err
	}
	orgs := make([]*Org, w.cfg.Orgs)
	err := w.each(ctx, "making orgs", len(orgs), w.front(), func(c *Conn, _ int) error {
		o, err := w.createOrg(ctx, c)
		if err == nil {
			w.mu.Lock()
			w.Orgs = append(w.Orgs, o)
			w.mu.Unlock()
		}
		return err
	})
	if err != nil {
		return err
	}
	need, err := w.room(ctx)
	if err != nil {
		return err
	}
	w.Devices = make([]Device, need)
	for i := range w.Devices {
		d := &w.Devices[i]
		d.id, d.org = w.name(int64(i)), w.Orgs[i%len(w.Orgs)]
	}
	w.next.Store(int64(need))
	makers := w.cfg.Makers
	if len(makers) == 0 {
		makers = w.cfg.Targets
	}
	done, err := w.eachWithin(ctx, "registering devices", need, makers, w.cfg.Enough, func(c *Conn, i int) error {
		d := &w.Devices[i]
		_, err := insist(ctx, c, http.MethodPost, "devices/register", orgKey(d.org.admin), device(d.id))
		return err
	})
	if done < need {
		w.Devices = w.Devices[:done]
		w.notef("%d devices rather than %d: registering them took longer than %v", done, need, w.cfg.Enough)
	}
	if err != nil || !w.cfg.warms() {
		return err
	}
	_, err = w.Warm(ctx, 0)
	return err
}

// warm asks until a target allows a device.
func (w *World) warm(ctx context.Context, c *Conn, d *Device) error {
	return patiently(ctx, func() (again bool, err error) {
		a := c.validate(d.org.agent, d.id)
		if a.allowed {
			return false, nil
		}
		return a.status == 0 || a.code == Code(decision.SystemUnavailable), c.explain("validate", a)
	})
}

// name is the id of device i: 24 bytes.
func (w *World) name(i int64) []byte { return fmt.Appendf(nil, "bench-%s-%011d", w.tag, i) }

// stranger is the id of a device that nobody has registered or asked about.
func (w *World) stranger() []byte {
	const beyond = 50_000_000_000 // above all that exist
	return w.name(beyond + w.unknown.Add(1))
}

// reach asks every address whether one of ours is there.
func (w *World) reach() error {
	for _, t := range w.cfg.Targets {
		c := newConn(t, w.cfg.Timeout, true)
		a := c.call(http.MethodPost, "devices/validate", credential{}, []byte("{}"))
		if a.status == 0 {
			return c.explain("reach the target", a)
		}
		if a.code != Code(decision.InvalidOrgKey) {
			return fmt.Errorf("%s answers HTTP %d to a validate: it is neither an edge nor an authority node; correct --target", t.URL, a.status)
		}
	}
	return nil
}

// front is who makes orgs: the operator's addresses if there is a token, else anybody.
func (w *World) front() []*Target {
	if w.cfg.Token != "" {
		return w.cfg.Operators
	}
	return w.cfg.Targets
}

func (w *World) createOrg(ctx context.Context, c *Conn) (*Org, error) {
	who := credential{}
	if w.cfg.Token != "" {
		who = operator(w.cfg.Token)
	}
	var o *Org
	foreign := 0
	err := patiently(ctx, func() (again bool, err error) {
		a := c.call(http.MethodPost, "org/create", who, []byte(`{"name":"machineid bench `+w.tag+`"}`))
		if a.ok() {
			o = &Org{ID: string(a.text("orgId")), admin: string(a.text("orgApiKey")), agent: string(a.text("agentKey"))}
			if o.admin == "" || o.agent == "" {
				return false, fmt.Errorf("%s made an org and did not say its keys", c.to.URL)
			}
			return false, nil
		}
		// Not what may have been done: each success makes another org.
		err = c.explain("make an org", a)
		unknown := w.cfg.Disposable && (a.status == 0 || a.status == http.StatusServiceUnavailable)
		foreigner := takesAnotherToken(a) && foreign < len(c.others)
		if foreigner {
			foreign++
		}
		nobody := a.status == 0 && errors.Is(c.last, errDial)
		again = unknown || nobody || foreigner || a.status == http.StatusTooManyRequests || string(a.text("outcome")) == "not_done"
		if again && a.status != http.StatusTooManyRequests {
			c.elsewhere()
		}
		return again, err
	})
	return o, err
}

// room sees to it that the orgs have room for the devices, or finds out for how many they have. It returns how many devices there shall be.
func (w *World) room(ctx context.Context) (devices int, err error) {
	each := (w.cfg.Devices + len(w.Orgs) - 1) / len(w.Orgs)
	spare := w.cfg.Scenario.spare
	c := newConn(w.cfg.Targets[0], w.cfg.Timeout, false)
	defer c.Close()
	a, err := insist(ctx, c, http.MethodGet, "usage", orgKey(w.Orgs[0].admin), nil)
	if err != nil {
		return 0, err
	}
	w.limit = number(a.body, "limit")
	if w.Lifted, err = w.lift(ctx, each+spare); err != nil {
		return 0, err
	}
	if w.Lifted {
		return w.cfg.Devices, nil
	}
	if each+spare > w.limit {
		each = max(w.limit-spare, 0)
		if each*len(w.Orgs) < w.cfg.Devices {
			w.notef("%d devices rather than %d: an org may have %d, and %s", each*len(w.Orgs), w.cfg.Devices, w.limit, w.remedy())
		}
	}
	devices = min(w.cfg.Devices, each*len(w.Orgs))
	w.seats = make(chan *Org, spare*len(w.Orgs))
	for range min(spare, w.limit) {
		for _, o := range w.Orgs {
			w.seats <- o
		}
	}
	return devices, nil
}

func (w *World) remedy() string {
	if w.cfg.Token == "" {
		return "only an operator can lift that: give --operator-url and --operator-token-file"
	}
	return "the server has no call that lifts it"
}

// unlimited is the highest limit that an operator can set.
const unlimited = 10_000_000

// lift raises the orgs' limits. It reports whether they are raised: a server of before that call cannot.
func (w *World) lift(ctx context.Context, need int) (bool, error) {
	if w.cfg.Token == "" {
		return false, nil
	}
	if need > unlimited {
		return false, fmt.Errorf("an org can have %d devices at most: raise --orgs", unlimited)
	}
	var absent atomic.Bool
	err := w.each(ctx, "lifting limits", len(w.Orgs), w.cfg.Operators, func(c *Conn, i int) error {
		if absent.Load() {
			return nil
		}
		a, err := insist(ctx, c, http.MethodPatch, "operator/orgs/"+w.Orgs[i].ID, operator(w.cfg.Token), []byte(`{"limit":`+strconv.Itoa(unlimited)+`}`))
		if noSuchCall(a) {
			absent.Store(true)
			return nil
		}
		return err
	})
	if absent.Load() && err == nil {
		w.notef("%s has no operators' calls for orgs yet (404): limits stay, and the orgs of this run cannot be deleted through them", w.cfg.Operators[0].URL)
	}
	return err == nil && !absent.Load(), err
}

// noSuchCall tells the 404 of a path that does not exist from that of an org or a device.
func noSuchCall(a answer) bool {
	return a.status == http.StatusMethodNotAllowed || (a.status == http.StatusNotFound && string(a.text("error")) == "not_found")
}

func (w *World) notef(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// cleanUp deletes the orgs. Where that cannot be done it removes their devices (an org without any ends by itself one day), and returns the
// orgs that are left.
func (w *World) cleanUp(ctx context.Context) (left []string, err error) {
	deleted := make([]bool, len(w.Orgs))
	err = w.each(ctx, "deleting orgs", len(w.Orgs), w.cfg.Targets, func(c *Conn, i int) (err error) {
		deleted[i], err = w.deleteOrg(ctx, c, w.Orgs[i])
		return err
	})
	for i, o := range w.Orgs {
		if !deleted[i] {
			left = append(left, o.ID)
		}
	}
	if err != nil || len(left) == 0 {
		return left, err
	}
	return left, w.each(ctx, "removing devices", int(w.next.Load()), w.cfg.Targets, func(c *Conn, i int) error {
		o := w.Orgs[i%len(w.Orgs)]
		if deleted[i%len(w.Orgs)] {
			return nil
		}
		a, err := insist(ctx, c, http.MethodPost, "devices/remove", orgKey(o.admin), device(w.name(int64(i))))
		if a.status == http.StatusNotFound {
			return nil
		}
		return err
	})
}

func (w *World) deleteOrg(ctx context.Context, c *Conn, o *Org) (bool, error) {
	if w.cfg.Token != "" {
		oc := newConn(w.cfg.Operators[int(w.control.Add(1))%len(w.cfg.Operators)], w.cfg.Timeout, true)
		oc.others = w.cfg.Operators
		a, err := insist(ctx, oc, http.MethodDelete, "operator/orgs/"+o.ID, operator(w.cfg.Token), nil)
		if a.ok() || string(a.text("error")) == "org_not_found" {
			return true, nil
		}
		if !noSuchCall(a) {
			return false, err
		}
	}
	// An org may delete itself.
	a, err := insist(ctx, c, http.MethodPost, "org/delete", orgKey(o.admin), []byte(`{"confirm":"`+o.ID+`"}`))
	switch {
	case a.ok(), string(a.text("error")) == "org_not_found":
		return true, nil
	case noSuchCall(a):
		return false, nil
	}
	return false, err
}

// each calls f for 0 to n-1 on some connections, spread over targets, and shows how far it is. The first fault ends it.
func (w *World) each(ctx context.Context, what string, n int, targets []*Target, f func(c *Conn, i int) error) error {
	_, err := w.eachWithin(ctx, what, n, targets, 0, f)
	return err
}

// eachWithin is each, and begins nothing more after some time (0: there is no such time). f was called for 0 to done-1, and maybe for some above.
func (w *World) eachWithin(ctx context.Context, what string, n int, targets []*Target, within time.Duration, f func(c *Conn, i int) error) (done int, err error) {
	if n == 0 {
		return 0, nil
	}
	var cut atomic.Int64 // the first that was left out
	cut.Store(int64(n))
	began := time.Now()
	if targets == nil {
		targets = w.cfg.Targets
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var next, finished atomic.Int64
	var wg sync.WaitGroup
	for k := range min(max(prepareWorkers, w.cfg.Connections), mostPrepareWorkers, n) {
		wg.Go(func() {
			c := newConn(targets[k%len(targets)], w.cfg.Timeout, false)
			c.others = targets
			defer c.Close()
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if within > 0 && time.Since(began) > within {
					for left := cut.Load(); i < left && !cut.CompareAndSwap(left, i); left = cut.Load() {
					}
					return
				}
				if err := f(c, int(i)); err != nil {
					fail(fmt.Errorf("%s: %w", what, err))
					return
				}
				finished.Add(1)
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	w.progress(what, &finished, n, ended)
	return int(cut.Load()), context.Cause(ctx)
}

// number reads a member that is a number, 0 if there is none.
func number(body []byte, name string) int {
	_, after, _ := bytes.Cut(body, []byte(`"`+name+`":`))
	n := 0
	for _, b := range after {
		if b < '0' || b > '9' || n > 1<<40 {
			break
		}
		n = n*10 + int(b-'0')
	}
	return n
}

// tagOf is six letters that tell runs apart.
func tagOf(seed uint64) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := make([]byte, 6)
	for i := range b {
		b[i] = letters[seed%36]
		seed /= 36
	}
	return cmp.Or(string(b), "000000")
}
