package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestTimesAtTheirBounds: an end is taken as RFC 3339 has it and told as it was meant, or it is refused. Whatever is told has a year that clients can read.
func TestTimesAtTheirBounds(t *testing.T) {
	n := start(t)
	n.held = nil // a schema says less of what is written strangely
	o := n.org()
	for text, told := range map[string]string{
		"9999-12-31T23:59:59.999Z": "9999-12-31T23:59:59.999Z", "2030-01-02t15:04:05z": "2030-01-02T15:04:05.000Z",
		"2030-01-02T00:00:00.123456+02:00": "2030-01-01T22:00:00.123Z",
		"9999-12-31T23:59:59-23:59":        "", "2030-01-02T15:04:05,5Z": "", "2030-01-02T15:04:60Z": "", "2030-01-02T15:04:05+24:00": "",
		"2030-01-02T3:04:05Z": "", "0000-01-01T00:00:00Z": "", "1970-01-01T00:00:00Z": "", "2030-01-02T15:04:05.0000000001Z": "",
		"": "", "2030-01-02T15:04:05 Z": "",
	} {
		status, parts := http.StatusOK, `"%s":"`+told+`"`
		if told == "" {
			status, parts = http.StatusBadRequest, `"param":"%s"`
		}
		body := fmt.Sprintf(`{"scope":"validate","expiresAt":%q}`, text)
		n.with(o.admin, "POST", "org/keys", body).want(status, fmt.Sprintf(parts, "expiresAt"))
		n.operate("PATCH", "orgs/"+o.id.String(), fmt.Sprintf(`{"accessUntil":%q}`, text)).want(status, fmt.Sprintf(parts, "accessUntil"))
	}
}

// TestEmptyIsNotAbsent goes through the members that may be left out: absent and null mean the default, and an empty text is a value, which is
// refused wherever it would name something.
func TestEmptyIsNotAbsent(t *testing.T) {
	n := start(t)
	n.held = nil // a schema says less of what is written strangely
	o := n.org()
	one := "orgs/" + o.id.String()
	const good, bad, fields = http.StatusOK, http.StatusBadRequest, `{%s"%s":%s}`
	for _, c := range []struct {
		operator     bool
		method, path string
		rest, name   string
		empty, null  int
	}{
		{false, "POST", "devices/register", `"deviceId":"d",`, "name", good, good},
		{false, "POST", "devices/register", `"deviceId":"d",`, "metadata", bad, good},
		{false, "POST", "devices/register", `"deviceId":"d",`, "ttlSeconds", bad, good},
		{false, "POST", "devices/register", ``, "deviceId", bad, bad},
		{false, "POST", "devices/revoke_batch", ``, "scope", bad, bad},
		{false, "POST", "devices/revoke_batch", `"scope":"all_active",`, "deviceIds", bad, good},
		{false, "POST", "devices/revoke_batch", `"deviceIds":["d"],`, "scope", bad, good},
		{false, "POST", "org/execution", ``, "enabled", bad, bad},
		{false, "POST", "org/settings", ``, "version", bad, bad},
		{false, "POST", "org/keys", `"scope":"agent",`, "name", good, good},
		{false, "POST", "org/keys", ``, "scope", bad, bad},
		{false, "POST", "org/keys", `"scope":"agent",`, "expiresAt", bad, good},
		{false, "POST", "org/keys/rotate", `"graceSeconds":60,`, "keyId", bad, good},
		{false, "POST", "org/keys/rotate", ``, "graceSeconds", bad, good},
		{false, "POST", "org/keys/revoke", ``, "keyId", bad, bad},
		{false, "POST", "org/delete", ``, "confirm", bad, bad},
		{false, "POST", "org/delete", `"confirm":"x",`, "subscription", bad, bad},
		{false, "POST", "billing/checkout", ``, "plan", bad, bad},
		{false, "POST", "org/recover", ``, "email", bad, bad},
		{false, "POST", "org/recover/confirm", ``, "token", bad, bad},
		{true, "POST", "orgs", ``, "name", good, good},
		{true, "POST", "orgs", ``, "externalId", good, good},
		{true, "POST", "orgs", ``, "planTier", bad, good},
		{true, "POST", "orgs", ``, "version", bad, good},
		{true, "PATCH", one, ``, "planTier", bad, good},
		{true, "PATCH", one, ``, "hold", bad, good},
		{true, "PATCH", one, ``, "accessUntil", bad, good},
		{true, "PATCH", one, ``, "limit", bad, good},
		{true, "PATCH", one, ``, "version", bad, good},
		{true, "PUT", "plans", `"plans":[{"planTier":"free","limit":3}],`, "graceDays", bad, bad},
		{true, "PUT", "plans", `"graceDays":7,`, "plans", bad, bad},
		{true, "POST", "billing/sync", ``, "cursor", bad, http.StatusConflict}, // there is no Stripe
		{true, "POST", "billing/sync", ``, "limit", bad, http.StatusConflict},
	} {
		for value, status := range map[string]int{`""`: c.empty, "null": c.null} {
			body := fmt.Sprintf(fields, c.rest, c.name, value)
			t.Run(c.method+" "+strings.ReplaceAll(c.path, "/", ":")+" "+body, func(t *testing.T) {
				a := n.valued(c.operator, o.admin, c.method, c.path, body)
				a.t = t
				a.want(status)
				// The fault of what is left out and must not be is named by its own parameter, or by the one that would do in its place.
				if p := a.field("param"); status == bad && p != c.name && p != "deviceIds" && p != "confirm" {
					t.Errorf("the fault is of %q: %s", p, a.raw)
				}
			})
		}
	}
}

// valued makes a call as the operator, or with an org's key.
func (n *node) valued(operator bool, key, method, path, body string) *answer {
	n.t.Helper()
	if operator {
		return n.operate(method, path, body)
	}
	return n.with(key, method, path, body)
}

// TestNumbersAtTheirBounds: a number is what JSON and the query's one form say, exactly, or it is refused.
func TestNumbersAtTheirBounds(t *testing.T) {
	n := start(t)
	n.held = nil // a schema says less of what is written strangely
	o := n.org()
	const good, bad = http.StatusOK, http.StatusBadRequest
	for number, status := range map[string]int{
		"1": good, "315360000": good, "0": bad, "-0": bad, "-1": bad, "315360001": bad, "1.0": bad, "1e0": bad, "1E1": bad, "1e400": bad, "01": bad, "+1": bad, "0x1": bad,
		"9007199254740993": bad, "9223372036854775807": bad, "9223372036854775808": bad, "18446744073709551617": bad, `"1"`: bad, "true": bad, "[1]": bad, "NaN": bad, "Infinity": bad,
	} {
		n.with(o.admin, "POST", "devices/register", `{"deviceId":"d","ttlSeconds":`+number+`}`).want(status)
	}
	for text, status := range map[string]int{
		"1": good, "1000": good, "0": bad, "1001": bad, "05": bad, "%2B5": bad, "+5": bad, "5+": bad, "5.0": bad, "5e0": bad, "0x5": bad, "": bad, "%D9%A5": bad, "5%00": bad,
		"65537": bad, "18446744073709551617": bad,
	} {
		for _, path := range []string{"devices/list", "org/export", "audit"} {
			n.with(o.admin, "GET", path+"?limit="+text, "").want(status)
		}
		n.operate("GET", "orgs?limit="+text, "").want(status)
	}
	for _, text := range []string{"0", "01", "%2B1", "-1", "1.0", "", "18446744073709551616"} {
		n.with(o.admin, "GET", "propagation?index="+text, "").want(bad, `"param":"index"`)
	}
	// What is kept for its owner comes back digit by digit.
	const kept = `{"a":9007199254740993,"b":-0,"c":1.0,"d":1e5,"e":"\u0000","f":0.10000000000000000000000000000001}`
	n.with(o.admin, "POST", "devices/register", `{"deviceId":"d","metadata":`+kept+`}`).want(good, `"metadata":`+kept)
	n.with(o.admin, "GET", "devices/get?deviceId=d", "").want(good, `"metadata":`+kept)
}

// TestOneFormOfIDs: an id of an org is taken in the form in which it is told, and a path as it stands: what is encoded names nothing.
func TestOneFormOfIDs(t *testing.T) {
	n := start(t)
	n.held = nil // a schema says less of what is written strangely
	o := n.org()
	id := o.id.String()
	n.operate("GET", "orgs?cursor="+id, "").want(200)
	n.operate("GET", "orgs/"+id+"/", "").want(200)
	for _, other := range []string{
		strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), id + "%20", "%20" + id, "", id + "0",
	} {
		n.operate("GET", "orgs?cursor="+other, "").want(400, `"param":"cursor"`)
	}
	encoded := fmt.Sprintf("%%%02x", id[0]) + id[1:]
	for _, path := range []string{encoded, strings.ToUpper(encoded), id + "%2F", id + "%00", id + "+", id + ";a", id + "//", "./" + id, "%2e/" + id, id + "%"} {
		n.operate("GET", "orgs/"+path, "").want(404, `"error":"not_found"`)
	}
}
