//go:build unix

package cli

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/shared/wire"
)

// TestRandomRequests sends 10,000 random requests to both tiers, from nearly right to noise: each is answered in JSON, soon, and the
// process lives, which its clean end proves together with what it printed.
func TestRandomRequests(t *testing.T) {
	t.Parallel()
	const senders = 4
	requests := 10_000
	if testing.Short() {
		requests = 2000
	}
	rng := seeded(t)
	w := newHostileWorld(t)
	var (
		work     sync.WaitGroup
		mu       sync.Mutex
		statuses = map[int]int{}
		slowest  time.Duration
		silent   int
	)
	for i := range senders {
		g := &generator{Rand: rand.New(rand.NewPCG(rng.Uint64(), uint64(i))), keys: []string{
			w.full.admin, w.full.admin, w.full.admin, w.full.agent, w.disabled.admin, w.nobody, "", "org_", w.full.admin[:20], "\xff",
		}}
		addr := []string{w.edge, w.authority}[i%2]
		work.Go(func() {
			for range requests / senders {
				raw := g.request()
				began := time.Now()
				answers, err := exchange(addr, raw)
				took := time.Since(began)
				if err != nil {
					t.Errorf("%v after %v to %.2000q", err, took, raw)
				}
				mu.Lock()
				slowest = max(slowest, took)
				if len(answers) == 0 {
					silent++
				}
				for _, a := range answers {
					statuses[a.StatusCode]++
					ours := a.StatusCode >= 500 && !slices.Contains([]string{"not_configured", "not_implemented", "http_version_not_supported"}, a.text("error"))
					if ours || a.StatusCode == 0 {
						t.Errorf("HTTP %d: %s to %.2000q", a.StatusCode, a.raw, raw)
					}
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	t.Logf("%d requests; answers by status: %v; connections without a request: %d; the slowest took %v", requests, statuses, silent, slowest.Round(time.Millisecond))
	if slowest > 5*time.Second {
		t.Errorf("a request took %v", slowest)
	}
	for tier, addr := range w.tiers() {
		if code := newClient(t, addr).validate(t, w.full.agent, "d1"); code != codeAllow && code != codeRevoked && code != codeNotFound && code != codeDisabled {
			t.Errorf("%s answers %s afterwards", tier, code)
		}
	}
}

// generator makes requests, most of which are wrong in one place.
type generator struct {
	*rand.Rand

	keys []string
}

func pickOne[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) noise(most int) string {
	b := make([]byte, g.IntN(most))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return string(b)
}

func (g *generator) request() string {
	if g.IntN(20) == 0 {
		return g.noise(600) + pickOne(g, "", "\r\n\r\n")
	}
	body := g.body()
	head := []string{"Host: a", "x-org-key: " + g.keys[g.IntN(len(g.keys))]}
	switch g.IntN(16) {
	case 0:
		head = append(head, "Transfer-Encoding: chunked")
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	case 1:
		head = append(head, fmt.Sprintf("Content-Length: %d", g.IntN(2*len(body)+2)))
	default:
		head = append(head, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	for range max(0, g.IntN(8)-5) {
		head = append(head, pickOne(g,
			"Connection: close", "Connection: keep-alive", "Expect: 100-continue", "X-Request-Id: abc", "X-Request-Id: \x7f", "Idempotency-Key: k",
			"MachineID-Version: 1", "MachineID-Timeout-Ms: 0", "MachineID-Edge: x", "Content-Encoding: gzip", "Content-Type: text/xml",
			"Transfer-Encoding: chunked", "Authorization: Bearer x", "Upgrade: websocket", "Prefer: respond-async", ": x", "x", " folded", "x-org-key: ",
		))
	}
	raw := fmt.Sprintf("%s %s HTTP/%s\r\n%s\r\n\r\n%s", g.method(), g.target(), g.version(), strings.Join(head, "\r\n"), body)
	switch g.IntN(30) {
	case 0: // cut
		return raw[:g.IntN(len(raw))]
	case 1: // one byte changed
		b := []byte(raw)
		b[g.IntN(len(b))] = byte(g.Uint32())
		return string(b)
	case 2: // bytes put in
		i := g.IntN(len(raw))
		return raw[:i] + g.noise(20) + raw[i:]
	}
	return raw
}

func (g *generator) method() string {
	if g.IntN(10) == 0 { // no HEAD: its answers have no body to look at
		return pickOne(g, "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "get", "")
	}
	return pickOne(g, "GET", "POST", "POST")
}

func (g *generator) version() string {
	if g.IntN(30) == 0 {
		return pickOne(g, "1.0", "2.0", "x")
	}
	return "1.1"
}

func (g *generator) target() string {
	routes := wire.Routes()
	path := "/api/v1/" + routes[g.IntN(len(routes))].Path
	switch g.IntN(20) {
	case 0:
		path += "/"
	case 1:
		path = strings.Replace(path, "/", pickOne(g, "//", "/./", "/../", "%2f", "\\"), 1+g.IntN(2))
	case 2:
		path = pickOne(g, "/", "*", "", "/api/v1", "/api/v1/", "http://a"+path, "/api/v2/usage", "/metrics", "/debug/pprof/", "?")
	}
	if g.IntN(3) == 0 {
		path += "?" + pickOne(g, "deviceId=d1", "deviceId=%00", "deviceId=%zz", "deviceId=d1&deviceId=d1", "limit=-1", "limit=5&cursor=AAAA", "&&&==", "deviceId="+strings.Repeat("a", 300))
	}
	return path
}

func (g *generator) body() string {
	id := pickOne(g, `"d1"`, `"d2"`, `"d9"`, `" d1 "`, `""`, `7`, `null`, `"\u0000"`, `"\ud800"`, `"\u0064\u0031"`, `["d1"]`, `{"a":1}`, `"`+strings.Repeat("é", g.IntN(200))+`"`)
	var body strings.Builder
	body.WriteString(`{"deviceId":` + id)
	for range g.IntN(3) {
		body.WriteString("," + pickOne(g, `"enabled":true`, `"enabled":1`, `"name":"n"`, `"name":[]`, `"metadata":{"a":[1,2,{}]}`, `"metadata":7`, `"ttlSeconds":60`, `"ttlSeconds":1e99`,
			`"deviceId":"d1"`, `"x":`+strings.Repeat("[", g.IntN(60)), `"deviceIds":["d1"]`))
	}
	return body.String() + pickOne(g, "}", "}", "}", "}", "}", "", "}}", "} x", "}"+strings.Repeat(" ", g.IntN(70_000)))
}
