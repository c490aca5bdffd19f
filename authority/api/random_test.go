package api_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/shared/wire"
)

// TestRandomRequests sends 10,000 requests put together at random, from several connections at once. Every one is answered by a
// JSON object with what belongs to every answer, and none by a panic: start's clean-up looks for one.
// MACHINEID_TEST_SEED sets the seed.
func TestRandomRequests(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MACHINEID_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("MACHINEID_TEST_SEED=%d", seed)
	n := start(t, openSignup, withStripe(nil))
	o := n.sized(20)
	const workers, each = 8, 1250
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for w := range workers {
		all.Go(func() {
			g := &generator{rand.New(rand.NewPCG(seed, uint64(w))), o}
			for range each {
				raw := g.request()
				a, err := n.send(raw)
				if err != nil {
					t.Errorf("%v, to:\n%q", err, raw)
					return
				}
				if a.StatusCode >= http.StatusInternalServerError {
					t.Errorf("HTTP %d %s, to:\n%q", a.StatusCode, a.raw, raw)
				}
				mu.Lock()
				statuses[a.StatusCode]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("answers by status: %v", statuses)
	for _, status := range []int{200, 400, 401, 403, 404, 405} {
		if statuses[status] == 0 {
			t.Errorf("no request was answered with %d: the generator misses it", status)
		}
	}
}

type generator struct {
	*rand.Rand
	o *org
}

func (g *generator) of(list ...string) string { return list[g.IntN(len(list))] }

func (g *generator) request() string {
	routes := wire.Routes()
	route := routes[g.IntN(len(routes))]
	method := g.of("GET", "POST")
	if g.IntN(10) > 0 {
		method = "GET"
		if route.Post && (!route.Get || g.IntN(2) == 0) {
			method = "POST"
		}
	} else if g.IntN(10) == 0 {
		method = g.of("PUT", "DELETE", "PATCH", "post", "OPTIONS")
	}
	path := wire.Base + route.Path
	if g.IntN(40) == 0 {
		path = g.of("/", "/api", wire.Base, path+"/", path+"//", path+"x", strings.ToUpper(path), wire.Base+"../usage", wire.Base+"devices%2fget")
	}
	if method == "GET" || g.IntN(20) == 0 {
		path += "?" + g.query()
	}
	body := ""
	if method != "GET" || g.IntN(20) == 0 {
		body = g.body()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a\r\n", method, path)
	for range g.IntN(3) {
		b.WriteString(g.of(
			"MachineID-Version: 1", "MachineID-Version: two", "MachineID-Timeout-Ms: 0", "MachineID-Edge: x", "MachineID-Client: x",
			"Authorization: Bearer x", "Authorization: Bearer "+operatorToken, "Prefer: respond-async", "Idempotency-Key: 1",
			"X-Request-Id: a", "X-Request-Id: \"", "Content-Type: text/html", "Expect: nothing", "Cookie: a=b; c", "X-Forwarded-For: 1.2.3.4",
		) + "\r\n")
	}
	switch g.IntN(12) {
	case 0:
	case 1:
		b.WriteString("x-org-key: " + g.of(unknownKey, malformedKey, "", "org_", "\x80") + "\r\n")
	case 2, 3, 4:
		b.WriteString("X-ORG-KEY: " + g.o.agent + "\r\n")
	default:
		b.WriteString("x-org-key: " + g.o.admin + "\r\n")
	}
	if body != "" || method == "POST" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

func (g *generator) id() string {
	return g.of("a", "b", "c", "agent-01", "worker/prod/α", " padded\t", "", "\x00", "\xff", strings.Repeat("x", 257),
		"d"+strconv.Itoa(g.IntN(40)), "d"+strconv.Itoa(g.IntN(40)), "d"+strconv.Itoa(g.IntN(40)))
}

func (g *generator) query() string {
	var parts []string
	for range g.IntN(4) {
		parts = append(parts, g.of("deviceId=d"+strconv.Itoa(g.IntN(40)), "deviceId=%CE%B1", "deviceId=%", "deviceId",
			"limit="+strconv.Itoa(g.IntN(1100)), "limit=x", "cursor=AAAA", "cursor", "x=y", "a=b&a=b", "=", "\x80", "%00=1"))
	}
	return strings.Join(parts, "&")
}

func (g *generator) body() string {
	if g.IntN(15) == 0 {
		return g.of("", "{", "[]", "null", `{"a":1}{`, "\x00", `{"deviceId":"\ud800"}`, `{"deviceId":"a","deviceId":"b"}`,
			`{"deviceId":"a","device\u0049d":"b"}`, strings.Repeat("[", 100), strings.Repeat(" ", 66000), "\xef\xbb\xbf{}")
	}
	members := []string{`"deviceId":` + strconv.Quote(g.id())}
	for range g.IntN(3) {
		members = append(members, g.of(`"name":"n"`, `"metadata":{"a":[1,2,{"b":null}]}`, `"metadata":{"a":1e400}`, `"ttlSeconds":1`,
			`"ttlSeconds":9999999999999999999`, `"ttlSeconds":-1`, `"enabled":true`, `"enabled":true`, `"enabled":"yes"`, `"externalId":"e"`,
			`"confirm":null`, `"scope":"agent"`, `"keyId":"AAAAAAAA"`, `"keyId":"x"`, `"graceSeconds":60`, `"expiresAt":"2031-01-01T00:00:00Z"`, `"expiresAt":"soon"`, `"version":1`, `"scope":"all_active"`, `"scope":"all_revoked"`, `"scope":7`, `"deviceIds":[]`, `"deviceIds":["a","b",7,"","\u0000",null,[]]`,
			`"x":"\u0000"`))
	}
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ",") + "}"
}
