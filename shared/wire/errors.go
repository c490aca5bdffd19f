package wire

import (
	"github.com/valyala/fasthttp"
)

// Error is an answer other than success, for every call but validate. Take one from a constructor and, where a call's
// answer carries more, add to it by With. An Error is not safe for concurrent changes.
type Error struct {
	HTTP       int     // HTTP is the status code.
	Status     string  // Status is the field of this name: "error", "not_found", "blocked" or "revoked".
	Code       string  // Code is the field `error`, for programs.
	Message    string  // Message is a sentence for people: what is wrong, and the way out.
	Param      string  // Param names the parameter at fault, "" for none.
	Outcome    string  // Outcome tells whether a change was made, "" where that is plain.
	RetryAfter int     // RetryAfter in seconds, 0 for none.
	Allow      string  // Allow is the header of the same name, "" for none.
	Challenge  string  // Challenge is the header WWW-Authenticate, which every 401 has (RFC 9110, 15.5.2).
	Extra      []Field // Extra are further fields, for example those of a plan.

	close bool // the connection ends: where the next request begins is uncertain
}

// Field is one more field of an answer. Value must be something encoding/json can encode.
type Field struct {
	Name  string
	Value any
}

// Error is the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// With adds a field and returns e.
func (e *Error) With(name string, value any) *Error {
	e.Extra = append(e.Extra, Field{name, value})
	return e
}

// The values of Status.
const (
	StatusError    = "error"
	StatusNotFound = "not_found"
	StatusBlocked  = "blocked"
	StatusRevoked  = "revoked"
)

// The values of Outcome.
const (
	OutcomeNotDone   = "not_done"  // Nothing was changed and nothing will be: try again.
	OutcomeUnknown   = "unknown"   // The change may have been made: calls are idempotent, try again.
	OutcomeCommitted = "committed" // The change was made; it is not yet known to be everywhere.
)

// The challenges of a 401. There is no registered scheme for a key in a header of its own, nor for a token in a body: these name where it belongs.
const (
	challengeKey      = `ApiKey realm="machineid", in="header", name="x-org-key"`
	challengeToken    = `Bearer realm="machineid operators"`
	challengeRecovery = `RecoveryToken realm="machineid", in="body", name="token"`
)

// MissingParams answers a parameter that is missing, empty or malformed, and malformed JSON.
func MissingParams(param, message string) *Error {
	return &Error{HTTP: fasthttp.StatusBadRequest, Status: StatusError, Code: "missing_params", Param: param, Message: message}
}

// MissingOrgKey answers a call without a key: the one parameter that is a header.
func MissingOrgKey() *Error {
	return MissingParams("x-org-key", "the header x-org-key is missing: send the org's API key in it")
}

// InvalidOrgKey answers a key whose form is wrong. cause is one of orgkey's errors, none of which tells the key.
func InvalidOrgKey(cause error) *Error {
	return &Error{HTTP: fasthttp.StatusUnauthorized, Status: StatusError, Code: "invalid_org_key", Message: cause.Error(), Challenge: challengeKey}
}

// OrgNotFound answers a key that no org has, or no longer.
func OrgNotFound() *Error {
	return notFound("org_not_found", "no org has this key, or it was revoked or has expired: check the key")
}

// DeviceNotFound answers a device id that is not registered.
func DeviceNotFound() *Error {
	return notFound("device_not_found", "no device has this id in the org: register it with devices/register")
}

// NotFound answers a path that does not exist.
func NotFound() *Error {
	return notFound("not_found", "there is no such path: see docs/api.md for those there are, all below /api/v1/")
}

// IndexNotFound answers a question about an index that nothing has yet.
func IndexNotFound() *Error {
	return notFound("not_found", "no change has this index yet: send the index of a propagation that you were answered")
}

func notFound(code, message string) *Error {
	return &Error{HTTP: fasthttp.StatusNotFound, Status: StatusNotFound, Code: code, Message: message}
}

// InsufficientScope answers a key that may not make the call.
func InsufficientScope() *Error {
	return &Error{
		HTTP: fasthttp.StatusForbidden, Status: StatusError, Code: "insufficient_scope",
		Message: "the key's scope does not reach to this call: use an admin key",
	}
}

// IdempotencyMismatch answers an Idempotency-Key that was sent with another body before.
func IdempotencyMismatch() *Error {
	return &Error{
		HTTP: fasthttp.StatusConflict, Status: StatusError, Code: "idempotency_mismatch", Param: "Idempotency-Key",
		Message: "this Idempotency-Key came with another body within the last 24 hours: send a new one for a new change",
	}
}

// KeyNotFound answers the id of a key that the org does not have, or that is not in force where it must be.
func KeyNotFound() *Error {
	return notFound("key_not_found", "the org has no such key in force: GET org/keys lists those it has")
}

// KeyLimitReached answers a new key for an org that has as many as it may.
func KeyLimitReached() *Error {
	return conflict("key_limit_reached", "the org has 50 keys in force, which is the most: revoke one first")
}

// LastAdminKey answers the revocation of the key without which nobody could govern the org.
func LastAdminKey() *Error {
	return conflict("last_admin_key", "this is the org's last admin key in force: create another first, or rotate this one")
}

// UpgradeNotFinished answers a call for which the cluster's format must be raised first.
func UpgradeNotFinished(message string) *Error { return conflict("upgrade_not_finished", message) }

// SecretAlreadyShown answers a request that was sent again after it had made a key, whose secret nobody keeps.
func SecretAlreadyShown(keyID string) *Error {
	return conflict("secret_already_shown", "this Idempotency-Key has made a key, which is shown once only: revoke it by its keyId if it is lost").With("keyId", keyID)
}

func conflict(code, message string) *Error {
	return &Error{HTTP: fasthttp.StatusConflict, Status: StatusError, Code: code, Message: message}
}

// DeviceLimitReached answers a register or unrevoke at the plan's cap. The caller adds the plan fields.
func DeviceLimitReached() *Error {
	return blocked("device_limit_reached", "the plan's device limit is reached: revoke or remove a device, or choose a larger plan")
}

// DeviceRevoked answers a register of a revoked device, which never restores it.
func DeviceRevoked() *Error {
	return &Error{
		HTTP: fasthttp.StatusForbidden, Status: StatusRevoked, Code: "device_revoked",
		Message: "the device is revoked and registering does not restore it: call devices/unrevoke with an admin key",
	}
}

// PlanFrozen answers a register of a new device or an unrevoke in a frozen org.
func PlanFrozen() *Error {
	return blocked("plan_frozen", "the plan is frozen, so no device can be added or restored: settle the billing or ask the operator")
}

// EntitlementExpired answers a register of a new device or an unrevoke in an org whose access has ended.
func EntitlementExpired() *Error {
	return blocked("entitlement_expired", "the org's access has ended, so no device can be added or restored: renew it")
}

func blocked(code, message string) *Error {
	return &Error{HTTP: fasthttp.StatusForbidden, Status: StatusBlocked, Code: code, Message: message}
}

// RateLimited answers too many requests; retryAfter in seconds, at least 1.
func RateLimited(retryAfter int) *Error {
	return &Error{
		HTTP: fasthttp.StatusTooManyRequests, Status: StatusError, Code: "rate_limited",
		Message: "too many requests: wait for as long as Retry-After says", RetryAfter: max(retryAfter, 1),
	}
}

// SystemUnavailable answers a request that found no leader or ran out of time. outcome is one of the Outcome constants;
// retryAfter in seconds, at least 1.
func SystemUnavailable(outcome string, retryAfter int) *Error {
	message := "the system cannot answer now: try again after Retry-After"
	switch outcome {
	case OutcomeNotDone:
		message = "the system cannot answer now and nothing was changed: try again after Retry-After"
	case OutcomeUnknown:
		message = "the system cannot answer now and the change may or may not have been made: try again, which is safe"
	case OutcomeCommitted:
		message = "the change was made but is not yet known to be everywhere: try again to wait for it"
	}
	return &Error{
		HTTP: fasthttp.StatusServiceUnavailable, Status: StatusError, Code: "system_unavailable",
		Message: message, Outcome: outcome, RetryAfter: max(retryAfter, 1),
	}
}

// Refused answers a change of the cluster that would do harm, or that came too early; message says what is in the way.
func Refused(message string) *Error {
	return &Error{HTTP: fasthttp.StatusConflict, Status: StatusError, Code: "refused", Message: message}
}

// MemberNotFound answers a change of the cluster on a node that is no member; message names those that are.
func MemberNotFound(message string) *Error { return notFound("member_not_found", message) }

// OtherStore answers who wants to take in a node whose name is that of a member with another store; message says what to do about it.
func OtherStore(message string) *Error {
	return &Error{HTTP: fasthttp.StatusConflict, Status: StatusError, Code: "other_store", Message: message}
}

// ClusterExists answers who wants to begin a cluster with a node that is in one; message names it.
func ClusterExists(message string) *Error {
	return &Error{HTTP: fasthttp.StatusConflict, Status: StatusError, Code: "cluster_exists", Message: message}
}

// InvalidOperatorToken answers an operator's call without the right token.
func InvalidOperatorToken() *Error {
	return &Error{
		HTTP: fasthttp.StatusUnauthorized, Status: StatusError, Code: "invalid_operator_token",
		Message: "the operator's token is missing or wrong: send it as Authorization: Bearer TOKEN", Challenge: challengeToken,
	}
}

// SignupClosed answers org/create where not everyone may create orgs.
func SignupClosed() *Error {
	return &Error{
		HTTP: fasthttp.StatusForbidden, Status: StatusError, Code: "signup_closed",
		Message: "signing up is closed here: ask the operator, or start with --open-signup",
	}
}

// SignupFull answers org/create where there are as many orgs as may be.
func SignupFull() *Error {
	e := SignupClosed()
	e.Message = "there are as many orgs here as may be signed up: ask the operator, who makes one ('machineid org create') or starts the nodes with a larger --max-orgs"
	return e
}

// NotConfigured answers a call that this installation is not set up for.
func NotConfigured(message string) *Error {
	return &Error{
		HTTP: fasthttp.StatusServiceUnavailable, Status: StatusError, Code: "not_configured", Message: message,
		Outcome: OutcomeNotDone, RetryAfter: 60,
	}
}

// InvalidSignature answers a webhook that was not signed as it must be, or that is none.
func InvalidSignature(cause error) *Error {
	return &Error{HTTP: fasthttp.StatusBadRequest, Status: StatusError, Code: "invalid_signature", Message: cause.Error()}
}

// StripeUnavailable answers a call that needs Stripe, which did not do what it was asked.
func StripeUnavailable(message string) *Error {
	return &Error{
		HTTP: fasthttp.StatusServiceUnavailable, Status: StatusError, Code: "stripe_unavailable", Message: message,
		Outcome: OutcomeNotDone, RetryAfter: 5,
	}
}

// InvalidToken answers a recovery whose token is wrong, was used or has ended.
func InvalidToken() *Error {
	return &Error{
		HTTP: fasthttp.StatusUnauthorized, Status: StatusError, Code: "invalid_token",
		Message: "the token is wrong, was used or has expired: ask for another with org/recover", Challenge: challengeRecovery,
	}
}
