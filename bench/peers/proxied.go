package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/bench/fleet"
)

// proxied is what a user runs: three authority nodes and an edge, processes of the machineid binary. Callers register devices at
// the edge over HTTP, and it hands them on to the leader.
type proxied struct {
	fleet  *fleet.Fleet
	keys   []string // one for each org
	client *fasthttp.HostClient
	begin  int
}

// startProxied starts the processes, with their data in dir; binary is built if it is empty.
func startProxied(ctx context.Context, dir, binary string) (_ *proxied, err error) {
	if binary == "" {
		if binary, err = fleet.Build(ctx, dir); err != nil {
			return nil, err
		}
	}
	f, err := fleet.Open(ctx, fleet.Config{Binary: binary, Dir: dir, Nodes: 3, Edges: 1, EdgeFlags: []string{"--limits=false"}})
	if err != nil {
		return nil, err
	}
	p := &proxied{fleet: f, client: &fasthttp.HostClient{Addr: f.Edges[0].HTTP, MaxConns: 1 << 14, ReadTimeout: 20 * time.Second}}
	if err := p.found(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

// found makes the orgs, with room for all devices.
func (p *proxied) found(ctx context.Context) error {
	leader, err := p.fleet.Leader(ctx)
	if err != nil {
		return err
	}
	for range orgs {
		var org struct{ OrgID, OrgAPIKey string }
		if err := p.fleet.Call(ctx, leader, http.MethodPost, "org/create", "{}", &org); err != nil {
			return err
		}
		var changed struct{}
		if err := p.fleet.Call(ctx, leader, http.MethodPatch, "operator/orgs/"+org.OrgID, `{"limit":10000000}`, &changed); err != nil {
			return err
		}
		p.keys = append(p.keys, org.OrgAPIKey)
	}
	return nil
}

// register is one call of a client.
func (p *proxied) register(_ context.Context, caller, i int) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(p.fleet.Edges[0].URL() + "/api/v1/devices/register")
	req.Header.SetMethod(http.MethodPost)
	req.Header.SetContentType("application/json")
	req.Header.Set("x-org-key", p.keys[caller%orgs])
	req.SetBodyString(`{"deviceId":"` + deviceID(caller, p.begin+i) + `"}`)
	if err := p.client.Do(req, resp); err != nil {
		return err
	}
	if resp.StatusCode() != http.StatusOK {
		return fmt.Errorf("answered %d: %s", resp.StatusCode(), resp.Body())
	}
	return nil
}

// measure registers devices from callers; profiles is a folder for CPU profiles of all processes, or empty.
func (p *proxied) measure(ctx context.Context, callers int, d time.Duration, profiles string) (figure, error) {
	taken := make(chan error, 1)
	go func() { taken <- p.profile(ctx, d, profiles) }()
	before := p.cpu()
	f := load(ctx, callers, d, p.register)
	p.begin += f.Done + f.Errors + 1
	f.CPU = (p.cpu() - before) / time.Duration(max(f.Done, 1))
	err := <-taken
	if f.Done == 0 {
		err = errors.Join(err, errors.New("nothing was done: "+strings.TrimSpace(f.Error)))
	}
	return f, err
}

func (p *proxied) members() []*fleet.Member {
	return append(p.fleet.Nodes[:len(p.fleet.Nodes):len(p.fleet.Nodes)], p.fleet.Edges...)
}

func (p *proxied) cpu() (all time.Duration) {
	for _, m := range p.members() {
		all += m.CPU()
	}
	return all
}

func (p *proxied) profile(ctx context.Context, d time.Duration, dir string) error {
	if dir == "" {
		return nil
	}
	all := make(chan error)
	for _, m := range p.members() {
		go func() {
			raw, err := m.Profile(ctx, d)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, m.ID+".pprof"), raw, 0o600)
			}
			all <- err
		}()
	}
	var err error
	for range p.members() {
		err = errors.Join(err, <-all)
	}
	return err
}

func (p *proxied) close() { p.fleet.Close() }
