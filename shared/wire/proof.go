package wire

import (
	"encoding/json"
	"slices"

	"github.com/valyala/fasthttp"
)

// Proof says which of the credentials that come with a call must have been judged, and found good, for the call to succeed. What the
// authority has not looked at proves nothing, whatever it answers. A route that says nothing proves nothing.
type Proof uint8

// What a success proves.
const (
	ProvesNothing Proof = iota // anybody's call, or one whose every answer is a decision
	ProvesKey                  // the org's key, or the operator's token of a call for an org (X-MachineID-Org)
	ProvesToken                // the operator's token
)

// Verdict is what an answer says of the credential that came with the call.
type Verdict uint8

// Verdicts.
const (
	Unjudged Verdict = iota // it may not have been looked at
	Good
	Bad
)

// behindKey are the refusals that an org's call meets only once its credential was found good. So are `refused` and, of an operator, an org that is not there.
var behindKey = []string{
	InsufficientScope().Code, IdempotencyMismatch().Code, KeyNotFound().Code, KeyLimitReached().Code, LastAdminKey().Code, SecretAlreadyShown("").Code,
	DeviceNotFound().Code, DeviceLimitReached().Code, DeviceRevoked().Code, PlanFrozen().Code, EntitlementExpired().Code, Refused("").Code,
}

// behindToken are those of operators' own calls. `refused` is none: a node without a cluster says so before it looks at the token.
var behindToken = []string{OrgNotFound().Code, MemberNotFound("").Code, OtherStore("").Code, ClusterExists("").Code}

// Judges tells what an answer of the authority to a call of this route says of its credential. token says that this was an operator's token.
func (r *Route) Judges(status int, body []byte, token bool) Verdict {
	switch {
	case r.Proves == ProvesNothing || r.Proves == ProvesToken && !token:
		return Unjudged
	case status/100 == 2:
		return Good
	case status == fasthttp.StatusUnauthorized:
		return Bad
	}
	switch status {
	case fasthttp.StatusForbidden, fasthttp.StatusNotFound, fasthttp.StatusConflict:
	default:
		return Unjudged
	}
	var said struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &said) // what says nothing judges nothing
	unknown := said.Error == OrgNotFound().Code
	switch {
	case unknown && !token:
		return Bad
	case unknown, r.Proves == ProvesKey && slices.Contains(behindKey, said.Error), r.Proves == ProvesToken && slices.Contains(behindToken, said.Error):
		return Good
	}
	return Unjudged
}
