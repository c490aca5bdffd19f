package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"

	"machineid/shared/orgkey"
)

// TestErrorTable is the table of docs/api.md, Errors.
func TestErrorTable(t *testing.T) {
	for _, c := range []struct {
		err          *Error
		http         int
		status, code string
	}{
		{MissingParams("deviceId", "m"), 400, "error", "missing_params"},
		{MissingOrgKey(), 400, "error", "missing_params"},
		{badDeviceID().AsError(), 400, "error", "missing_params"},
		{InvalidOrgKey(orgkey.ErrChecksum), 401, "error", "invalid_org_key"},
		{OrgNotFound(), 404, "not_found", "org_not_found"},
		{DeviceNotFound(), 404, "not_found", "device_not_found"},
		{NotFound(), 404, "not_found", "not_found"},
		{InsufficientScope(), 403, "error", "insufficient_scope"},
		{DeviceLimitReached(), 403, "blocked", "device_limit_reached"},
		{DeviceRevoked(), 403, "revoked", "device_revoked"},
		{PlanFrozen(), 403, "blocked", "plan_frozen"},
		{EntitlementExpired(), 403, "blocked", "entitlement_expired"},
		{RateLimited(0), 429, "error", "rate_limited"},
		{SystemUnavailable(OutcomeNotDone, 0), 503, "error", "system_unavailable"},
		{SystemUnavailable(OutcomeUnknown, 2), 503, "error", "system_unavailable"},
		{SystemUnavailable(OutcomeCommitted, 3), 503, "error", "system_unavailable"},
		{Refused("m"), 409, "error", "refused"},
		{MemberNotFound("m"), 404, "not_found", "member_not_found"},
		{InvalidOperatorToken(), 401, "error", "invalid_operator_token"},
		{Refused("m"), 409, "error", "refused"},
		{OtherStore("m"), 409, "error", "other_store"},
		{ClusterExists("m"), 409, "error", "cluster_exists"},
		{SignupClosed(), 403, "error", "signup_closed"},
		{MethodNotAllowed(Match([]byte("/api/v1/usage"))), 405, "error", "method_not_allowed"},
		{BodyTooLarge(), 413, "error", "body_too_large"},
		{BadRequest("m"), 400, "error", "bad_request"},
		{HeadTooLarge(), 431, "error", "head_too_large"},
		{RequestTimeout(), 408, "error", "request_timeout"},
	} {
		t.Run(c.code, func(t *testing.T) {
			ctx, got := write(t, Match([]byte("/api/v1/org/create")), c.err)
			want := map[string]any{
				"status": c.status, "error": c.code, "message": c.err.Message, "handler": "org_create", "request_id": "r",
			}
			if c.err.Param != "" {
				want["param"] = c.err.Param
			}
			if c.err.Outcome != "" {
				want["outcome"] = c.err.Outcome
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			h := &ctx.Response.Header
			if h.StatusCode() != c.http || c.err.Message == "" || !strings.Contains(c.err.Error(), c.code) {
				t.Errorf("%s: %v", h, c.err)
			}
			if due := c.http == 429 || c.http == 503; (len(h.Peek("Retry-After")) > 0) != due || string(h.Peek("Retry-After")) == "0" {
				t.Errorf("Retry-After %q", h.Peek("Retry-After"))
			}
			if (len(h.Peek("Allow")) > 0) != (c.http == 405) {
				t.Errorf("Allow %q", h.Peek("Allow"))
			}
		})
	}
}

// write writes an error and returns the body.
func write(t *testing.T, route *Route, e *Error) (*fasthttp.RequestCtx, map[string]any) {
	t.Helper()
	ctx := new(fasthttp.RequestCtx)
	WriteError(ctx, route, []byte("r"), e)
	h := &ctx.Response.Header
	if string(h.ContentType()) != "application/json" || string(h.Peek("Cache-Control")) != "no-store" || string(h.Peek("X-Request-Id")) != "r" {
		t.Errorf("%s", h)
	}
	var body map[string]any
	if err := json.Unmarshal(ctx.Response.Body(), &body); err != nil {
		t.Fatalf("%s: %v", ctx.Response.Body(), err)
	}
	return ctx, body
}

func TestErrorHandlers(t *testing.T) {
	if _, body := write(t, nil, NotFound()); body["handler"] != "unknown" {
		t.Error(body)
	}
	if _, body := write(t, &Route{Path: "operator/orgs"}, InvalidOperatorToken()); body["handler"] != nil {
		t.Error(body)
	}
}

// Each error of a route that says ok says that it is not, and no other does.
func TestErrorsSayOK(t *testing.T) {
	said := 0
	for _, route := range Routes() {
		for _, e := range []*Error{SystemUnavailable(OutcomeUnknown, 1), RateLimited(1), BodyTooLarge(), HeadTooLarge(), MethodNotAllowed(route)} {
			_, body := write(t, route, e)
			ok, there := body["ok"]
			if there != route.OK || there && ok != false {
				t.Errorf("%s: %v", route.Path, body)
			}
			if there {
				said++
			}
		}
	}
	if said == 0 {
		t.Error("no route says ok")
	}
}

func TestErrorFields(t *testing.T) {
	e := DeviceLimitReached().With("limit", 3).With("planTier", "<free>").With("accessUntil", nil).With("bad", func() {})
	_, body := write(t, nil, e)
	want := map[string]any{
		"status": "blocked", "error": "device_limit_reached", "message": e.Message, "handler": "unknown", "request_id": "r",
		"limit": 3.0, "planTier": "<free>", "accessUntil": nil, "bad": nil,
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
}

// Every error on the validate route is a decision.
func TestErrorsOnValidate(t *testing.T) {
	for _, c := range []struct {
		err          *Error
		http         int
		code, reason string
		message      bool
	}{
		{MethodNotAllowed(table.validate), 405, "INVALID_DEVICE_ID", "invalid_device_id", false},
		{BodyTooLarge(), 413, "INVALID_DEVICE_ID", "invalid_device_id", false},
		{BadRequest("m"), 400, "INVALID_DEVICE_ID", "invalid_device_id", true},
		{RequestTimeout(), 408, "INVALID_DEVICE_ID", "invalid_device_id", true},
		{HeadTooLarge(), 431, "INVALID_DEVICE_ID", "invalid_device_id", true},
		{RateLimited(3), 200, "SYSTEM_UNAVAILABLE", "rate_limited", false},
		{SystemUnavailable(OutcomeNotDone, 3), 200, "SYSTEM_UNAVAILABLE", "system_unavailable", false},
		{internalError(), 200, "SYSTEM_UNAVAILABLE", "system_unavailable", false},
		{OrgNotFound(), 200, "SYSTEM_UNAVAILABLE", "system_unavailable", false}, // a mistake of the caller: no guess is made
	} {
		ctx, body := write(t, table.validate, c.err)
		_, message := body["message"]
		if ctx.Response.StatusCode() != c.http || body["code"] != c.code || body["reason"] != c.reason || body["allowed"] != false || message != c.message {
			t.Errorf("%v: HTTP %d %v", c.err, ctx.Response.StatusCode(), body)
		}
		if (c.http == 200) != (len(ctx.Response.Header.Peek("Retry-After")) > 0) {
			t.Errorf("%v: Retry-After %q", c.err, ctx.Response.Header.Peek("Retry-After"))
		}
		if (c.http == 405) != (len(ctx.Response.Header.Peek("Allow")) > 0) {
			t.Errorf("%v: Allow %q", c.err, ctx.Response.Header.Peek("Allow"))
		}
	}
}

func TestWriteJSON(t *testing.T) {
	var ctx fasthttp.RequestCtx
	WriteJSON(&ctx, 202, []byte("r"), struct {
		Envelope
		Name string `json:"name"`
	}{Envelope{"ok", "usage", "r"}, "<a&b>"})
	if got := string(ctx.Response.Body()); got != `{"status":"ok","handler":"usage","request_id":"r","name":"<a&b>"}` || ctx.Response.StatusCode() != 202 {
		t.Errorf("HTTP %d %s", ctx.Response.StatusCode(), got)
	}
}

func TestWriteJSONOfWhatCannotBeEncoded(t *testing.T) {
	p := serve(t, func(ctx *fasthttp.RequestCtx) { From(ctx).JSON(ctx, 200, make(chan int)) }, Options{})
	conn := p.dial(t)
	conn.send(get("/api/v1/usage"))
	conn.read().want(t, 500, "error", "system_unavailable")
}
