//go:build unix

package cli

import (
	"crypto/rand"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

// hostileWorld is a dev process with an org in every state that the existing calls make.
type hostileWorld struct {
	*devNode

	full     org // three active devices, d1 to d3, and the revoked d0: at its cap
	disabled org
	nobody   string // a key of no org
	dir      string // of the data
}

func newHostileWorld(t *testing.T) *hostileWorld {
	t.Helper()
	w := &hostileWorld{dir: t.TempDir()}
	w.devNode = launchDev(t, w.dir)
	w.ready()
	c := newClient(t, w.authority)
	w.full, w.disabled = c.createOrg(t), c.createOrg(t)
	c.must(t, "devices/register", w.full.admin, naming("d0"))
	c.must(t, "devices/revoke", w.full.admin, naming("d0"))
	for _, id := range []string{"d1", "d2", "d3"} {
		c.must(t, "devices/register", w.full.admin, naming(id))
	}
	c.must(t, "org/execution", w.disabled.admin, `{"enabled":false}`)
	key, err := orgkey.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.nobody = key.Reveal()
	return w
}

func (w *hostileWorld) tiers() map[string]string {
	return map[string]string{"edge": w.edge, "authority": w.authority}
}

// row is one call and the answer that the contract names for it. fields are compared as texts.
type row struct {
	method, path, key, body string
	headers                 []string
	status                  int
	fields                  map[string]any
}

// refusal is what an error's answer says.
func refusal(status, code string) map[string]any {
	return map[string]any{"status": status, "error": code}
}

func decided(code, status string) map[string]any {
	return map[string]any{
		"code": code, "status": status, "reason": strings.ToLower(code), "allowed": code == codeAllow, "valid": code == codeAllow,
		"revoked": code == codeRevoked, "handler": "devices/validate",
	}
}

// errorRows is docs/api.md's tables of errors and codes, as far as today's calls can come to them: no plan freezes or expires yet,
// dev limits no rates, and without an authority is TestEdgeAlone.
func (w *hostileWorld) errorRows() []row {
	admin, agent := w.full.admin, w.full.agent
	missing := func(param string) map[string]any {
		return map[string]any{"status": "error", "error": "missing_params", "param": param}
	}
	atCap := map[string]any{
		"status": "blocked", "error": "device_limit_reached", "planTier": "free", "planState": "active", "limit": 3.0,
		"devicesUsed": 3.0, "remaining": 0.0, "overLimit": false, "softGraceWindow": false, "accessUntil": nil,
	}
	rows := []row{
		{"POST", "devices/register", admin, naming("d9"), nil, 403, atCap},
		{"POST", "devices/unrevoke", admin, naming("d0"), nil, 403, atCap},
		{"POST", "devices/register", admin, naming("d9"), []string{"MachineID-Version: 1"}, 200, map[string]any{"status": "limit_reached", "overLimit": true}},
		{"POST", "devices/register", admin, naming("d0"), nil, 403, refusal("revoked", "device_revoked")},
		{"POST", "devices/register", agent, naming("d0"), nil, 403, refusal("revoked", "device_revoked")},
		{"POST", "org/execution", admin, `{}`, nil, 400, missing("enabled")},
		{"POST", "org/execution", admin, `{"enabled":"no"}`, nil, 400, missing("enabled")},
		{"GET", "devices/get", admin, "", nil, 400, missing("deviceId")},
		{"GET", "devices/get?deviceId=", admin, "", nil, 400, missing("deviceId")},
		{"GET", "devices/get?deviceId=a&deviceId=b", admin, "", nil, 400, missing("query")},
		{"GET", "devices/get?deviceId=%zz", admin, "", nil, 400, missing("query")},
		{"GET", "devices/get?deviceId=none", admin, "", nil, 404, refusal("not_found", "device_not_found")},
		{"GET", "devices/list?limit=0", admin, "", nil, 400, missing("limit")},
		{"GET", "devices/list?limit=1001", admin, "", nil, 400, missing("limit")},
		{"GET", "devices/list?cursor=x", admin, "", nil, 400, missing("cursor")},
		{"POST", "devices/register", admin, `{"deviceId":"d1","ttlSeconds":0}`, nil, 400, missing("ttlSeconds")},
		{"POST", "devices/register", admin, `{"deviceId":"d1","metadata":[]}`, nil, 400, missing("metadata")},
		{"POST", "devices/register", admin, `{"deviceId":"d1","metadata":{"a":"` + strings.Repeat("x", 5000) + `"}}`, nil, 400, missing("metadata")},
		{"POST", "devices/register", admin, `{"deviceId":"d1","name":7}`, nil, 400, missing("name")},
		{"POST", "no/such/path", admin, `{}`, nil, 404, map[string]any{"error": "not_found", "handler": "unknown"}},
		{"PATCH", "no/such/path", "", "", nil, 404, map[string]any{"error": "not_found", "handler": "unknown"}},
		{"GET", "devices//list", admin, "", nil, 404, refusal("not_found", "not_found")},
		{"GET", "devices%2flist", admin, "", nil, 404, refusal("not_found", "not_found")},
		{"GET", "devices/../usage", admin, "", nil, 404, refusal("not_found", "not_found")},
		{"GET", "Usage", admin, "", nil, 404, refusal("not_found", "not_found")},
		{"GET", "usage/", admin, "", nil, 200, map[string]any{"status": "ok", "handler": "usage"}},

		{"POST", "devices/validate", agent, naming("d1"), nil, 200, decided(codeAllow, "ok")},
		{"POST", "devices/validate", agent, naming("d0"), nil, 200, decided(codeRevoked, "revoked")},
		{"POST", "devices/validate", agent, naming("none"), nil, 200, decided(codeNotFound, "not_found")},
		{"POST", "devices/validate", w.disabled.agent, naming("none"), nil, 200, decided(codeDisabled, "blocked")},
		{"POST", "devices/validate", w.nobody, naming("d1"), nil, 200, decided("ORG_NOT_FOUND", "not_found")},
		{"POST", "devices/validate", "", naming("d1"), nil, 200, decided("INVALID_ORG_KEY", "error")},
		{"POST", "devices/validate", "org_short", `{`, nil, 200, decided("INVALID_ORG_KEY", "error")},
		{"GET", "devices/validate", agent, "", nil, 200, decided("INVALID_DEVICE_ID", "error")},
		{"GET", "devices/validate?deviceId=d1&deviceId=d1", agent, "", nil, 200, decided("INVALID_DEVICE_ID", "error")},
		{"GET", "devices/validate?deviceId=+d1%20", agent, "", nil, 200, decided(codeAllow, "ok")},
		{"DELETE", "devices/validate", agent, "", nil, 405, decided("INVALID_DEVICE_ID", "error")},
		{"POST", "devices/validate", agent, strings.Repeat(" ", wire.MaxBody+1), nil, 413, decided("INVALID_DEVICE_ID", "error")},
	}
	for _, body := range badIDs {
		rows = append(rows, row{"POST", "devices/validate", agent, body, nil, 200, decided("INVALID_DEVICE_ID", "error")})
	}
	for _, r := range wire.Routes() {
		if r.Operator {
			continue // no org key reaches them
		}
		rows = append(rows, w.routeRows(r)...)
	}
	return rows
}

// badIDs are bodies without a device id that keeps the rules.
var badIDs = []string{
	``, ` `, `{`, `[]`, `null`, `"d1"`, `{}`, `{"deviceId":null}`, `{"deviceId":7}`, `{"deviceId":""}`, `{"deviceId":" \t"}`, `{"deviceid":"d1"}`,
	`{"deviceId":"d\u0000"}`, `{"deviceId":"d\u0085x"}`, "{\"deviceId\":\"d\x001\"}", "{\"deviceId\":\"\xff\"}", `{"deviceId":"\ud800"}`,
	`{"deviceId":"d1","deviceId":"d1"}`, `{"deviceId":"d1","device\u0049d":"d1"}`, `{"deviceId":"d1"}{}`, `{"deviceId":"d1"} x`,
	`{"deviceId":"` + strings.Repeat("x", 257) + `"}`, `{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `,"deviceId":"d1"}`,
	"\ufeff" + `{"deviceId":"d1"}`,
}

// goodBody has what any call needs.
const goodBody = `{"deviceId":"none","deviceIds":["none"],"enabled":true,"version":2,"plan":"pro","keyId":"AAAAAAAA","confirm":"x"}`

// routeRows is what holds for every call but validate, in the order of checks: each case is also wrong in all that is checked later.
func (w *hostileWorld) routeRows(r *wire.Route) (rows []row) {
	if r.Validate {
		return nil
	}
	method := http.MethodGet
	if r.Post {
		method = http.MethodPost
		rows = append(rows, row{"POST", r.Path, "", strings.Repeat("[", r.MaxBody+1), nil, 413, refusal("error", "body_too_large")})
	}
	rows = append(rows, row{"PUT", r.Path, "org_bad", "", nil, 405, refusal("error", "method_not_allowed")})
	if r.Path == "webhooks/stripe" { // signed, and not set up here
		return append(rows, row{"POST", r.Path, "", "{", nil, 503, refusal("error", "not_configured")})
	}
	if r.Path == "org/create" || strings.HasPrefix(r.Path, "org/recover") {
		return append(rows, row{"POST", r.Path, "", "{", nil, 400, map[string]any{"error": "missing_params", "param": "body", "handler": r.Handler}})
	}
	key := w.full.admin
	other := "0"
	if strings.HasSuffix(key, other) {
		other = "1"
	}
	for _, bad := range []string{"org_", "key_" + key[4:], key[:len(key)-1], key + "0", key[:len(key)-1] + other, strings.ToLower(key) + "!"} {
		rows = append(rows, row{method, r.Path, bad, "{", nil, 401, refusal("error", "invalid_org_key")})
	}
	rows = append(
		rows, row{method, r.Path, "", "{", nil, 400, map[string]any{"error": "missing_params", "param": "x-org-key", "handler": r.Handler}},
		row{method, r.Path, key, `{"deviceId":"none"}`, []string{"x-org-key: " + key}, 400, refusal("error", "bad_request")},
	)
	path, good := r.Path, goodBody
	if r.Path == "org/keys" {
		good = `{"scope":"agent"}` // which means another thing to batches
	}
	if slices.Contains(r.Query, "deviceId") {
		path += "?deviceId=none"
	}
	if slices.Contains(r.Query, "index") {
		path += "?index=1"
	}
	if r.Decides { // any key may ask, and what it may not is a decision
		return append(
			rows, row{"POST", r.Path, w.full.agent, `{"deviceIds":["none"]}`, nil, 200, map[string]any{"status": "ok"}},
			row{"POST", r.Path, w.nobody, `{"deviceIds":["none"]}`, nil, 200, map[string]any{"status": "ok"}},
			row{"POST", r.Path, key, `{"deviceIds":[]}`, nil, 400, map[string]any{"error": "missing_params", "param": "deviceIds"}},
			row{"POST", r.Path, key, `{"deviceIds":[],"deviceIds":["d1"]}`, nil, 400, map[string]any{"error": "missing_params", "param": "body"}},
		)
	}
	rows = append(rows, row{method, path, w.nobody, good, nil, 404, refusal("not_found", "org_not_found")})
	if r.Path != "devices/register" {
		rows = append(rows, row{method, path, w.full.agent, good, nil, 403, refusal("error", "insufficient_scope")})
	}
	if !strings.HasPrefix(r.Path, "devices/") || !r.Post {
		return rows
	}
	for _, body := range badIDs {
		param := "body"
		if strings.HasPrefix(body, `{`) && strings.HasSuffix(body, `"}`) || body == `{}` || strings.HasSuffix(body, `:7}`) || strings.HasSuffix(body, `null}`) {
			param = "" // body or deviceId, by what is wrong in it
		}
		fields := map[string]any{"error": "missing_params"}
		if param != "" {
			fields["param"] = param
		}
		rows = append(rows, row{"POST", r.Path, w.nobody, body, nil, 400, fields})
	}
	if r.Path != "devices/register" && !strings.HasSuffix(r.Path, "_batch") {
		rows = append(rows, row{"POST", r.Path, key, good, nil, 404, refusal("not_found", "device_not_found")})
	}
	return rows
}

// TestEveryError proves every row of the error table at both tiers, on connections that go on in between.
func TestEveryError(t *testing.T) {
	t.Parallel()
	w := newHostileWorld(t)
	rows := w.errorRows()
	for tier, addr := range w.tiers() {
		t.Run(tier, func(t *testing.T) {
			c := newClient(t, addr)
			for _, r := range rows {
				a, err := c.do(r.method, r.path, r.key, r.body, r.headers...)
				if err != nil {
					t.Errorf("%s %s %.80q: %v", r.method, r.path, r.body, err)
					continue
				}
				if a.StatusCode != r.status {
					t.Errorf("%s %s %.80q: HTTP %d, want %d: %s", r.method, r.path, r.body, a.StatusCode, r.status, a.raw)
				}
				for _, name := range slices.Sorted(maps.Keys(r.fields)) {
					if got, present := a.body[name]; !present || got != r.fields[name] {
						t.Errorf("%s %s %.80q: %s is %v, want %v: %s", r.method, r.path, r.body, name, got, r.fields[name], a.raw)
					}
				}
				if a.StatusCode == http.StatusMethodNotAllowed && a.Header.Get("Allow") == "" {
					t.Errorf("%s %s: no Allow", r.method, r.path)
				}
			}
			t.Logf("%d rows", len(rows))
		})
	}
}

// TestEdgeAlone proves that an edge which never met an authority answers everything, and nothing with yes.
func TestEdgeAlone(t *testing.T) {
	t.Parallel()
	e := startEdge(t, freeAddress(t))
	eventually(t, patient, "the edge listens", func() bool {
		conn, err := net.Dial("tcp", e.http)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	key, err := orgkey.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, e.http)
	for _, r := range wire.Routes() {
		if r.Operator {
			continue // no org key reaches them
		}
		method := map[bool]string{true: http.MethodPost, false: http.MethodGet}[r.Post]
		began := time.Now()
		a, err := c.do(method, r.Path, key.Reveal(), goodBody)
		if took := time.Since(began); err != nil || took > time.Second {
			t.Fatalf("%s: %v after %v", r.Path, err, took)
		}
		said := a.text("error") + " " + a.text("outcome")
		status, want := http.StatusServiceUnavailable, "system_unavailable not_done"
		switch {
		case r.Validate:
			status, want, said = http.StatusOK, codeUnsure, a.code()
		case r.Decides:
			status, want, said = http.StatusOK, "true", strconv.FormatBool(strings.Contains(a.raw, `[{"deviceId":"none","allowed":false,"code":"SYSTEM_UNAVAILABLE"}]`) && a.Header.Get("Retry-After") != "")
		}
		if a.StatusCode != status || said != want {
			t.Errorf("%s: HTTP %d: %s", r.Path, a.StatusCode, a.raw)
		}
	}
}
