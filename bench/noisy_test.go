//go:build linux

package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"machineid/bench/fleet"
)

// Sizes of BenchmarkNoisyReads.
const (
	noisyDevices = 10_000 // as many as an answer may have
	quietDevices = 20_000
	quietPerSec  = 500 // validates, each of a device that the edge does not hold
	noisyLength  = 8 * time.Second
)

// BenchmarkNoisyReads has the admin key of one org export it K at a time, through an edge, as fast as it is answered, and heeds no Retry-After. Meanwhile
// another edge is asked about another org's devices, none of which it holds, and devices of that org are registered at the leader. What is measured is what the noisy one costs the others.
// Three nodes and two edges are processes, which share this machine with the clients. BENCH_BINARY measures another build.
func BenchmarkNoisyReads(b *testing.B) {
	for _, k := range []int{0, 4, 16, 64} {
		b.Run(fmt.Sprintf("exports=%d", k), func(b *testing.B) { noisy(b, k) })
	}
}

func noisy(b *testing.B, exports int) {
	b.Helper()
	dir := b.TempDir()
	binary := os.Getenv("BENCH_BINARY")
	if binary == "" {
		var err error
		if binary, err = fleet.Build(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
	f, err := fleet.Open(b.Context(), fleet.Config{
		Binary: binary, Dir: dir, Nodes: 3, Edges: 2, EdgeFlags: []string{"--limit-changes", "0", "--max-wait", "250ms"},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.Close)
	leader, term, err := f.Reign(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	loud, quiet := crowd(b, f, leader, noisyDevices), crowd(b, f, leader, quietDevices)
	at, behind := f.Edges[0], f.Edges[1]
	_ = exchange(b, at.HTTP, post("devices/validate", quiet.key, `{"deviceId":"nobody"}`))
	lost := leases(b, f)
	for b.Loop() {
		var shouting sync.WaitGroup
		ctx, stop := context.WithCancel(b.Context())
		var exported, refused atomic.Int64
		for range exports {
			shouting.Go(func() { shout(ctx, behind.URL(), loud.key, &exported, &refused) })
		}
		time.Sleep(500 * time.Millisecond)
		var asked, changed result
		var asking sync.WaitGroup
		asking.Go(func() {
			asked = ask(at.HTTP, func(i int) []byte { return quiet.validates[i%len(quiet.validates)] }, quietPerSec, `"allowed":true`)
		})
		asking.Go(func() {
			changed = ask(leader.HTTP, func(i int) []byte {
				return post("devices/register", quiet.key, fmt.Sprintf(`{"deviceId":"agent-%016d","name":"%d"}`, i%quietDevices, time.Now().UnixNano()))
			}, quietPerSec/5, "HTTP/1.1 200")
		})
		asking.Wait()
		stop()
		shouting.Wait()
		b.ReportMetric(100*float64(asked.bad)/float64(asked.all), "%denied")
		b.ReportMetric(asked.at(50), "miss-p50-ms")
		b.ReportMetric(asked.at(99), "miss-p99-ms")
		b.ReportMetric(100*float64(changed.bad)/float64(changed.all), "%failed-changes")
		b.ReportMetric(changed.at(99), "change-p99-ms")
		b.ReportMetric(float64(exported.Load())/noisyLength.Seconds(), "exports/s")
		b.ReportMetric(float64(refused.Load())/noisyLength.Seconds(), "refused/s")
	}
	b.ReportMetric(leases(b, f)-lost, "leases-lost")
	if _, now, err := f.Reign(b.Context()); err == nil {
		b.ReportMetric(float64(now-term), "elections")
	}
	b.ReportMetric(0, "ns/op")
}

// crowdedOrg is an org with devices.
type crowdedOrg struct {
	key       string
	validates [][]byte
}

// crowd makes an org with so many devices.
func crowd(b *testing.B, f *fleet.Fleet, leader *fleet.Member, devices int) *crowdedOrg {
	b.Helper()
	var made struct{ OrgID, OrgAPIKey string }
	if err := f.Call(b.Context(), leader, http.MethodPost, "org/create", "{}", &made); err != nil {
		b.Fatal(err)
	}
	var lifted struct{}
	if err := f.Call(b.Context(), leader, http.MethodPatch, "operator/orgs/"+made.OrgID, fmt.Sprintf(`{"limit":%d}`, devices), &lifted); err != nil {
		b.Fatal(err)
	}
	t := &tiers{authority: leader.HTTP, key: made.OrgAPIKey}
	return &crowdedOrg{made.OrgAPIKey, t.fleet(b, devices)}
}

// shout exports an org again and again.
func shout(ctx context.Context, url, key string, exported, refused *atomic.Int64) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/org/export", http.NoBody)
		if err != nil {
			return
		}
		req.Header.Set("X-Org-Key", key)
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			exported.Add(1)
		} else {
			refused.Add(1)
		}
	}
}

// result is what became of an open loop of requests.
type result struct {
	all, bad int
	took     []time.Duration // of the good ones, from when each was due
}

func (r *result) at(percent int) float64 {
	if len(r.took) == 0 {
		return 0
	}
	slices.Sort(r.took)
	return r.took[len(r.took)*percent/100].Seconds() * 1e3
}

// ask sends requests so often for noisyLength, each when it is due, over some connections.
func ask(addr string, request func(i int) []byte, perSecond int, good string) (r result) {
	const connections = 32
	var mu sync.Mutex
	var work sync.WaitGroup
	var next atomic.Int64
	began, count := time.Now(), int64(perSecond)*int64(noisyLength/time.Second)
	for range connections {
		work.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 8<<10)
			for i := next.Add(1) - 1; i < count; i = next.Add(1) - 1 {
				due := began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
				time.Sleep(time.Until(due))
				n := 0
				if _, err = conn.Write(request(int(i))); err == nil {
					n, err = conn.Read(buf)
				}
				mu.Lock()
				r.all++
				if err != nil || !bytes.Contains(buf[:n], []byte(good)) {
					r.bad++
				} else {
					r.took = append(r.took, time.Since(due))
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	work.Wait()
	return r
}

// leases is how many sessions the edges have begun: one ends without leases, and the next begins.
func leases(b *testing.B, f *fleet.Fleet) (sum float64) {
	b.Helper()
	for _, e := range f.Edges {
		sessions, err := e.Metric(b.Context(), "machineid_edge_sessions_total")
		if err != nil {
			b.Fatal(err)
		}
		sum += sessions
	}
	return sum
}
