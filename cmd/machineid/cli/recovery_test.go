//go:build unix

package cli

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRecovery: an org that pays gets a new admin key by the mail address with which it pays; nobody can tell from the answer, or from
// its time, whether an address is known.
func TestRecovery(t *testing.T) {
	t.Parallel()
	s := startSold(t)
	o := s.node.createOrg(t)
	sub := pay(t, s.node, s.stripe, o, "pro")
	for _, event := range s.stripe.Events() {
		if a, err := s.node.hook(event, s.wall()); err != nil || a.StatusCode != http.StatusOK {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	for _, x := range s.stripe.Subscriptions() {
		if x.ID == sub {
			s.stripe.Mail(x.Customer, "owner@example.com")
		}
	}
	// While Stripe hangs the answer comes all the same, to each address alike.
	hang := make(chan struct{})
	s.stripe.Before(func(r *http.Request) {
		if r.URL.Path == "/v1/customers" {
			<-hang
		}
	})
	ask := func(c *client, address string) string {
		t.Helper()
		began := time.Now()
		a, err := c.do(http.MethodPost, "org/recover", "", `{"email":"`+address+`"}`, "X-Request-Id: r")
		if err != nil || a.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %+v, %v", address, a, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: answered after %v", address, took)
		}
		return a.raw
	}
	known := ask(s.edges[0], "owner@example.com")
	if unknown := ask(s.edges[0], "nobody@example.com"); unknown != known {
		t.Errorf("a known address is answered %s\nand another %s", known, unknown)
	}
	if odd := ask(s.edges[0], "a@b.c\\r\\nBcc: x@example.com"); odd != known { // the third from this client's address
		t.Errorf("what is no address is answered %s", odd)
	}
	if fourth := ask(s.edges[0], "other@example.com"); fourth != known {
		t.Errorf("one too many is answered %s", fourth)
	}
	s.stripe.Before(nil)
	close(hang)
	link := regexp.MustCompile(`https://m\.example\.com/recover#(\S+)`)
	eventually(t, patient, "a mail is sent", func() bool { return link.MatchString(s.mails.String()) })
	if text := s.mails.String(); strings.Count(text, "--- a mail to") != 1 || !strings.Contains(text, "to owner@example.com") {
		t.Errorf("mails:\n%s", text)
	}
	token := link.FindStringSubmatch(s.mails.String())[1]
	// The link opens a page, at both tiers, and to open it uses nothing up.
	for _, c := range append(s.edges, s.node) {
		resp, err := http.Get("http://" + c.addr + "/recover")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "org/recover/confirm") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %v, %v", c.addr, resp, err)
		}
	}

	// A GET does nothing, nor does what is no token; then it is good once.
	if a, err := s.node.get("org/recover/confirm?token="+token, ""); err != nil || a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"x", token[:len(token)-1], strings.Repeat("A", len(token)), token[:24] + strings.Repeat("A", len(token)-24)} {
		if a, err := s.node.post("org/recover/confirm", "", `{"token":"`+bad+`"}`); err != nil || a.StatusCode != http.StatusUnauthorized || a.text("error") != "invalid_token" {
			t.Errorf("%s: %+v, %v", bad, a, err)
		}
	}
	a := s.edges[1].must(t, "org/recover/confirm", "", `{"token":"`+token+`"}`)
	if a.text("scope") != "admin" || a.text("keyId") == "" {
		t.Errorf("%s", a.raw)
	}
	for _, key := range []string{a.text("orgApiKey"), o.admin} { // the other keys stay
		if a, err := s.node.get("usage", key); err != nil || a.StatusCode != http.StatusOK || a.text("planTier") != "pro" {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if a, err := s.node.post("org/recover/confirm", "", `{"token":"`+token+`"}`); err != nil || a.StatusCode != http.StatusUnauthorized {
		t.Errorf("twice: %+v, %v", a, err)
	}
	trail, err := s.node.get("audit", o.admin)
	if err != nil || !regexp.MustCompile(`"action":"org.recovery_begun","actor":\{"type":"system","id":"recovery"\},"address":"[^"]+","request_id":"r","target":"[-0-9a-f]{36}"`).MatchString(trail.raw) {
		t.Errorf("the audit: %+v, %v", trail, err)
	}
}
