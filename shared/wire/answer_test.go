package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

// A denial as docs/api.md, Validate, has it, byte for byte but for its line break.
func TestAppendDecisionGolden(t *testing.T) {
	const want = `{"allowed":false,"code":"DEVICE_REVOKED","request_id":"fbf77ff5-06ed-42eb-8e07-024c32ef1e68","handler":"devices/validate",` +
		`"status":"revoked","reason":"device_revoked","deviceId":"agent-01","valid":false,"revoked":true}`
	got := AppendDecision(nil, &Decision{
		Code: decision.DeviceRevoked, RequestID: []byte("fbf77ff5-06ed-42eb-8e07-024c32ef1e68"), DeviceID: []byte("agent-01"),
	})
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

type decisionBody struct {
	Allowed   *bool   `json:"allowed"`
	Code      string  `json:"code"`
	RequestID string  `json:"request_id"`
	Handler   string  `json:"handler"`
	Status    string  `json:"status"`
	Reason    string  `json:"reason"`
	DeviceID  *string `json:"deviceId"`
	Valid     *bool   `json:"valid"`
	Revoked   *bool   `json:"revoked"`
}

// TestDecisionTable is the table of codes in docs/api.md, Validate.
func TestDecisionTable(t *testing.T) {
	statuses := map[string]string{
		"INVALID_ORG_KEY": "error", "INVALID_DEVICE_ID": "error", "SYSTEM_UNAVAILABLE": "error", "ORG_NOT_FOUND": "not_found",
		"ORG_DISABLED": "blocked", "PLAN_FROZEN": "blocked", "ENTITLEMENT_EXPIRED": "blocked", "DEVICE_NOT_FOUND": "not_found",
		"DEVICE_REVOKED": "revoked", "ALLOW": "ok",
	}
	if len(decision.Codes()) != len(statuses) {
		t.Errorf("%d codes, the contract has %d", len(decision.Codes()), len(statuses))
	}
	id := "d"
	for _, code := range decision.Codes() {
		name := code.String()
		allowed, revoked := name == "ALLOW", name == "DEVICE_REVOKED"
		want := decisionBody{
			Allowed: &allowed, Code: name, RequestID: "r", Handler: "devices/validate", Status: statuses[name],
			Reason: strings.ToLower(name), DeviceID: &id, Valid: &allowed, Revoked: &revoked,
		}
		var got decisionBody
		if err := json.Unmarshal(AppendDecision(nil, &Decision{Code: code, RequestID: []byte("r"), DeviceID: []byte(id)}), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What is no code is no decision: it must never come out as an ALLOW or as bytes that are no JSON.
func TestUnknownCodesAreUnavailable(t *testing.T) {
	for c := range 256 {
		code := decision.Code(c)
		if code >= decision.InvalidOrgKey && code <= decision.Allow {
			continue
		}
		var got decisionBody
		if err := json.Unmarshal(AppendDecision(nil, &Decision{Code: code}), &got); err != nil || got.Code != "SYSTEM_UNAVAILABLE" || *got.Allowed || got.DeviceID != nil {
			t.Errorf("code %d: %+v, %v", c, got, err)
		}
	}
}

func TestWriteDecision(t *testing.T) {
	for _, c := range []struct {
		name  string
		d     Decision
		retry string
		has   string
	}{
		{"allow", Decision{Code: decision.Allow}, "", `"reason":"allow"`},
		{"unavailable", Decision{Code: decision.SystemUnavailable}, "1", `"reason":"system_unavailable"`},
		{"rate limited", Decision{Code: decision.SystemUnavailable, Reason: ReasonRateLimited, RetryAfter: 7}, "7", `"reason":"rate_limited"`},
		{"no code", Decision{}, "1", `"code":"SYSTEM_UNAVAILABLE"`},
		{"denied", Decision{Code: decision.OrgDisabled, RetryAfter: 7}, "", `"reason":"org_disabled"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ctx fasthttp.RequestCtx
			c.d.RequestID = []byte("r")
			ctx.Response.SetBodyString("of an answer before")
			WriteDecision(&ctx, &c.d)
			h := &ctx.Response.Header
			if string(h.Peek("Retry-After")) != c.retry || h.StatusCode() != 200 || string(h.Peek("Cache-Control")) != "no-store" ||
				string(h.Peek("X-Request-Id")) != "r" || string(h.ContentType()) != "application/json" {
				t.Errorf("%s", h)
			}
			if body := ctx.Response.Body(); !json.Valid(body) || !strings.Contains(string(body), c.has) {
				t.Errorf("%s", body)
			}
		})
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                   `""`,
		"agent-01":           `"agent-01"`,
		`a"b\c/d`:            `"a\"b\\c/d"`,
		"α😀":                 `"α😀"`,
		"<script>&'":         `"<script>&'"`,
		"a\u2028b\u2029c":    `"a\u2028b\u2029c"`,
		"\x00\t\x1f\x7f":     `"\u0000\u0009\u001f\u007f"`,
		"a\xffb\xc3":         `"a\ufffdb\ufffd"`,
		"\ufffd":             "\"\ufffd\"",
		"\xe2\x80":           `"\ufffd\ufffd"`,
		"\u2027\u202a\u0085": "\"\u2027\u202a\u0085\"",
	} {
		if got := string(appendString(nil, in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
		if got := string(appendString(nil, []byte(in))); got != want {
			t.Errorf("bytes %q: %s, want %s", in, got, want)
		}
	}
}

func FuzzAppendDecision(f *testing.F) {
	f.Add(byte(1), "", "r", []byte("agent-01"))
	f.Add(byte(10), "rate_limited", "fbf77ff5-06ed-42eb-8e07-024c32ef1e68", []byte("a\"\\\u2028\u2029α\xff\x00"))
	f.Add(byte(0), "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, code byte, reason, requestID string, deviceID []byte) {
		d := Decision{Code: decision.Code(code), Reason: reason, RequestID: []byte(requestID), DeviceID: deviceID}
		body := AppendDecision([]byte("before"), &d)[len("before"):]
		dec := json.NewDecoder(strings.NewReader(string(body)))
		dec.DisallowUnknownFields()
		var got decisionBody
		if err := dec.Decode(&got); err != nil || dec.More() {
			t.Fatalf("%q: %v", body, err)
		}
		if !utf8.Valid(body) || strings.ContainsAny(string(body), "\u2028\u2029\x00\n") {
			t.Fatalf("%q", body)
		}
		if *got.Allowed != (d.Code == decision.Allow) || *got.Valid != *got.Allowed || *got.Revoked != (d.Code == decision.DeviceRevoked) {
			t.Fatalf("%q of code %d", body, code)
		}
		if got.RequestID != strings.ToValidUTF8(requestID, "\ufffd") && utf8.ValidString(requestID) {
			t.Fatalf("request id %q of %q", got.RequestID, requestID)
		}
		if (got.DeviceID != nil) != (deviceID != nil) || utf8.Valid(deviceID) && deviceID != nil && *got.DeviceID != string(deviceID) {
			t.Fatalf("device id in %q of %q", body, deviceID)
		}
		if reason != "" && utf8.ValidString(reason) && got.Reason != reason {
			t.Fatalf("reason %q of %q", got.Reason, reason)
		}
	})
}
