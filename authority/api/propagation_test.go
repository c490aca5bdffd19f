package api_test

import (
	"strings"
	"testing"

	"machineid/authority/hub"
)

// TestRespondAsync: who prefers not to wait is answered at the commit, and told no more than that; what reports a state waits all
// the same.
func TestRespondAsync(t *testing.T) {
	n := start(t)
	o := n.sized(3)
	const async = "Prefer: respond-async"
	n.with(o.agent, "POST", "devices/register", device("d")).want(200)
	n.with(o.agent, "POST", "devices/register", device("off")).want(200)
	n.with(o.admin, "POST", "devices/revoke", device("off")).want(200)
	_, open := n.hub.shut()
	for _, c := range []struct {
		path, body, part string
		headers          []string
	}{
		{"devices/revoke", device("d"), `"revoked":true,"changed":true,"propagation":{"pending":true,"index":`, []string{async}},
		{"devices/revoke", device("d"), `"revoked":true,"changed":false,"propagation":{"pending":true,"index":`, []string{`prefer: wait=5, Respond-Async; x="y, z"`}},
		{"devices/unrevoke", device("d"), `"revoked":false,"changed":true,"propagation":{"pending":true,"index":`, []string{async, "Idempotency-Key: k"}},
		{"devices/unrevoke", device("d"), `"revoked":false,"changed":true,"propagation":{"pending":true,"index":`, []string{async, "Idempotency-Key: k"}},
		{"devices/register", device("e"), `"pending":true`, []string{async}},
		{"devices/remove", device("e"), `"pending":true`, []string{async}},
		{"org/execution", `{"enabled":false}`, `"enabled":false,"changed":true,"propagation":{"pending":true,"index":`, []string{async}},
	} {
		a := n.with(o.admin, "POST", c.path, c.body, c.headers...)
		a.want(202, c.part)
		if got := a.Header.Get("Preference-Applied"); got != "respond-async" {
			t.Errorf("%s: Preference-Applied %q", c.path, got)
		}
	}
	open()

	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		part               string
	}{
		"a refusal":           {"POST", "devices/register", device("off"), []string{async}, 403, "device_revoked"},
		"a read":              {"GET", "devices/list", "", []string{async}, 200, `"off"`},
		"another preference":  {"POST", "devices/revoke", device("d"), []string{`Prefer: respond-asynchronously, x="respond-async", y="\", respond-async`}, 200, `"edges":3`},
		"no preference":       {"POST", "devices/revoke", device("d"), []string{"Prefer: "}, 200, `"edges":3`},
		"an unfinished quote": {"POST", "devices/revoke", device("d"), []string{`Prefer: x="\`}, 200, `"edges":3`},
	} {
		waiting, open := n.hub.shut()
		answered := make(chan *answer, 1)
		go func() { answered <- n.with(o.admin, c.method, c.path, c.body, c.headers...) }()
		select {
		case <-waiting:
		case a := <-answered:
			t.Errorf("%s: answered before the edges knew: HTTP %d %s", name, a.StatusCode, a.raw)
			answered <- a
		}
		open()
		if waited := <-answered; waited.Header.Get("Preference-Applied") != "" {
			t.Errorf("%s: it waited, and says it did not", name)
		} else {
			waited.want(c.status, c.part)
		}
	}
}

// TestPropagationCall tells how far a change has come, without waiting for it.
func TestPropagationCall(t *testing.T) {
	n := start(t)
	o := n.org()
	ask := func(index string) *answer { return n.with(o.admin, "GET", "propagation?index="+index, "") }
	_, open := n.hub.shut()
	ask("8812").want(200, `"status":"ok"`, `"index":8812,"pending":true,"edges":3,"confirmed":1,"expired":1,"waiting":["e3"],"elapsedMs":2.1`, `"handler":"propagation"`)
	ask("5").want(200, `"index":5,"pending":true,"edges":null,"confirmed":null,"expired":null,"waiting":null,"elapsedMs":null`)
	open()
	ask("8812").want(200, `"index":8812,"pending":false,"edges":3,"confirmed":3,"expired":0,"waiting":[],"elapsedMs":2.1`)
	ask("5").want(200, `"index":5,"pending":false,"edges":null`)
	ask("8813").want(404, `"status":"not_found","error":"not_found"`, "index")
	for _, bad := range []string{"", "0", "-1", "1.5", "x", "18446744073709551616", "5&index=6"} {
		a := ask(bad)
		a.want(400, `"error":"missing_params"`)
		if bad != "5&index=6" && !strings.Contains(a.raw, `"param":"index"`) {
			t.Errorf("index %q: %s", bad, a.raw)
		}
	}
	n.with(o.admin, "GET", "propagation", "").want(400, `"param":"index"`)
	n.with(o.agent, "GET", "propagation?index=5", "").want(403, "insufficient_scope")
	n.with(unknownKey, "GET", "propagation?index=5", "").want(404, "org_not_found")
	n.hub.fail(hub.ErrNotLeading)
	ask("5").want(503, `"outcome":"not_done"`)
}
