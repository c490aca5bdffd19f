//go:build unix

package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"machineid/shared/wire"
)

// TestEveryAnswerNamesItsRequest walks the table of calls at both tiers, with every method and with no key, a key and a wrong one: whatever comes back carries
// the X-Request-Id that was sent. A client tells an old answer that something repeats by it, so one that lacked it would be none. (Bytes that are no HTTP have no
// id, and one that stands behind the first KiB of a head which cannot be read is lost.)
func TestEveryAnswerNamesItsRequest(t *testing.T) {
	t.Parallel()
	tiers := startTiers(t)
	token, err := os.ReadFile(filepath.Join(tiers.authority.dir, "operator-token"))
	if err != nil {
		t.Fatal(err)
	}
	keys := newClient(t, tiers.edge.http).createOrg(t)
	heads := map[string]string{
		"nobody": "", "an agent": "x-org-key: " + keys.agent + "\r\n", "an admin": "x-org-key: " + keys.admin + "\r\n", "a bad key": "x-org-key: org_nonsense\r\n", "a wrong token": "Authorization: Bearer nonsense\r\n",
	}
	operator := "Authorization: Bearer " + strings.TrimSpace(string(token)) + "\r\n"
	n := 0
	for tier, addr := range map[string]string{"edge": tiers.edge.http, "authority": tiers.authority.http} {
		named := &namedCalls{t: t, tier: tier, addr: addr}
		for _, r := range wire.Routes() {
			path := "/api/v1/" + strings.Replace(r.Path, "*", "x", 1)
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
				for who, head := range heads {
					named.ask(who, method, path, head, "{}")
					n++
				}
				if method == "GET" { // changes nothing
					named.ask("the operator", method, path, operator, "{}")
				}
			}
			named.ask("an admin", "POST", path, heads["an admin"], "{")
			named.ask("an admin", "POST", path, heads["an admin"], strings.Repeat("x", 2<<20)) // 413
			named.ask("an admin", "GET", path+"?a=1&a=2", heads["an admin"], "")
			named.ask("an admin", "GET", path+"?deviceId=%FF", heads["an admin"], "")
		}
		for _, body := range []string{`{"deviceId":"a"}`, `{"deviceIds":["a","",7]}`, `{"deviceIds":["a"]}`} {
			for _, path := range []string{"validate", "register", "validate_batch", "revoke_batch", "unrevoke_batch", "revoke", "unrevoke", "get?deviceId=a", "list", "remove"} {
				named.ask("an admin", "POST", "/api/v1/devices/"+path, heads["an admin"], body)
				named.ask("an admin", "GET", "/api/v1/devices/"+path, heads["an admin"], "")
			}
		}
		for _, path := range []string{"/", "/api/v1/nothing", "/openapi.json", "/recover", "/api/v1/%2e", "*"} {
			named.ask("nobody", "GET", path, "", "")
		}
		named.ask("the operator", "POST", "/api/v1/operator/cluster/snapshot", operator, "{}") // a stream, at the authority
		// What breaks the rules of HTTP, where its head can be read.
		named.ask("nobody", "GET", "/api/v1/usage", "Content-Encoding: gzip\r\n", "")
		named.ask("nobody", "GET", "/api/v1/usage", "x-org-key: a\r\nx-org-key: b\r\n", "")
		named.ask("nobody", "GET", "/api/v1/usage", "Expect: nothing\r\n", "")
		named.ask("nobody", "GET", "/api/v1/usage", "Host: a\r\nHost: b\r\n", "")
		named.ask("nobody", "GET", "/api/v1/usage", "x: "+strings.Repeat("y", 16<<10)+"\r\n", "") // 431: the id came first
	}
	if n < 1000 {
		t.Errorf("only %d calls", n)
	}
	for tier, addr := range map[string]string{"edge": tiers.edge.ops, "authority": tiers.authority.ops} {
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/nothing"} {
			(&namedCalls{t: t, tier: tier + "'s operations", addr: addr}).ask("nobody", "GET", path, "", "")
		}
	}
	full := startEdge(t, tiers.authority.link, "--max-connections-address", "1")
	full.ready()
	held, err := net.Dial("tcp", full.http)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	refused := &namedCalls{t: t, tier: "edge with too many connections", addr: full.http}
	refused.ask("an admin", "POST", "/api/v1/devices/validate", heads["an admin"], `{"deviceId":"a"}`)
	refused.ask("an admin", "GET", "/api/v1/usage", heads["an admin"], "")
	if refused.ask("an admin", "GET", "/api/v1/usage", heads["an admin"], "") != http.StatusServiceUnavailable {
		t.Error("nothing was refused")
	}
	tiers.authority.kill()
	named := &namedCalls{t: t, tier: "edge without an authority", addr: tiers.edge.http}
	for _, path := range []string{"devices/validate", "devices/validate_batch", "devices/revoke", "org/create"} {
		named.ask("an admin", "POST", "/api/v1/"+path, heads["an admin"], `{"deviceId":"b","deviceIds":["b"]}`)
	}
}

// namedCalls makes calls with an id of their own each, over a connection of their own.
type namedCalls struct {
	t          *testing.T
	tier, addr string
	n          int
}

func (c *namedCalls) ask(who, method, path, head, body string) (status int) {
	c.t.Helper()
	c.n++
	what := fmt.Sprintf("%s, %s of %s by %s, %.20q", c.tier, method, path, who, body)
	conn, err := net.DialTimeout("tcp", c.addr, callTime)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(callTime))
	id := fmt.Sprint("asked-", c.n)
	length := ""
	if body != "" || method == "POST" {
		length = fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	go func() { // an answer may come before all was sent
		_, _ = io.WriteString(conn, method+" "+path+" HTTP/1.1\r\nHost: machineid\r\nX-Request-Id: "+id+"\r\n"+head+length+"\r\n"+body)
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		c.t.Errorf("%s: %v", what, err)
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Values("X-Request-Id"); len(got) != 1 || got[0] != id {
		c.t.Errorf("%s: HTTP %d with the id %q, want %q", what, resp.StatusCode, got, id)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil || method == "HEAD" || resp.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(path, "/api/") {
		if err != nil {
			c.t.Errorf("%s: %v", what, err)
		}
		return resp.StatusCode
	}
	var said struct {
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(raw, &said); err != nil || said.RequestID != id {
		c.t.Errorf("%s: HTTP %d with the id %q in %.200s", what, resp.StatusCode, said.RequestID, raw)
	}
	return resp.StatusCode
}
