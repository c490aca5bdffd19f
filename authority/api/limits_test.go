package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestPublishedLimits goes to the limits of docs/api.md, and one beyond. The numbers are the document's and not the code's: a limit that is ten
// times as high would else be compared with itself.
func TestPublishedLimits(t *testing.T) {
	n := start(t)
	n.held = nil // the schema has the limits too, and refuses what goes beyond
	o := n.org()
	x := strings.Repeat
	ids := func(unique, all int) string {
		list := make([]string, all)
		for i := range list {
			list[i] = fmt.Sprintf("%q", fmt.Sprint("d", i%unique))
		}
		return `{"deviceIds":[` + strings.Join(list, ",") + `]}`
	}
	metadata := func(bytes int) string {
		return `{"deviceId":"one","metadata":{"a":"` + x("b", bytes-len(`{"a":""}`)) + `"}}`
	}
	parameters := func(n int) string {
		text := "limit=1"
		for i := range n - 1 {
			text += fmt.Sprint("&a", i, "=1")
		}
		return text
	}
	padded := func(body string, bytes int) string { return body + x(" ", bytes-len(body)) }
	for _, c := range []struct {
		what                  string
		method, path, in, out string // at the limit, and beyond it
		status                int
		says                  string
	}{
		{"deviceId", "POST", "devices/register", `{"deviceId":"` + x("é", 128) + `"}`, `{"deviceId":"` + x("é", 128) + `x"}`, 400, `"param":"deviceId"`},
		{"name", "POST", "devices/register", `{"deviceId":"one","name":"` + x("é", 128) + `"}`, `{"deviceId":"one","name":"` + x("é", 128) + `x"}`, 400, `"param":"name"`},
		{"metadata", "POST", "devices/register", metadata(4096), metadata(4097), 400, `"param":"metadata"`},
		{"ttlSeconds", "POST", "devices/register", `{"deviceId":"one","ttlSeconds":315360000}`, `{"deviceId":"one","ttlSeconds":315360001}`, 400, `"param":"ttlSeconds"`},
		{"ttlSeconds, the least", "POST", "devices/register", `{"deviceId":"one","ttlSeconds":1}`, `{"deviceId":"one","ttlSeconds":0}`, 400, `"param":"ttlSeconds"`},
		{"devices of a batch", "POST", "devices/revoke_batch", ids(500, 500), ids(501, 501), 400, `"param":"deviceIds"`},
		{"items of a batch", "POST", "devices/revoke_batch", ids(500, 10_000), ids(500, 10_001), 400, `"param":"deviceIds"`},
		{"devices of a batch of validates", "POST", "devices/validate_batch", ids(500, 500), ids(501, 501), 400, `"param":"deviceIds"`},
		{"body", "POST", "devices/register", padded(`{"deviceId":"one"}`, 65_536), padded(`{"deviceId":"one"}`, 65_537), 413, `"error":"body_too_large"`},
		{"body of a batch", "POST", "devices/revoke_batch", padded(ids(1, 1), 1_048_576), padded(ids(1, 1), 1_048_577), 413, `"error":"body_too_large"`},
		{"graceSeconds", "POST", "org/keys/rotate", `{"graceSeconds":2592000}`, `{"graceSeconds":2592001}`, 400, `"param":"graceSeconds"`},
		{"a page of devices", "GET", "devices/list?limit=1000", "", "devices/list?limit=1001", 400, `"param":"limit"`},
		{"a page of the audit", "GET", "audit?limit=1000", "", "audit?limit=1001", 400, `"param":"limit"`},
		{"parameters", "GET", "devices/list?" + parameters(16), "", "devices/list?" + parameters(17), 400, `"param":"query"`},
	} {
		in, out := [2]string{c.path, c.in}, [2]string{c.path, c.out}
		if c.method == http.MethodGet {
			out = [2]string{c.out, ""}
		}
		if got := n.with(o.admin, c.method, in[0], in[1]); got.StatusCode != http.StatusOK {
			t.Errorf("%s at its limit: HTTP %d %.300s", c.what, got.StatusCode, got.raw)
		}
		if got := n.with(o.admin, c.method, out[0], out[1]); got.StatusCode != c.status || !strings.Contains(got.raw, c.says) {
			t.Errorf("%s beyond its limit: HTTP %d %.300s", c.what, got.StatusCode, got.raw)
		}
	}
}

// TestAnOrgHasFiftyKeys in force, and no more.
func TestAnOrgHasFiftyKeys(t *testing.T) {
	n := start(t)
	o := n.org()
	made := 0
	for range 60 {
		r := n.with(o.admin, "POST", "org/keys", `{"scope":"validate"}`)
		if r.StatusCode != http.StatusOK {
			r.want(http.StatusConflict, `"error":"key_limit_reached"`)
			break
		}
		made++
	}
	in := strings.Count(n.with(o.admin, "GET", "org/keys", "").want(http.StatusOK).raw, `"keyId"`)
	if in != 50 || made == 0 {
		t.Errorf("%d keys were made, and there are %d, want 50", made, in)
	}
}
