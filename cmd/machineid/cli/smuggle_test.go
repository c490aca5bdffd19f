//go:build unix

package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/shared/wire"
)

// wiretap stands between an edge and its authority, and keeps what the edge writes.
type wiretap struct {
	net.Listener
	to string

	mu    sync.Mutex
	heard []*bytes.Buffer // by connection
}

func newWiretap(t *testing.T, to string) *wiretap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{Listener: l, to: to}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { w.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait() // the processes at both ends are gone by then
	})
	return w
}

func (w *wiretap) pass(c net.Conn) {
	defer func() { _ = c.Close() }()
	up, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	b := &bytes.Buffer{}
	w.mu.Lock()
	w.heard = append(w.heard, b)
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(c, up)
		_ = c.Close()
	}()
	_, _ = io.Copy(io.MultiWriter(lockedWriter{&w.mu, b}, up), c)
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// forwardedHeaders are all that an edge sends: those that the API reads, and what it vouches for.
var forwardedHeaders = []string{
	"Content-Length", "Content-Type", "X-Request-Id", "X-Org-Key", "Authorization", "X-Machineid-Org", "Idempotency-Key", "Machineid-Version", "Prefer",
	"Machineid-Edge", "Machineid-Client", "Machineid-Timeout-Ms",
}

// judge reads what the edge has written: whole requests of the edge's own making, and nothing besides.
func (w *wiretap) judge(t *testing.T) (requests int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	tokens := map[string]bool{}
	for _, b := range w.heard {
		for r := bufio.NewReader(bytes.NewReader(b.Bytes())); ; requests++ {
			if _, err := r.Peek(1); err != nil {
				break
			}
			req, err := http.ReadRequest(r)
			if err != nil {
				t.Errorf("the edge writes what is no request: %v: %.2000q", err, b.Bytes())
				break
			}
			if _, err := io.ReadAll(req.Body); err != nil || len(req.TransferEncoding) > 0 {
				t.Errorf("the edge writes a body of its client's form: %v, %v", req.TransferEncoding, err)
			}
			path, _, _ := strings.Cut(req.RequestURI, "?")
			if route := wire.Match([]byte(path)); route == nil || route.Operator || path != wire.Base+route.Path || req.Host != w.Addr().String() {
				t.Errorf("the edge asks %q for %q", req.Host, req.RequestURI)
			}
			tokens[req.Header.Get("Machineid-Edge")] = true
			for name, values := range req.Header {
				if !slices.Contains(forwardedHeaders, name) || len(values) != 1 || strings.Contains(fmt.Sprint(name, values), marker) {
					t.Errorf("the edge sends %q: %q", name, values)
				}
			}
			if client := req.Header.Get("Machineid-Client"); client != "127.0.0.1" {
				t.Errorf("the edge says that %q asks", client)
			}
			if strings.Contains(req.RequestURI, marker) {
				t.Errorf("the edge sends %q", req.RequestURI)
			}
		}
	}
	if len(tokens) != 1 {
		t.Errorf("the edge shows itself by %d tokens", len(tokens))
	}
	return requests
}

// marker stands in all that nobody may look at.
const marker = "smuggled"

// twins are two orgs of the same devices, one for each tier, so that the same bytes must have the same answers. Of the devices mine is the
// one that is named; victim is named only where nobody may look.
type twins struct {
	tiers
	tap  *wiretap
	orgs map[string]org // by tier
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	a := newAuthority(t)
	tap := newWiretap(t, a.http)
	a.args = append(a.args, "--advertise-http", tap.Addr().String())
	a.start()
	e := startEdge(t, a.link)
	e.ready()
	w := &twins{tiers: tiers{a, e}, tap: tap, orgs: map[string]org{}}
	c := newClient(t, a.http)
	for tier := range w.addrs() {
		o := c.createOrg(t)
		for _, id := range []string{"mine", "victim"} {
			c.must(t, "devices/register", o.admin, naming(id))
		}
		w.orgs[tier] = o
	}
	return w
}

func (w *twins) addrs() map[string]string {
	return map[string]string{"edge": w.edge.http, "authority": w.authority.http}
}

// play sends the same bytes to both tiers, each with its org's key in the place of $KEY, and returns what they say, which must be the same.
func (w *twins) play(t *testing.T, raw string) []string {
	t.Helper()
	said := map[string][]string{}
	for tier, addr := range w.addrs() {
		answers, err := exchange(addr, strings.ReplaceAll(raw, "$KEY", w.orgs[tier].admin))
		if err != nil {
			t.Errorf("%s: %v: %.2000q", tier, err, raw)
		}
		for i, a := range answers {
			said[tier] = append(said[tier], fmt.Sprint(a.StatusCode, " ", a.text("handler"), " ", a.text("status"), " ", a.text("error"), " ", a.text("param"), " ", a.code(), " ", a.text("deviceId"), " ", a.body["changed"]))
			if (a.text("error") == "bad_request" || a.StatusCode == http.StatusRequestHeaderFieldsTooLarge) && (!a.Close || i != len(answers)-1) {
				t.Errorf("%s goes on after a fault of the framing: %.2000q", tier, raw)
			}
			if a.text("deviceId") == "victim" || a.body["allowed"] == true && a.text("deviceId") != "mine" {
				t.Errorf("%s answers about another device: %s to %.2000q", tier, a.raw, raw)
			}
		}
	}
	if !slices.Equal(said["edge"], said["authority"]) {
		t.Errorf("%.2000q\nthe edge says      %q\nthe authority says %q", raw, said["edge"], said["authority"])
	}
	return said["edge"]
}

// intact fails if anything came to the devices that nobody named.
func (w *twins) intact(t *testing.T) {
	t.Helper()
	for tier, o := range w.orgs {
		for _, addr := range w.addrs() {
			c := newClient(t, addr)
			if code := c.validate(t, o.agent, "victim"); code != codeAllow {
				t.Errorf("the victim of the %s's org: %s", tier, code)
			}
			a, err := c.get("devices/list", o.admin)
			if devices, _ := a.body["devices"].([]any); err != nil || len(devices) != 2 {
				t.Errorf("the devices of the %s's org: %v, %v", tier, a, err)
			}
		}
	}
}

// smuggles are streams that two readers may take apart in two ways, with how many answers there are. A call that was served is ended by a
// plain usage, so that one sees whether the stream is still in step.
func smuggles() map[string]struct {
	raw   string
	want  int    // answers
	first string // the first begins so
} {
	const (
		key  = "Host: a\r\nx-org-key: $KEY\r\n"
		mine = `{"deviceId":"mine"}` // 19 bytes
		evil = `{"deviceId":"victim"}`
	)
	post := func(path, headers, body string) string {
		return "POST /api/v1/" + path + " HTTP/1.1\r\n" + key + headers + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
	}
	chunked := func(path, headers, body string) string {
		return "POST /api/v1/" + path + " HTTP/1.1\r\n" + key + headers + "Transfer-Encoding: chunked\r\n\r\n" + body
	}
	const usage = "GET /api/v1/usage HTTP/1.1\r\n" + key + "\r\n"
	hidden := post("devices/revoke", "", evil)
	type smuggle = struct {
		raw   string
		want  int
		first string
	}
	list := map[string]smuggle{
		"query beside the body":      {post("devices/revoke?deviceId=victim&"+marker+"=1", "", mine) + usage, 2, "200 devices/revoke ok"},
		"body beside the query":      {"GET /api/v1/devices/get?deviceId=mine HTTP/1.1\r\n" + key + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(evil)) + evil + usage, 2, "200 devices/get"},
		"a request as a GET's body":  {"GET /api/v1/devices/get?deviceId=mine HTTP/1.1\r\n" + key + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + usage, 2, "200 devices/get"},
		"a request as a POST's body": {post("devices/revoke", "", hidden) + usage, 2, "400 devices/revoke error missing_params body"},
		"chunked":                    {chunked("devices/revoke", "", "13\r\n"+mine+"\r\n0\r\n\r\n") + usage, 2, "200 devices/revoke ok"},
		"chunk extension":            {chunked("devices/revoke", "", "13;a=\""+marker+"\"\r\n"+mine+"\r\n0;b\r\n\r\n") + usage, -1, ""},
		"chunk size with a prefix":   {chunked("devices/revoke", "", "0x13\r\n"+mine+"\r\n0\r\n\r\n") + usage, 1, "400"},
		"chunk size that wraps":      {chunked("devices/revoke", "", "100000000000000013\r\n"+mine+"\r\n0\r\n\r\n") + usage, 1, "413"},
		"chunk size below zero":      {chunked("devices/revoke", "", "-13\r\n"+mine+"\r\n0\r\n\r\n") + usage, 1, "400"},
		"chunk end in LF":            {chunked("devices/revoke", "", "13\n"+mine+"\n0\n\n") + usage, 1, "400"},
		"trailer":                    {chunked("devices/revoke", "Trailer: x-org-key\r\n", "13\r\n"+mine+"\r\n0\r\nMachineID-Edge: "+marker+"\r\n\r\n") + usage, 1, "400"},
		"both lengths":               {chunked("devices/revoke", "Content-Length: 5\r\n", "0\r\n\r\n") + hidden, 1, "400"},
		"both lengths, other order":  {"POST /api/v1/devices/revoke HTTP/1.1\r\n" + key + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden, 1, "400"},
		"two lengths":                {post("devices/revoke", "Content-Length: 0\r\n", mine) + usage, 1, "400"},
		"one length twice":           {post("devices/revoke", "Content-Length: 19\r\n", mine) + usage, 1, "400"},
		"a list of lengths":          {strings.Replace(post("devices/revoke", "", mine), ": 19", ": 19, 19", 1) + usage, 1, "400"},
		"octal length":               {strings.Replace(post("devices/revoke", "", mine), ": 19", ": 00000019", 1) + usage, 2, "200 devices/revoke ok"},
		"transfer hidden by case":    {"POST /api/v1/devices/revoke HTTP/1.1\r\n" + key + "TRANSFER-ENCODING: CHUNKED\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden, 1, "400"},
		"transfer hidden by a tab":   {"POST /api/v1/devices/revoke HTTP/1.1\r\n" + key + "Transfer-Encoding\t: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden, 1, "400"},
		"transfer hidden by \\v":     {"POST /api/v1/devices/revoke HTTP/1.1\r\n" + key + "Transfer-Encoding: \vchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden, 1, "400"},
		"transfer hidden by LF":      {"POST /api/v1/devices/revoke HTTP/1.1\r\n" + key + "X: a\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden, 1, "400"},
		"identity":                   {post("devices/revoke", "Transfer-Encoding: identity\r\n", mine) + usage, 1, "400"},
		"two keys":                   {post("devices/revoke", "X-Org-Key: "+marker+"\r\n", mine) + usage, 1, "400"},
		"two keys, folded":           {post("devices/revoke", "X: a\r\n X-Org-Key: "+marker+"\r\n", mine) + usage, 1, "400"},
		"a key with underscores":     {post("devices/revoke", "x_org_key: "+marker+"\r\n", mine) + usage, 2, "200 devices/revoke ok"},
		"two hosts":                  {post("devices/revoke", "Host: "+marker+"\r\n", mine) + usage, 1, "400"},
		"forged edge":                {post("devices/revoke", "MachineID-Edge: "+marker+"\r\nMachineID-Client: 6.6.6.6\r\nMachineID-Timeout-Ms: 0\r\nMachineID-Node: "+marker+"\r\nMachineID-Peer: 6.6.6.6\r\n", mine) + usage, 2, "200 devices/revoke ok"},
		"forged client":              {post("devices/revoke", "X-Forwarded-For: "+marker+"\r\nForwarded: for="+marker+"\r\nX-Original-URL: /"+marker+"\r\nX-HTTP-Method-Override: GET\r\n", mine) + usage, 2, "200 devices/revoke ok"},
		"hop by hop":                 {post("devices/revoke", "Connection: x-org-key, "+marker+"\r\nKeep-Alive: "+marker+"\r\nTE: trailers\r\n", mine) + usage, 2, "200 devices/revoke ok"},
		"CR in a value":              {post("devices/revoke", "X: a\rMachineID-Edge: "+marker+"\r\n", mine) + usage, 1, "400"},
		"NUL in a value":             {post("devices/revoke", "X: a\x00b\r\n", mine) + usage, 1, "400"},
		"NUL in a name":              {post("devices/revoke", "X\x00: a\r\n", mine) + usage, 1, "400"},
		"NUL in the path":            {post("devices/revoke\x00", "", mine) + usage, -1, ""},
		"LF only":                    {strings.ReplaceAll(post("devices/revoke", "", mine), "\r\n", "\n") + usage, 1, "400"},
		"LF before the body":         {strings.Replace(post("devices/revoke", "", mine), "\r\n\r\n", "\r\n\n", 1) + usage, 1, "400"},
		"absolute form":              {strings.Replace(post("devices/revoke", "", mine), " /api", " http://"+marker+".example/api", 1) + usage, 2, "200 devices/revoke ok"},
		"authority form":             {"CONNECT " + marker + ".example:80 HTTP/1.1\r\n" + key + "\r\n" + usage, -1, "4"},
		"upgrade":                    {post("devices/revoke", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "+marker+"\r\n", mine) + usage, 2, "200 devices/revoke ok"},
		"upgrade to h2c":             {"GET /api/v1/usage HTTP/1.1\r\n" + key + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 2, "200 usage ok"},
		"expect":                     {post("devices/revoke", "Expect: 100-continue\r\n", mine) + usage, 2, "200 devices/revoke ok"},
		"expect what is not":         {post("devices/revoke", "Expect: "+marker+"\r\n", mine) + usage, -1, ""},
		"pipelined":                  {post("devices/revoke", "", mine) + usage + post("devices/get", "", mine) + usage, 4, "200 devices/revoke ok"},
		"encoded slash":              {"GET /api/v1/devices%2fget?deviceId=mine HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"encoded letter":             {"GET /api/v1/devices/%67et?deviceId=mine HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"dot segments":               {"GET /api/v1/org/../devices/get?deviceId=mine HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"encoded dots":               {"GET /api/v1/org/%2e%2e/devices/get?deviceId=mine HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"matrix parameter":           {"GET /api/v1/devices/get;a=b?deviceId=mine HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"backslash":                  {"GET /api/v1\\devices\\get?deviceId=mine HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"query in the path":          {"GET /api/v1/devices/get%3fdeviceId=mine HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"an operators' path":         {"GET /api/v1/devices/../operator/orgs HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "404 unknown not_found"},
		"a split query":              {"GET /api/v1/devices/get?deviceId=mine%0d%0aX-Org-Key:%20a HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "400 devices/get error missing_params deviceId"},
		"two ids in the query":       {"GET /api/v1/devices/get?deviceId=mine&deviceId=victim HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "400 devices/get error missing_params query"},
		"two ids, one encoded":       {"GET /api/v1/devices/get?deviceId=mine&device%49d=victim HTTP/1.1\r\n" + key + "\r\n" + usage, 2, "400 devices/get error missing_params query"},
		"two ids in the body":        {post("devices/revoke", "", `{"deviceId":"mine","device\u0049d":"victim"}`) + usage, 2, "400 devices/revoke error missing_params body"},
		"an id in another case":      {post("devices/revoke", "", `{"deviceId":"mine","deviceID":"victim","DeviceId":"victim"}`) + usage, 2, "200 devices/revoke ok"},
		"an id behind the body":      {post("devices/revoke", "", mine+evil) + usage, 2, "400 devices/revoke error missing_params body"},
		"a request id that splits":   {post("devices/revoke", "X-Request-Id: a\r\nX-Request-Id: "+marker+"\r\n", mine) + usage, 2, "200 devices/revoke ok"},
		"50 headers":                 {post("devices/revoke", strings.Repeat("X-A: "+marker+"\r\n", 50), mine) + usage, 2, "200 devices/revoke ok"},
		"5,000 headers":              {post("devices/revoke", strings.Repeat("X-A: "+marker+"\r\n", 5000), mine) + usage, 1, "431"},
		"a header of 1 MiB":          {post("devices/revoke", "X-A: "+strings.Repeat("a", 1<<20)+"\r\n", mine) + usage, 1, "431"},
		"HTTP/1.0 with chunks":       {strings.Replace(chunked("devices/revoke", "", "13\r\n"+mine+"\r\n0\r\n\r\n"), "HTTP/1.1", "HTTP/1.0", 1) + usage, -1, ""},
		"HTTP/1.0, kept alive":       {strings.Replace(post("devices/revoke", "Connection: keep-alive\r\n", mine), "HTTP/1.1", "HTTP/1.0", 1) + usage, 2, "200 devices/revoke ok"},
		"closed behind it":           {post("devices/revoke", "Connection: close\r\n", mine) + hidden, 1, "200 devices/revoke ok"},
		"empty lines first":          {"\r\n\r\n" + post("devices/revoke", "", mine) + usage, 2, "200 devices/revoke ok"},
	}
	for _, path := range []string{"devices/register", "devices/unrevoke", "org/execution", "org/settings"} {
		list["the body is "+path] = smuggle{post("devices/get?deviceId=mine", "", "POST /api/v1/"+path+" HTTP/1.1\r\n") + usage, 2, "405 devices/get error method_not_allowed"}
	}
	return list
}

// TestSmuggling sends what two readers may take apart in two ways to an edge and to its authority, by real sockets, with somebody listening
// between the two. Both answer the same, about the device that was named and no other; nothing follows a fault of the framing; and the edge
// writes to the authority whole requests of its own making only.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	w := newTwins(t)
	for name, s := range smuggles() {
		said := w.play(t, s.raw)
		if s.want >= 0 && len(said) != s.want || len(said) == 0 || !strings.HasPrefix(said[0], s.first) {
			t.Errorf("%s: answered with %q, want %d, the first %q", name, said, s.want, s.first)
		}
	}
	w.intact(t)
	if n := w.tap.judge(t); n < 40 {
		t.Errorf("only %d requests came to the authority", n)
	} else {
		t.Logf("%d streams to each tier, %d requests between them", len(smuggles()), n)
	}
}

// oddLines are put into requests that are right otherwise. Some change nothing, most make the framing uncertain.
var oddLines = []string{
	"x-org-key: $KEY\r\n", "X-Org-Key: smuggled\r\n", "Content-Length: 19\r\n", "Content-Length: 0\r\n", "Content-Length: 19,19\r\n", "Transfer-Encoding: chunked\r\n",
	"Transfer-Encoding: identity\r\n", "Transfer-Encoding : chunked\r\n", "Transfer-Encoding: chunked\n", "Transfer-Encoding: x\r\n", "Connection: close\r\n", "Connection: x-org-key\r\n",
	"Expect: 100-continue\r\n", "MachineID-Edge: smuggled\r\n", "MachineID-Client: smuggled\r\n", "X: a\x00\r\n", "X: a\rb\r\n", " folded\r\n", "X\r\n", "Upgrade: h2c\r\n", "Idempotency-Key: k\r\n",
	"Prefer: return=minimal\r\n", "X-Request-Id: a\r\n", "Cookie: smuggled\r\n", "\n", "Content-Encoding: gzip\r\n", "Trailer: x-org-key\r\n", "X-A: smuggled\r\n", "MachineID-Timeout-Ms: 0\r\n",
}

// randomStream is one to four requests, most of them right. The victim is named only where it does not count: in the query of a POST, in
// the body of a GET.
func randomStream(rng *rand.Rand) string {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	const mine = `{"deviceId":"mine"}`
	var b strings.Builder
	for range 1 + rng.IntN(4) {
		line, body := pick("POST /api/v1/devices/revoke?deviceId=victim", "POST /api/v1/devices/unrevoke", "POST /api/v1/devices/validate?deviceId=victim", "POST /api/v1/devices/revoke/"), mine
		if rng.IntN(2) == 0 {
			line = pick("GET /api/v1/devices/get?deviceId=mine", "GET /api/v1/devices/validate?deviceId=mi%6ee", "GET http://a/api/v1/usage", "GET /api/v1/devices/%2e%2e/usage", "GET /api/v1//usage")
			body = pick("", "", `{"deviceId":"victim"}`)
		}
		head := []string{"Host: a\r\n", "x-org-key: $KEY\r\n"}
		switch {
		case body != "" && rng.IntN(3) == 0:
			head = append(head, pick("Transfer-Encoding: chunked\r\n", "transfer-encoding: Chunked\r\n"))
			body = fmt.Sprintf("%x%s\r\n%s\r\n0\r\n%s\r\n", len(body), pick("", "", "", ";x", " ", "h"), body, pick("", "", "", "", "X: smuggled\r\n"))
		case body != "":
			head = append(head, fmt.Sprintf("Content-Length: %d\r\n", len(body)))
		}
		for range max(0, rng.IntN(6)-3) {
			head = slices.Insert(head, rng.IntN(len(head)+1), oddLines[rng.IntN(len(oddLines))])
		}
		b.WriteString(line + pick(" HTTP/1.1", " HTTP/1.1", " HTTP/1.1", " HTTP/1.0") + pick("\r\n", "\r\n", "\r\n", "\r\n", "\n") + strings.Join(head, "") + "\r\n" + body)
	}
	raw := b.String()
	if rng.IntN(10) == 0 {
		return raw[:rng.IntN(len(raw))]
	}
	return raw
}

// TestRandomStreams is TestSmuggling with streams that are put together at random.
func TestRandomStreams(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	w := newTwins(t)
	streams := 2000
	if testing.Short() {
		streams = 300
	}
	answers, served := 0, 0
	for range streams {
		for _, one := range w.play(t, randomStream(rng)) {
			answers++
			if strings.HasPrefix(one, "20") {
				served++
			}
		}
		if t.Failed() {
			break
		}
	}
	w.intact(t)
	t.Logf("%d streams to each tier: %d answers, %d of them good; %d requests between the tiers", streams, answers, served, w.tap.judge(t))
	if served < answers/3 || served > answers*9/10 {
		t.Errorf("%d of %d answers are good: the streams are all of one kind", served, answers)
	}
}

// TestSlowBodies: clients that send a byte now and then keep a connection no longer than a request may take, and nobody else from theirs.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes the 10 s that a request may take to arrive")
	}
	w := newHostileWorld(t)
	const slow = 100 // at each tier
	head := "POST /api/v1/devices/validate HTTP/1.1\r\nHost: a\r\nx-org-key: " + w.full.agent + "\r\nContent-Length: 60000\r\n\r\n"
	for tier, addr := range w.tiers() {
		t.Run(tier, func(t *testing.T) {
			t.Parallel()
			var work sync.WaitGroup
			var ended sync.WaitGroup
			began := time.Now()
			for i := range slow {
				c := newClient(t, addr)
				if err := c.dial(); err != nil {
					t.Fatal(err)
				}
				conn, r := c.conn, c
				_ = conn.SetDeadline(time.Now().Add(2 * patient))
				over := make(chan struct{})
				ended.Add(1)
				work.Go(func() {
					raw := strings.NewReader(head + strings.Repeat(" ", 60000))
					if i%2 == 0 { // the others are slow from their first byte on
						_, _ = io.CopyN(conn, raw, int64(len(head)))
					}
					tick := time.NewTicker(100 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-over:
							return
						case <-tick.C:
							if _, err := io.CopyN(conn, raw, 1); err != nil {
								return
							}
						}
					}
				})
				work.Go(func() {
					defer ended.Done()
					defer close(over)
					a, err := r.next(nil)
					if err != nil || a.StatusCode != http.StatusRequestTimeout && a.StatusCode != http.StatusBadRequest || a.body["allowed"] != false || !a.Close {
						t.Errorf("a slow request is answered with %+v, %v", a, err)
					}
				})
			}
			quick := newClient(t, addr)
			done := make(chan struct{})
			go func() { ended.Wait(); close(done) }()
			asked := 0
			for waiting := true; waiting; asked++ {
				select {
				case <-done:
					waiting = false
				default:
					if code := quick.validate(t, w.full.agent, "d1"); code != codeAllow {
						t.Fatalf("%s beside slow requests", code)
					}
				}
			}
			took := time.Since(began)
			work.Wait()
			t.Logf("%d slow requests ended after %v; %d validates beside them", slow, took.Round(time.Millisecond), asked)
			if took < 9*time.Second || took > patient {
				t.Errorf("slow requests ended after %v, they may take 10s to arrive", took)
			}
		})
	}
}
