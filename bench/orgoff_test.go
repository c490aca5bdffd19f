package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/edge"
)

// BenchmarkOrgOff switches off an org of 100,000 devices that three edges remember: what the call takes, what each edge is told and
// asks again for (one invalidation, one refetch), and what its devices get then. Use -benchtime 1x.
func BenchmarkOrgOff(b *testing.B) {
	const devices, agents = 100_000, 64
	t, link := startAuthority(b, usualLease)
	t.lift(b, 2*devices)
	var edges []string
	var registries []*prometheus.Registry
	for i := range 3 {
		reg := prometheus.NewRegistry()
		edges = append(edges, startEdgeWith(b, edge.Config{ID: fmt.Sprint("e", i), Authority: []string{link}, CacheEntries: 2 * devices, Registerer: reg}))
		registries = append(registries, reg)
	}
	all := func(what string, each func(c *fasthttp.Client, i int) error) time.Duration {
		began := time.Now()
		var next atomic.Int64
		var work sync.WaitGroup
		for range agents {
			work.Go(func() {
				c := &fasthttp.Client{}
				for i := next.Add(1) - 1; i < devices; i = next.Add(1) - 1 {
					if err := each(c, int(i)); err != nil {
						b.Errorf("%s %d: %v", what, i, err)
						return
					}
				}
			})
		}
		work.Wait()
		if b.Failed() {
			b.FailNow()
		}
		return time.Since(began)
	}
	post := func(c *fasthttp.Client, addr, call string, i int, want string) error {
		req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(resp)
		req.SetRequestURI("http://" + addr + "/api/v1/devices/" + call)
		req.Header.SetMethod(http.MethodPost)
		req.Header.Set("X-Org-Key", t.key)
		req.SetBodyString(fmt.Sprintf(`{"deviceId":"agent-%07d"}`, i))
		if err := c.Do(req, resp); err != nil {
			return err
		}
		if !bytes.Contains(resp.Body(), []byte(want)) {
			return fmt.Errorf("%d %s", resp.StatusCode(), resp.Body())
		}
		return nil
	}
	registering := all("register", func(c *fasthttp.Client, i int) error { return post(c, t.authority, "register", i, `"status":"ok"`) })
	for b.Loop() {
		for _, e := range edges {
			all("validate", func(c *fasthttp.Client, i int) (err error) { // a busy machine may be late with some
				for range 100 {
					if err = post(c, e, "validate", i, `"ALLOW"`); err == nil {
						return nil
					}
				}
				return err
			})
		}
		before := make([]tally, len(edges))
		for i, reg := range registries {
			before[i] = tallied(b, reg)
		}
		var told struct {
			Propagation struct{ Edges, Confirmed int }
		}
		b.ReportMetric(took(func() { t.call(b, "org/execution", `{"enabled":false}`, &told) }), "off-ms")
		if p := told.Propagation; p.Edges != len(edges) || p.Confirmed != p.Edges {
			b.Fatalf("told %+v", p)
		}
		for i, e := range edges {
			if err := post(&fasthttp.Client{}, e, "validate", 0, `"ORG_DISABLED"`); err != nil { // the refetch; the others would wait with it
				b.Fatal(err)
			}
			denying := all("validate", func(c *fasthttp.Client, i int) error { return post(c, e, "validate", i, `"ORG_DISABLED"`) })
			after := tallied(b, registries[i])
			invalidations, misses := after.invalidations-before[i].invalidations, after.misses-before[i].misses
			if invalidations != 1 || misses != 1 {
				b.Errorf("edge %d was told %v times and asked %v times", i, invalidations, misses)
			}
			if i == 0 {
				b.ReportMetric(devices/denying.Seconds(), "denied/s")
			}
		}
		t.call(b, "org/execution", `{"enabled":true}`, &told)
	}
	b.ReportMetric(devices/registering.Seconds(), "registers/s")
	b.ReportMetric(0, "ns/op")
}

// tally is what an edge has counted.
type tally struct{ invalidations, misses float64 }

func tallied(b *testing.B, reg *prometheus.Registry) (t tally) {
	b.Helper()
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case f.GetName() == "machineid_edge_invalidations_total":
				t.invalidations += m.GetCounter().GetValue()
			case f.GetName() == "machineid_edge_validates_total" && strings.Contains(m.String(), `"miss"`):
				t.misses += m.GetCounter().GetValue()
			}
		}
	}
	return t
}
