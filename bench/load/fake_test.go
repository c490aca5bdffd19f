package load

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// fake is a fleet of edges over one state, whose delays and lies are known: what the generator must find. It knows as much of the API as
// the scenarios call.
type fake struct {
	tb testing.TB

	mu      sync.Mutex
	orgs    map[string]*fakeOrg // by each key
	made    int
	deleted []string
	devices map[string]*fakeDevice

	// before runs ahead of each validate, at target i.
	before func(i int)
	// lie makes a target allow what it should not.
	lie func(i int, d *fakeDevice) bool
	// operators has the calls of operators for orgs, batches those for all devices of an org.
	operators, batches bool
	limit              int
	refuse             string // an error that org/create answers
	calls              map[string]int
}

type fakeOrg struct {
	id       string
	off      bool
	devices  int
	limit    int
	deleted  bool
	keyAdmin string
}

type fakeDevice struct {
	org     *fakeOrg
	revoked time.Time // zero: it is not
}

func newFake(tb testing.TB) *fake {
	tb.Helper()
	return &fake{tb: tb, orgs: map[string]*fakeOrg{}, devices: map[string]*fakeDevice{}, limit: 3, calls: map[string]int{}}
}

// serve starts n targets.
func (f *fake) serve(n int) (targets []*Target) {
	f.tb.Helper()
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.tb.Fatal(err)
		}
		s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { f.handle(i, ctx) }, NoDefaultServerHeader: true, CloseOnShutdown: true}
		go func() { _ = s.Serve(l) }()
		f.tb.Cleanup(func() { _ = s.Shutdown() })
		t, err := ParseTarget("http://" + l.Addr().String())
		if err != nil {
			f.tb.Fatal(err)
		}
		targets = append(targets, t)
	}
	return targets
}

func (f *fake) handle(i int, ctx *fasthttp.RequestCtx) {
	path := strings.TrimPrefix(string(ctx.Path()), "/api/v1/")
	var body struct {
		DeviceID, Scope, Confirm string
		Enabled                  *bool
		Limit                    int
	}
	_ = json.Unmarshal(ctx.PostBody(), &body) // an empty one
	key := string(ctx.Request.Header.Peek("x-org-key"))
	if path == "devices/validate" {
		if f.before != nil {
			f.before(i)
		}
		f.validate(i, ctx, key, body.DeviceID)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[path]++
	if id, is := strings.CutPrefix(path, "operator/orgs/"); is {
		f.operate(ctx, id, body.Limit)
		return
	}
	if path == "org/create" {
		f.create(ctx)
		return
	}
	o := f.orgs[key]
	if o == nil || o.deleted {
		answerWith(ctx, 404, `{"status":"not_found","error":"org_not_found"}`)
		return
	}
	name := o.id + "/" + body.DeviceID
	d := f.devices[name]
	ok := func() { answerWith(ctx, 200, `{"status":"ok"}`) }
	switch {
	case path == "usage":
		answerWith(ctx, 200, fmt.Sprintf(`{"status":"ok","limit":%d,"devicesUsed":%d}`, o.limit, o.devices))
	case path == "devices/register" && d == nil && o.devices >= o.limit:
		answerWith(ctx, 403, `{"status":"blocked","error":"device_limit_reached","message":"full"}`)
	case path == "devices/register":
		if d == nil {
			f.devices[name] = &fakeDevice{org: o}
			o.devices++
		}
		ok()
	case path == "org/execution":
		o.off = !*body.Enabled
		ok()
	case f.batches && strings.HasSuffix(path, "_batch"):
		for _, d := range f.devices {
			if d.org == o {
				d.revoked = revokedNow(path == "devices/revoke_batch", d.revoked)
			}
		}
		ok()
	case strings.HasPrefix(path, "devices/") && strings.HasSuffix(path, "_batch"), path == "org/delete":
		answerWith(ctx, 404, `{"status":"not_found","error":"not_found","message":"no such path"}`)
	case d == nil:
		answerWith(ctx, 404, `{"status":"not_found","error":"device_not_found"}`)
	case path == "devices/remove":
		delete(f.devices, name)
		o.devices--
		ok()
	default: // revoke and unrevoke
		d.revoked = revokedNow(path == "devices/revoke", d.revoked)
		ok()
	}
}

func revokedNow(yes bool, before time.Time) time.Time {
	switch {
	case !yes:
		return time.Time{}
	case before.IsZero():
		return time.Now()
	}
	return before
}

func (f *fake) create(ctx *fasthttp.RequestCtx) {
	if f.refuse != "" {
		answerWith(ctx, 403, `{"status":"error","error":"`+f.refuse+`"}`)
		return
	}
	f.made++
	o := &fakeOrg{id: fmt.Sprint("org-", f.made), limit: f.limit, keyAdmin: fmt.Sprint("admin-", f.made)}
	agent := fmt.Sprint("agent-", f.made)
	f.orgs[o.keyAdmin], f.orgs[agent] = o, o
	answerWith(ctx, 200, fmt.Sprintf(`{"status":"ok","orgApiKey":"%s","agentKey":"%s","orgId":"%s"}`, o.keyAdmin, agent, o.id))
}

func (f *fake) operate(ctx *fasthttp.RequestCtx, id string, limit int) {
	if !f.operators {
		answerWith(ctx, 404, `{"status":"not_found","error":"not_found","message":"no such path"}`)
		return
	}
	for _, o := range f.orgs {
		if o.id != id {
			continue
		}
		if ctx.IsDelete() {
			o.deleted = true
			f.deleted = append(f.deleted, id)
		} else {
			o.limit = limit
		}
		answerWith(ctx, 200, `{"status":"ok"}`)
		return
	}
	answerWith(ctx, 404, `{"status":"not_found","error":"org_not_found"}`)
}

func (f *fake) validate(i int, ctx *fasthttp.RequestCtx, key, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	code := "ALLOW"
	o := f.orgs[key]
	switch {
	case key == "":
		code = "INVALID_ORG_KEY"
	case o == nil || o.deleted:
		code = "ORG_NOT_FOUND"
	case f.devices[o.id+"/"+id] == nil:
		code = "DEVICE_NOT_FOUND"
	case f.lie != nil && f.lie(i, f.devices[o.id+"/"+id]):
	case o.off:
		code = "ORG_DISABLED"
	case !f.devices[o.id+"/"+id].revoked.IsZero():
		code = "DEVICE_REVOKED"
	}
	ctx.Response.Header.Set("X-Cache", "hit")
	answerWith(ctx, 200, fmt.Sprintf(`{"allowed":%v,"code":"%s","status":"x"}`, code == "ALLOW", code))
}

func answerWith(ctx *fasthttp.RequestCtx, status int, body string) {
	ctx.SetContentType("application/json")
	ctx.SetStatusCode(status)
	ctx.SetBodyString(body)
}

// config is a short run at targets.
func config(tb testing.TB, scenario string, targets []*Target) *Config {
	tb.Helper()
	s, err := Find(scenario)
	if err != nil {
		tb.Fatal(err)
	}
	c := &Config{
		Scenario: s, Targets: targets, Rate: Rate{200, 200}, Duration: time.Second, Timeout: 5 * time.Second, Connections: 16,
		Orgs: 2, Devices: 6, Mix: UsualMix, ChangeRate: 50, Seed: 1,
	}
	if len(s.Modes) > 0 {
		c.Mode = s.Modes[0]
	}
	if err := c.Check(true); err != nil {
		tb.Fatal(err)
	}
	return c
}
