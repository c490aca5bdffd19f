//go:build unix

package cli

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"machineid/shared/orgkey"
)

// TestLimits: an edge that is run keeps to its limits, answers as the contract says, and tells the authority who asked.
func TestLimits(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "--open-signup")
	a.start()
	e := startEdge(t, a.link, "--limits", "--limit-changes", "2", "--limit-unknown-keys-address", "1", "--limit-signups", "1", "--trusted-proxies", "127.0.0.1")
	e.ready()
	c := newClient(t, e.http)
	made := c.createOrg(t)
	limited := func(what string, r *reply, err error) {
		t.Helper()
		if err != nil || r.StatusCode != http.StatusTooManyRequests || r.body["error"] != "rate_limited" || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v %+v", what, err, r)
		}
	}
	r, err := c.post("org/create", "", "{}")
	limited("a second org from one address", r, err)
	if r, err := c.do(http.MethodPost, "org/create", "", "{}", "X-Forwarded-For: 203.0.113.9"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("an org from another address: %v %+v", err, r)
	}
	for i := 0; ; i++ {
		r, err := c.do(http.MethodPost, "devices/register", made.admin, fmt.Sprintf(`{"deviceId":"d%d"}`, i), "X-Forwarded-For: 203.0.113.7")
		if err == nil && r.StatusCode == http.StatusTooManyRequests {
			limited("a change too many", r, err)
			break
		}
		if err != nil || i == 100 {
			t.Fatalf("change %d: %v %+v", i, err, r)
		}
	}
	if r, err := c.get("audit", made.admin); err != nil || !strings.Contains(r.raw, `"address":"203.0.113.7"`) {
		t.Errorf("the audit: %v %+v", err, r)
	}
	for i := 0; ; i++ {
		key, err := orgkey.New(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.get("devices/validate?deviceId=d0", key.Reveal())
		if err != nil || r.StatusCode != http.StatusOK || r.body["allowed"] != false || i == 100 {
			t.Fatalf("key %d: %v %+v", i, err, r)
		}
		if r.body["reason"] == "rate_limited" {
			break
		}
	}
}

// TestProxyOperator: with the flag operators call through an edge, the audit has their own address; without it nothing of theirs is there.
func TestProxyOperator(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.start()
	with, without := startEdge(t, a.link, "--proxy-operator", "--trusted-proxies", "127.0.0.1"), startEdge(t, a.link)
	with.ready()
	without.ready()
	token := filepath.Join(a.dir, "operator-token")
	for _, args := range [][]string{
		{"org", "create", "--name", "acme"}, {"org", "list"}, {"cluster", "status"}, {"edges"},
	} {
		for e, want := range map[*edgeNode]int{with: exitDone, without: exitFailed} {
			code, out, errs := commandLine(append(args, "--operator-url", "http://"+e.http, "--operator-token-file", token)...)
			if code != want {
				t.Errorf("%v: exit code %d, want %d: %s%s", args, code, want, out, errs)
			}
		}
	}
	if code, out, errs := commandLine("snapshot", "save", filepath.Join(t.TempDir(), "s"), "--operator-url", "http://"+with.http, "--operator-token-file", token); code != exitFailed {
		t.Errorf("a snapshot through an edge: exit code %d: %s%s", code, out, errs)
	}
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	bearer := "Authorization: Bearer " + strings.TrimSpace(string(secret))
	c := newClient(t, with.http)
	if r, err := c.do(http.MethodPost, "operator/orgs", "", "{}", bearer, "X-Forwarded-For: 203.0.113.7"); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%v %+v", err, r)
	}
	if r, err := c.do(http.MethodGet, "operator/audit?limit=1", "", "", bearer); err != nil || !regexp.MustCompile(`"actor":\{"type":"operator","id":"[0-9a-f]{8}"\},"address":"203\.0\.113\.7"`).MatchString(r.raw) {
		t.Errorf("%v %+v", err, r)
	}
}
