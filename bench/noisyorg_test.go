package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/edge"
)

// BenchmarkNoisyOrg measures what one org of 100,000 devices costs the others: their changes and their edge's questions while it is quiet, while its batches of 500 are revoked
// and restored by 16 callers, and while what it left is cleared away. Use -benchtime 1x.
func BenchmarkNoisyOrg(b *testing.B) {
	const devices, others, agents, callers = 100_000, 60_000, 64, 16
	t, link := startAuthority(b, usualLease)
	t.lift(b, 2*devices)
	noisy := t.key
	t.fill(b, noisy, "agent", devices, agents)
	var made struct {
		OrgAPIKey string `json:"orgApiKey"`
	}
	t.key = ""
	t.call(b, "org/create", `{}`, &made)
	t.key = made.OrgAPIKey
	t.lift(b, 2*others)
	t.fill(b, t.key, "other", others, agents)
	at := startEdgeWith(b, edge.Config{ID: "e1", Authority: []string{link}, CacheEntries: 2 * devices, Limits: benchLimits, Registerer: prometheus.NewRegistry()})
	var asked atomic.Int64
	phase := func(name string) {
		var end atomic.Bool
		var work sync.WaitGroup
		var mu sync.Mutex
		var changes, misses []time.Duration
		for i := range callers {
			work.Go(func() {
				var took []time.Duration
				c := &fasthttp.Client{}
				for n := 0; !end.Load(); n++ {
					began := time.Now()
					if err := demand(c, t.authority, "revoke", t.key, fmt.Sprintf(`{"deviceId":"other-%07d"}`, others-1-(n*callers+i)%(others/4)), `"status":"ok"`); err != nil {
						b.Error(err)
						return
					}
					took = append(took, time.Since(began))
				}
				mu.Lock()
				defer mu.Unlock()
				changes = append(changes, took...)
			})
		}
		work.Go(func() {
			c := &fasthttp.Client{}
			for !end.Load() && asked.Load() < others/2 {
				began := time.Now()
				_ = demand(c, at, "validate", t.key, fmt.Sprintf(`{"deviceId":"other-%07d"}`, asked.Add(1)), `"ALLOW"`) // one that is late counts as such
				misses = append(misses, time.Since(began))
				time.Sleep(time.Millisecond)
			}
		})
		began, cpu := time.Now(), processorTime(b)
		time.Sleep(5 * time.Second)
		end.Store(true)
		work.Wait()
		b.ReportMetric(float64(len(changes))/time.Since(began).Seconds(), name+"-changes/s")
		b.ReportMetric(1e6*(processorTime(b)-cpu).Seconds()/float64(len(changes)), name+"-cpu-µs/change")
		b.ReportMetric(middle(changes), name+"-change-p50-ms")
		b.ReportMetric(middle(misses), name+"-miss-p50-ms")
	}
	for b.Loop() {
		phase("quiet")
		var stop atomic.Bool
		var work sync.WaitGroup
		var batches atomic.Int64
		for i := range callers {
			work.Go(func() {
				c := &fasthttp.Client{}
				for n := i; !stop.Load(); n += callers {
					var ids []string
					for k := range 500 {
						ids = append(ids, fmt.Sprintf(`"agent-%07d"`, (n*500+k)%devices))
					}
					for _, call := range []string{"revoke_batch", "unrevoke_batch"} {
						if err := demand(c, t.authority, call, noisy, `{"deviceIds":[`+strings.Join(ids, ",")+`]}`, `"status":"ok"`); err != nil {
							b.Error(err)
							return
						}
						batches.Add(1)
					}
				}
			})
		}
		began := time.Now()
		phase("batches")
		stop.Store(true)
		work.Wait()
		b.ReportMetric(float64(batches.Load())/time.Since(began).Seconds(), "batches/s")
		other := t.key
		t.key = noisy
		var org struct{ OrgID string }
		t.do(b, http.MethodGet, "org", "", &org)
		var deleted struct{ Deleted bool }
		t.call(b, "org/delete", `{"confirm":"`+org.OrgID+`"}`, &deleted)
		t.key = other
		phase("deleted")
		time.Sleep(10 * time.Second)
		phase("after")
	}
	b.ReportMetric(0, "ns/op")
}

// fill registers devices of an org.
func (t *tiers) fill(b *testing.B, key, name string, devices, agents int) {
	b.Helper()
	var next atomic.Int64
	var work sync.WaitGroup
	for range agents {
		work.Go(func() {
			c := &fasthttp.Client{}
			for i := next.Add(1) - 1; i < int64(devices); i = next.Add(1) - 1 {
				if err := demand(c, t.authority, "register", key, fmt.Sprintf(`{"deviceId":"%s-%07d"}`, name, i), `"status":"ok"`); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

func demand(c *fasthttp.Client, addr, call, key, body, want string) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + addr + "/api/v1/devices/" + call)
	req.Header.SetMethod(http.MethodPost)
	req.Header.Set("X-Org-Key", key)
	req.SetBodyString(body)
	if err := c.Do(req, resp); err != nil {
		return err
	}
	if !bytes.Contains(resp.Body(), []byte(want)) {
		return fmt.Errorf("%d %.200s", resp.StatusCode(), resp.Body())
	}
	return nil
}

// middle is the median in milliseconds.
func middle(took []time.Duration) float64 {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1000
}
