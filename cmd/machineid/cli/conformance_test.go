//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"machineid/shared/openapi/contract"
	"machineid/shared/wire"
)

// pace is one call of a walk through the contract: who asks, for what, and the answer's names, types and values. In path, body and
// shape, $name stands for what an earlier answer was kept as.
type pace struct {
	as     string // "admin", "agent", "validate", or a kept key; "operator"; "" for none
	call   string // method and path
	body   string
	status int
	// shape names every field of the answer but handler and request_id: name=JSON or name:kind, where kind is s, n, b, o, a, t (a time), and
	// a question mark allows null.
	shape string
	keep  string // name=field, or name=field.member: keeps a part of the answer
	each  string // a field, then the shape of the objects that it lists, of which there must be some
	only  int    // the generation that it is for; 0: both
	with  string // a header
	at    string // the tier that it is for; "": both
}

// Parts of shapes.
const (
	planShape    = ` planTier:s planState=active accessUntil:t? limit:n devicesUsed:n remaining:n overLimit:b softGraceWindow=false`
	errorShape   = ` message:s`
	settledShape = ` propagation:o`
	deviceShape  = ` deviceId:s status:s revoked:b createdAt:t revokedAt:t? lastSeenAt:t? expiresAt:t? name:s? metadata:o?`
)

func decidedShape(code, status string, allowed, revoked bool) string {
	return fmt.Sprintf(`allowed=%t code=%s status=%s reason=%s deviceId:s valid=%t revoked=%t`, allowed, code, status, strings.ToLower(code), allowed, revoked)
}

// deviceWalk is every row of the contract about devices, in an order in which one leads to the next. The plan has three seats.
func deviceWalk() []pace {
	registered := ` deviceId:s createdAt:t expiresAt:t? name:s? metadata:o?` + planShape + settledShape
	return []pace{
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"a"}`, status: 200, shape: `status=ok` + registered},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":" a\n"}`, status: 200, shape: `status=exists` + registered},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"worker/prod/α","name":"w","metadata":{"x":1},"ttlSeconds":3600}`, status: 200, shape: `status=ok` + registered},
		{as: "admin", call: "POST devices/register", body: `{"deviceId":"c"}`, status: 200, shape: `status=ok` + registered},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"d"}`, status: 403, shape: `status=blocked error=device_limit_reached deviceId:s` + errorShape + planShape, only: 2},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"d"}`, status: 200, shape: `status=limit_reached deviceId=d` + planShape, only: 1},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"d"}`, status: 200, shape: `status=limit_reached deviceId=d` + planShape, only: 2, with: "MachineID-Version: 1"},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"d"}`, status: 403, shape: `status=blocked error=device_limit_reached deviceId:s` + errorShape + planShape, only: 1, with: "MachineID-Version: 2"},

		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ALLOW", "ok", true, false)},
		{as: "agent", call: "GET devices/validate?deviceId=a", status: 200, shape: decidedShape("ALLOW", "ok", true, false)},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"nobody"}`, status: 200, shape: decidedShape("DEVICE_NOT_FOUND", "not_found", false, false)},

		{as: "agent", call: "POST devices/validate_batch", body: `{"deviceIds":["a","nobody",7]}`, status: 200, shape: `status=ok decisions:a`},
		{as: "agent", call: "POST devices/validate_batch", body: `{"deviceIds":"a"}`, status: 400, shape: `status=error error=missing_params param=deviceIds` + errorShape},
		{as: "admin", call: "POST devices/revoke", body: `{"deviceId":"a"}`, status: 200, shape: `status=ok deviceId=a revoked=true changed=true` + settledShape},
		{as: "admin", call: "POST devices/revoke", body: `{"deviceId":"a"}`, status: 200, shape: `status=ok deviceId=a revoked=true changed=false` + settledShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("DEVICE_REVOKED", "revoked", false, true)},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"a"}`, status: 403, shape: `status=revoked error=device_revoked` + errorShape},
		{as: "admin", call: "POST devices/register", body: `{"deviceId":"a"}`, status: 403, shape: `status=revoked error=device_revoked` + errorShape, only: 2},
		{as: "admin", call: "POST devices/register", body: `{"deviceId":"a"}`, status: 403, shape: `status=revoked error=device_revoked` + errorShape, only: 2, with: "MachineID-Version: 1"},
		{as: "admin", call: "POST devices/unrevoke", body: `{"deviceId":"a"}`, status: 200, shape: `status=ok deviceId=a revoked=false changed=true` + settledShape, only: 2},
		{as: "admin", call: "POST devices/register", body: `{"deviceId":"a"}`, status: 200, shape: `status=restored` + registered, only: 1},
		{as: "admin", call: "POST devices/unrevoke", body: `{"deviceId":"a"}`, status: 200, shape: `status=ok deviceId=a revoked=false changed=false` + settledShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ALLOW", "ok", true, false)},
		{as: "agent", call: "POST devices/unrevoke", body: `{"deviceId":"a"}`, status: 403, shape: `status=error error=insufficient_scope` + errorShape},

		{as: "admin", call: "GET devices/list", status: 200, shape: `status=ok devices:a` + planShape, each: "devices" + deviceShape},
		{as: "admin", call: "GET devices/list?limit=2", status: 200, shape: `status=ok devices:a nextCursor:s` + planShape, keep: "cursor=nextCursor"},
		{as: "admin", call: "GET devices/list?limit=2&cursor=$cursor", status: 200, shape: `status=ok devices:a` + planShape},
		{as: "admin", call: "GET devices/get?deviceId=a", status: 200, shape: deviceShape},
		{as: "admin", call: "GET devices/get?deviceId=nobody", status: 404, shape: `status=not_found error=device_not_found` + errorShape},
		{as: "admin", call: "GET usage", status: 200, shape: `status=ok executionEnabled=true isActive=true isGrace=false isFrozen=false` + planShape},
		{as: "admin", call: "GET org", status: 200, shape: `status=ok orgId:s name:s? version=$generation executionEnabled=true` + planShape},

		{as: "admin", call: "POST devices/revoke_batch", body: `{"deviceIds":["c","nobody",7,"c"]}`, status: 200, shape: `status=ok revokedCount=1 results:a` + settledShape},
		{as: "admin", call: "POST devices/revoke_batch", body: `{"scope":"all_active"}`, status: 200, shape: `status=ok revokedCount=2` + settledShape},
		{as: "admin", call: "POST devices/unrevoke_batch", body: `{"deviceIds":["c","a"]}`, status: 200, shape: `status=ok unrevokedCount=2 unrevokedSample:a results:a` + settledShape},
		{as: "admin", call: "POST devices/register", body: `{"deviceId":"d"}`, status: 200, shape: `status=ok` + registered},
		{as: "admin", call: "POST devices/unrevoke_batch", body: `{"scope":"all_revoked"}`, status: 200, shape: `status=ok unrevokedCount=0 unrevokedSample:a reason=at_cap` + settledShape},
		{as: "admin", call: "POST devices/unrevoke", body: `{"deviceId":"worker/prod/α"}`, status: 403, shape: `status=blocked error=device_limit_reached deviceId:s` + errorShape + planShape},
		{as: "admin", call: "POST devices/remove", body: `{"deviceId":"d"}`, status: 200, shape: `status=ok deviceId=d removed=true` + settledShape},
		{as: "admin", call: "POST devices/remove", body: `{"deviceId":"d"}`, status: 404, shape: `status=not_found error=device_not_found` + errorShape},
		{as: "admin", call: "POST devices/unrevoke_batch", body: `{"scope":"all_revoked"}`, status: 200, shape: `status=ok unrevokedCount=1 unrevokedSample:a` + settledShape},
		{as: "admin", call: "POST devices/unrevoke_batch", body: `{"scope":"all_revoked"}`, status: 200, shape: `status=ok unrevokedCount=0 unrevokedSample:a reason=none_revoked` + settledShape},
		{as: "admin", call: "POST devices/revoke_batch", body: `{}`, status: 400, shape: `status=error error=missing_params param=deviceIds` + errorShape},
		{as: "agent", call: "POST devices/revoke_batch", body: `{"scope":"all_active"}`, status: 403, shape: `status=error error=insufficient_scope` + errorShape},
	}
}

// orgWalk is every row about an org itself.
func orgWalk() []pace {
	return []pace{
		{as: "admin", call: "POST org/execution", body: `{"enabled":false}`, status: 200, shape: `status=ok enabled=false changed=true` + settledShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"nobody"}`, status: 200, shape: decidedShape("ORG_DISABLED", "blocked", false, false)},
		{as: "admin", call: "POST org/execution", body: `{"enabled":false}`, status: 200, shape: `status=ok enabled=false changed=false` + settledShape},
		{as: "admin", call: "POST org/execution", body: `{"enabled":true}`, status: 200, shape: `status=ok enabled=true changed=true` + settledShape},
		{as: "admin", call: "POST org/settings", body: `{"version":$generation}`, status: 200, shape: `status=ok version=$generation changed=false` + settledShape},
		{as: "admin", call: "GET audit", status: 200, shape: `status=ok entries:a`, each: `entries id:s index:n at:t action:s actor:o address:s? request_id:s? target:s? targets:a count:n before:o? after:o?`},
		{as: "admin", call: "GET org/export", status: 200, shape: `status=ok exportedAt:t org:o keys:a devices:a`},
		{as: "admin", call: "GET org/export?limit=1", status: 200, shape: `status=ok exportedAt:t org:o keys:a devices:a nextCursor:s`, keep: "cursor=nextCursor"},
		{as: "admin", call: "GET org/export?limit=1000&cursor=$cursor", status: 200, shape: `status=ok exportedAt:t org:o keys:a devices:a`},
		{as: "admin", call: "GET org/export?cursor=x", status: 400, shape: `status=error error=missing_params param=cursor` + errorShape},
		{as: "agent", call: "GET org/export", status: 403, shape: `status=error error=insufficient_scope` + errorShape},
		{as: "admin", call: "GET audit?limit=1", status: 200, shape: `status=ok entries:a nextCursor:s`, keep: "cursor=nextCursor"},
		{as: "admin", call: "GET audit?limit=1&cursor=$cursor", status: 200, shape: `status=ok entries:a nextCursor:s`},
		{as: "operator", call: "GET operator/audit?limit=1", status: 200, shape: `status=ok entries:a nextCursor:s`},
		{as: "agent", call: "GET audit", status: 403, shape: `status=error error=insufficient_scope` + errorShape},
		{as: "admin", call: "POST org/settings", body: `{"version":3}`, status: 400, shape: `status=error error=missing_params param=version` + errorShape},
	}
}

// keyWalk is every row about keys.
func keyWalk() []pace {
	made := ` keyId:s orgApiKey:s name:s? scope:s createdAt:t expiresAt:t?` + settledShape
	return []pace{
		{as: "admin", call: "POST org/keys", body: `{"name":"probe","scope":"validate"}`, status: 200, shape: `status=ok` + made, keep: "validate=orgApiKey probe=keyId"},
		{as: "validate", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ALLOW", "ok", true, false)},
		{as: "validate", call: "POST devices/register", body: `{"deviceId":"a"}`, status: 403, shape: `status=error error=insufficient_scope` + errorShape},
		{as: "admin", call: "POST org/keys", body: `{"scope":"agent","expiresAt":"2999-01-02T03:04:05+01:00"}`, status: 200, shape: `status=ok` + made, with: "Idempotency-Key: one"},
		{
			as: "admin", call: "POST org/keys", body: `{"scope":"agent","expiresAt":"2999-01-02T03:04:05+01:00"}`, status: 409,
			shape: `status=error error=secret_already_shown keyId:s` + errorShape, with: "Idempotency-Key: one",
		},
		{as: "admin", call: "POST org/keys", body: `{"scope":"root"}`, status: 400, shape: `status=error error=missing_params param=scope` + errorShape},
		{as: "admin", call: "GET org/keys", status: 200, shape: `status=ok keys:a`, each: `keys keyId:s name:s? scope:s createdAt:t expiresAt:t? revokedAt:t? lastUsedAt:t?`},
		{as: "agent", call: "GET org/keys", status: 403, shape: `status=error error=insufficient_scope` + errorShape},
		{as: "admin", call: "POST org/keys/rotate", body: `{"keyId":"$probe","graceSeconds":0}`, status: 200, shape: `status=ok replaced:o` + made, keep: "second=orgApiKey secondId=keyId"},
		{as: "validate", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ORG_NOT_FOUND", "not_found", false, false)},
		{as: "second", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ALLOW", "ok", true, false)},
		{as: "admin", call: "POST org/keys/revoke", body: `{"keyId":"$secondId"}`, status: 200, shape: `status=ok keyId:s revoked=true changed=true` + settledShape},
		{as: "admin", call: "POST org/keys/revoke", body: `{"keyId":"$secondId"}`, status: 200, shape: `status=ok keyId:s revoked=true changed=false` + settledShape},
		{as: "second", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ORG_NOT_FOUND", "not_found", false, false)},
		{as: "admin", call: "POST org/keys/revoke", body: `{"keyId":"nobodys0"}`, status: 404, shape: `status=not_found error=key_not_found` + errorShape},
		{as: "admin", call: "POST org/keys/rotate", body: `{}`, status: 200, shape: `status=ok replaced:o` + made, keep: "admin=orgApiKey adminId=keyId"},
	}
}

// propagationWalk is every row of the call of that name: of a change that nobody waited for, of one long ago, and of none.
func propagationWalk() []pace {
	return []pace{
		{
			as: "admin", call: "POST org/execution", body: `{"enabled":false}`, status: 202, with: "Prefer: respond-async",
			shape: `status=ok enabled=false changed=true` + settledShape, keep: "index=propagation.index",
		},
		{
			as: "admin", call: "GET propagation?index=$index", status: 200,
			shape: `status=ok index=$index pending:b edges:n confirmed:n expired:n waiting:a elapsedMs:n`,
		},
		{
			as: "admin", call: "POST org/execution", body: `{"enabled":true}`, status: 200,
			shape: `status=ok enabled=true changed=true` + settledShape, keep: "index=propagation.index edges=propagation.edges confirmed=propagation.confirmed",
		},
		{
			as: "admin", call: "GET propagation?index=$index", status: 200,
			shape: `status=ok index=$index pending=false edges=$edges confirmed=$confirmed expired=0 waiting=[] elapsedMs:n`,
		},
		{as: "admin", call: "GET propagation?index=1", status: 200, shape: `status=ok index=1 pending=false edges=null confirmed=null expired=null waiting=null elapsedMs=null`},
		{
			as: "", call: "GET propagation?index=$index", status: 200, with: "Authorization: Bearer $token\r\nX-MachineID-Org: $org",
			shape: `status=ok index=$index pending=false edges=$edges confirmed=$confirmed expired=0 waiting=[] elapsedMs:n`,
		},
		{as: "admin", call: "GET propagation?index=9223372036854775807", status: 404, shape: `status=not_found error=not_found` + errorShape},
		{as: "admin", call: "GET propagation", status: 400, shape: `status=error error=missing_params param=index` + errorShape},
		{as: "admin", call: "GET propagation?index=0", status: 400, shape: `status=error error=missing_params param=index` + errorShape},
		{as: "admin", call: "GET propagation?index=-1", status: 400, shape: `status=error error=missing_params param=index` + errorShape},
		{as: "admin", call: "GET propagation?index=18446744073709551616", status: 400, shape: `status=error error=missing_params param=index` + errorShape},
		{as: "admin", call: "GET propagation?index=1&index=1", status: 400, shape: `status=error error=missing_params param=query` + errorShape},
		{as: "admin", call: "POST propagation", body: `{"index":1}`, status: 405, shape: `status=error error=method_not_allowed` + errorShape},
		{as: "agent", call: "GET propagation?index=$index", status: 403, shape: `status=error error=insufficient_scope` + errorShape},
		{as: "", call: "GET propagation?index=$index", status: 400, shape: `status=error error=missing_params param=x-org-key` + errorShape},
	}
}

// edgesWalk is the operators' call edges, at the authority. At an edge it is a path that does not exist (TestConformance).
func edgesWalk() []pace {
	return []pace{
		{
			as: "operator", call: "GET operator/edges", status: 200, shape: `status=ok node:s edges:a`,
			each: `edges id:s address:s version:s state=connected since:t leaseLeftMs:n acked:n behind:n behindMs:n ackMs:n? hits:n? misses:n? hitRate:n? entries:n?`,
		},
		{as: "", call: "GET operator/edges", status: 401, with: "Authorization: Bearer $token$token", shape: `status=error error=invalid_operator_token` + errorShape, at: "authority"},
		{as: "admin", call: "GET operator/edges", status: 401, shape: `status=error error=invalid_operator_token` + errorShape, at: "authority"},
		{as: "", call: "POST operator/edges", body: `{}`, status: 405, with: "Authorization: Bearer $token", shape: `status=error error=method_not_allowed` + errorShape, at: "authority"},
		{as: "", call: "GET operator/edges", status: 404, with: "Authorization: Bearer $token", shape: `status=not_found error=not_found handler=unknown` + errorShape, at: "edge"},
		{as: "admin", call: "GET operator/edges", status: 404, shape: `status=not_found error=not_found handler=unknown` + errorShape, at: "edge"},
	}
}

// operatedShape is an org as operators see it.
const operatedShape = ` orgId:s name:s? externalId:s? version:n createdAt:t planTier:s planState:s accessUntil:t? limit:n devicesUsed:n remaining:n overLimit:b softGraceWindow:b hold:b ownLimit:n? executionEnabled:b`

// planWalk is every row about plans and operators. Operators' calls are the authority's; what comes of them is asked at the tier.
func planWalk() []pace {
	return []pace{
		{as: "operator", call: "GET operator/plans", status: 200, shape: `status=ok plans:a graceDays:n`},
		{as: "operator", call: "GET operator/orgs?limit=1", status: 200, shape: `status=ok orgs:a nextCursor:s`, keep: "cursor=nextCursor"},
		{as: "operator", call: "GET operator/orgs/$org", status: 200, shape: `status=ok` + operatedShape},
		{as: "operator", call: "PATCH operator/orgs/$org", body: `{"hold":true}`, status: 200, shape: `status=ok changed=true` + operatedShape + settledShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("PLAN_FROZEN", "blocked", false, false)},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"new"}`, status: 403, shape: `status=blocked error=plan_frozen` + errorShape},
		{as: "operator", call: "PATCH operator/orgs/$org", body: `{"hold":true}`, status: 200, shape: `status=ok changed=false` + operatedShape + settledShape},
		{as: "operator", call: "PATCH operator/orgs/$org", body: `{"hold":false,"accessUntil":"2001-01-01T00:00:00Z"}`, status: 200, shape: `status=ok changed=true` + operatedShape + settledShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ENTITLEMENT_EXPIRED", "blocked", false, false)},
		{as: "agent", call: "POST devices/register", body: `{"deviceId":"new"}`, status: 403, shape: `status=blocked error=entitlement_expired` + errorShape},
		{as: "operator", call: "PATCH operator/orgs/$org", body: `{"accessUntil":null,"limit":1,"planTier":"pro"}`, status: 200, shape: `status=ok changed=true` + operatedShape + settledShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ALLOW", "ok", true, false)},
		{as: "admin", call: "GET usage", status: 200, shape: `status=ok executionEnabled=true isActive=true isGrace=false isFrozen=false planTier=pro planState=active accessUntil=null limit=1 devicesUsed=3 remaining=0 overLimit=true softGraceWindow=false`},
		{as: "operator", call: "PATCH operator/orgs/$org", body: `{"limit":null,"planTier":"free"}`, status: 200, shape: `status=ok changed=true` + operatedShape + settledShape},
		{as: "operator", call: "PATCH operator/orgs/$org", body: `{"planTier":"none"}`, status: 400, shape: `status=error error=missing_params param=planTier` + errorShape},
		{as: "operator", call: "GET operator/orgs/nobody", status: 404, shape: `status=not_found error=org_not_found` + errorShape},
		{as: "", call: "GET usage", status: 200, shape: `status=ok executionEnabled=true isActive=true isGrace=false isFrozen=false` + planShape, with: "Authorization: Bearer $token\r\nX-MachineID-Org: $org"},
	}
}

// billingWalk is every row about payments where Stripe is not set up.
func billingWalk() []pace {
	return []pace{
		{
			as: "admin", call: "GET billing/summary", status: 200,
			shape: `status=ok ok=true planTier=free planState=active accessUntil=null renewsAt=null endsAt=null graceUntil=null cancelAtPeriodEnd=false message:s`,
		},
		{as: "admin", call: "POST billing/checkout", body: `{"plan":"pro"}`, status: 200, shape: `status=error ok=false error=not_configured` + errorShape},
		{as: "admin", call: "POST billing/checkout", body: `{}`, status: 400, shape: `status=error ok=false error=missing_params param=plan` + errorShape},
		{as: "admin", call: "POST billing/portal", status: 200, shape: `status=error ok=false error=not_configured` + errorShape},
		{as: "agent", call: "POST billing/portal", status: 403, shape: `status=error ok=false error=insufficient_scope` + errorShape},
		{as: "", call: "POST webhooks/stripe", body: `{}`, status: 503, shape: `status=error ok=false error=not_configured outcome=not_done` + errorShape},
		{as: "operator", call: "POST operator/billing/sync", status: 409, shape: `status=error error=refused` + errorShape},
		{as: "", call: "POST org/recover", body: `{"email":"a@example.com"}`, status: 202, shape: `status=ok message:s`},
		{as: "", call: "POST org/recover", body: `{"email":7}`, status: 400, shape: `status=error error=missing_params param=email` + errorShape},
		{as: "", call: "POST org/recover/confirm", body: `{"token":"x"}`, status: 401, shape: `status=error error=invalid_token` + errorShape},
	}
}

// deleteWalk ends it.
func deleteWalk() []pace {
	return []pace{
		{as: "admin", call: "POST org/delete", body: `{"confirm":"yes"}`, status: 400, shape: `status=error error=missing_params param=confirm` + errorShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ALLOW", "ok", true, false)},
		{as: "admin", call: "POST org/delete", body: `{"confirm":"$org"}`, status: 200, shape: `status=ok orgId=$org deleted=true` + settledShape},
		{as: "agent", call: "POST devices/validate", body: `{"deviceId":"a"}`, status: 200, shape: decidedShape("ORG_NOT_FOUND", "not_found", false, false)},
		{as: "admin", call: "POST org/delete", body: `{"confirm":"$org"}`, status: 404, shape: `status=not_found error=org_not_found` + errorShape},
		{as: "operator", call: "DELETE operator/orgs/$org", status: 404, shape: `status=not_found error=org_not_found` + errorShape},
	}
}

// TestKeyEnds: the key that a rotation replaced is denied at the end of its grace, by an edge that holds it and is told nothing then.
func TestKeyEnds(t *testing.T) {
	t.Parallel()
	w := launchDev(t, t.TempDir())
	w.ready()
	c := newClient(t, w.edge)
	o := c.createOrg(t)
	c.must(t, "devices/register", o.agent, naming("a"))
	a := c.must(t, "org/keys/rotate", o.admin, `{"keyId":"`+o.agent[4:12]+`","graceSeconds":1}`)
	replaced, _ := a.body["replaced"].(map[string]any)
	end, err := time.Parse(time.RFC3339, fmt.Sprint(replaced["expiresAt"]))
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	eventually(t, patient, "the old key is denied", func() bool {
		before := time.Now()
		answer, err := c.post("devices/validate", o.agent, naming("a"))
		if err != nil {
			t.Fatal(err)
		}
		switch code := answer.code(); {
		case code == codeAllow && before.After(end.Add(100*time.Millisecond)): // one machine, one clock: dev is both tiers
			t.Fatalf("allowed at %v, its end was %v", before, end)
		case code == codeAllow && answer.Header.Get("X-Cache") == "hit":
			held++
		case code == "ORG_NOT_FOUND" && time.Now().Before(end.Add(-100*time.Millisecond)): // an edge counts from when it asked: a round trip early
			t.Fatalf("denied at %v, before its end %v", time.Now(), end)
		default:
			return code == "ORG_NOT_FOUND"
		}
		return false
	})
	if held == 0 {
		t.Error("the edge never held the key")
	}
	if code := c.validate(t, a.text("orgApiKey"), "a"); code != codeAllow {
		t.Errorf("the new key: %s", code)
	}
}

// TestConformance walks through the contract at the edge and at the authority, in both generations. The order of fields is free; their
// names and types are not.
func TestConformance(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := launchDev(t, dir)
	w.ready()
	token, err := os.ReadFile(filepath.Join(dir, "authority", "operator-token"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := contract.New()
	if err != nil {
		t.Fatal(err)
	}
	for tier, addr := range map[string]string{"edge": w.edge, "authority": w.authority} {
		for generation := 1; generation <= 2; generation++ {
			t.Run(fmt.Sprintf("%s %d", tier, generation), func(t *testing.T) {
				walk := &walk{
					c: newClient(t, addr), authority: newClient(t, w.authority), tier: tier, generation: generation, document: document,
					vars: map[string]string{"generation": strconv.Itoa(generation), "token": strings.TrimSpace(string(token))},
				}
				walk.step(t, pace{
					call: "POST org/create", body: `{"name":"conformance"}`, status: 200,
					shape: `status=ok orgApiKey:s agentKey:s orgId:s` + settledShape, keep: "admin=orgApiKey agent=agentKey org=orgId",
				})
				walk.step(t, pace{
					as: "admin", call: "POST org/settings", body: `{"version":$generation}`, status: 200,
					shape: fmt.Sprintf(`status=ok version=%d changed=%t`, generation, generation == 1) + settledShape,
				})
				for _, part := range [][]pace{deviceWalk(), orgWalk(), keyWalk(), planWalk(), propagationWalk(), edgesWalk(), billingWalk(), deleteWalk()} {
					for _, s := range part {
						walk.step(t, s)
					}
				}
			})
		}
	}
}

// walk is an org on its way through the contract.
type walk struct {
	c          *client
	authority  *client // where operators call
	tier       string
	generation int
	document   *contract.Contract
	vars       map[string]string
}

func (w *walk) fill(text string) string {
	return regexp.MustCompile(`\$\w+`).ReplaceAllStringFunc(text, func(name string) string { return w.vars[name[1:]] })
}

func (w *walk) step(t *testing.T, s pace) {
	t.Helper()
	if s.only != 0 && s.only != w.generation || s.at != "" && s.at != w.tier {
		return
	}
	method, path, _ := strings.Cut(w.fill(s.call), " ")
	var headers []string
	if s.with != "" {
		headers = append(headers, w.fill(s.with))
	}
	c := w.c
	if s.as == "operator" {
		c, headers = w.authority, append(headers, "Authorization: Bearer "+w.vars["token"])
	}
	a, err := c.do(method, path, w.vars[s.as], w.fill(s.body), headers...)
	if err != nil {
		t.Fatalf("%s as %q: %v", s.call, s.as, err)
	}
	w.hold(t, method, path, s, headers, a)
	if a.StatusCode != s.status {
		t.Fatalf("%s %s as %q: HTTP %d, want %d: %s", s.call, s.body, s.as, a.StatusCode, s.status, a.raw)
	}
	want := map[string]string{"request_id": ":s"}
	if !strings.HasPrefix(path, "operator/") {
		route, _, _ := strings.Cut(path, "?")
		want["handler"] = "=" + strings.ReplaceAll(route, "org/create", "org_create")
	}
	shaped(want, w.fill(s.shape))
	for _, fault := range misfits(a.body, want) {
		t.Errorf("%s as %q: %s: %s", s.call, s.as, fault, a.raw)
	}
	if field, shape, ok := strings.Cut(s.each, " "); ok {
		list, _ := a.body[field].([]any)
		for i, one := range list {
			object, _ := one.(map[string]any)
			for _, fault := range misfits(object, shaped(map[string]string{}, w.fill(shape))) {
				t.Errorf("%s as %q: %s %d: %s: %s", s.call, s.as, field, i, fault, a.raw)
			}
		}
		if len(list) == 0 {
			t.Errorf("%s as %q: no %s: %s", s.call, s.as, field, a.raw)
		}
	}
	for kept := range strings.FieldsSeq(s.keep) {
		name, at, _ := strings.Cut(kept, "=")
		w.vars[name] = part(a.body, at)
	}
}

// hold holds the exchange to the OpenAPI document.
func (w *walk) hold(t *testing.T, method, path string, s pace, headers []string, a *reply) {
	t.Helper()
	sent := http.Header{}
	if key := w.vars[s.as]; key != "" {
		sent.Set("X-Org-Key", key)
	}
	for line := range strings.SplitSeq(strings.Join(headers, "\r\n"), "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			sent.Set(name, value)
		}
	}
	if err := w.document.Check(&contract.Exchange{
		Method: method, Target: wire.Base + path, Header: sent, Body: w.fill(s.body),
		Status: a.StatusCode, AnswerHeader: a.Header, Answer: a.raw,
	}); err != nil {
		t.Errorf("%s %s as %q: not as openapi.json says: %v\n%s", s.call, s.body, s.as, err, a.raw)
	}
}

// shaped adds the fields of a shape.
func shaped(want map[string]string, shape string) map[string]string {
	for field := range strings.FieldsSeq(shape) {
		i := strings.IndexAny(field, "=:")
		want[field[:i]] = field[i:]
	}
	return want
}

// misfits says what of an object is not as it is to be.
func misfits(object map[string]any, want map[string]string) (faults []string) {
	if got := slices.Sorted(maps.Keys(object)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		faults = append(faults, fmt.Sprintf("fields %v, want %v", got, slices.Sorted(maps.Keys(want))))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if v, present := object[name]; present && !fits(v, want[name]) {
			faults = append(faults, fmt.Sprintf("%s is %v, want %s", name, v, want[name]))
		}
	}
	return faults
}

// part is a field of an answer, or a member of one, as text.
func part(object map[string]any, at string) string {
	name, rest, inner := strings.Cut(at, ".")
	if inner {
		object, _ = object[name].(map[string]any)
		return part(object, rest)
	}
	if text, ok := object[name].(string); ok {
		return text
	}
	raw, _ := json.Marshal(object[name]) // came out of JSON
	return string(raw)
}

var instantForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// fits judges a value by the shape of its field.
func fits(v any, shape string) bool {
	if literal, ok := strings.CutPrefix(shape, "="); ok {
		raw, _ := json.Marshal(v) // came out of JSON
		return string(raw) == literal || v == any(literal)
	}
	kind, optional := strings.CutSuffix(shape[1:], "?")
	if v == nil {
		return optional
	}
	switch x := v.(type) {
	case string:
		return kind == "s" || kind == "t" && instantForm.MatchString(x)
	case float64:
		return kind == "n"
	case bool:
		return kind == "b"
	case map[string]any:
		return kind == "o"
	case []any:
		return kind == "a"
	}
	return false
}

// TestFits: a check of shapes that passes everything would prove nothing.
func TestFits(t *testing.T) {
	t.Parallel()
	for shape, values := range map[string][2]any{
		"=ok": {"ok", "no"}, "=3": {3.0, 4.0}, "=true": {true, false}, "=null": {nil, "x"}, ":s": {"x", 1.0}, ":n": {1.0, "1"}, ":b": {false, nil},
		":o": {map[string]any{}, []any{}}, ":a": {[]any{}, map[string]any{}}, ":t": {"2026-11-20T23:41:49.112Z", "2026-11-20T23:41:49Z"}, ":s?": {nil, 7.0},
	} {
		if !fits(values[0], shape) || fits(values[1], shape) {
			t.Errorf("%s: %v must fit, %v must not", shape, values[0], values[1])
		}
	}
}
