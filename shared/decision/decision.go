// Package decision holds the one function that decides whether work may go on,
// and the codes in which it answers. Both tiers call it, so an edge and the
// authority cannot differ. It reads no clock and does no I/O.
package decision

// Code is the outcome of a validate call (docs/api.md, Validate). The zero
// value is no decision and is never sent.
type Code uint8

// The codes in the order in which they are judged: the first that holds wins,
// and Allow is what is left.
const (
	InvalidOrgKey Code = iota + 1
	InvalidDeviceID
	SystemUnavailable
	OrgNotFound
	OrgDisabled
	PlanFrozen
	EntitlementExpired
	DeviceNotFound
	DeviceRevoked
	Allow
)

// Codes lists every code, in the order in which they are judged.
func Codes() []Code {
	return []Code{
		InvalidOrgKey, InvalidDeviceID, SystemUnavailable, OrgNotFound, OrgDisabled,
		PlanFrozen, EntitlementExpired, DeviceNotFound, DeviceRevoked, Allow,
	}
}

var texts = [...]struct{ name, reason, status string }{
	InvalidOrgKey:      {"INVALID_ORG_KEY", "invalid_org_key", "error"},
	InvalidDeviceID:    {"INVALID_DEVICE_ID", "invalid_device_id", "error"},
	SystemUnavailable:  {"SYSTEM_UNAVAILABLE", "system_unavailable", "error"},
	OrgNotFound:        {"ORG_NOT_FOUND", "org_not_found", "not_found"},
	OrgDisabled:        {"ORG_DISABLED", "org_disabled", "blocked"},
	PlanFrozen:         {"PLAN_FROZEN", "plan_frozen", "blocked"},
	EntitlementExpired: {"ENTITLEMENT_EXPIRED", "entitlement_expired", "blocked"},
	DeviceNotFound:     {"DEVICE_NOT_FOUND", "device_not_found", "not_found"},
	DeviceRevoked:      {"DEVICE_REVOKED", "device_revoked", "revoked"},
	Allow:              {"ALLOW", "allow", "ok"},
}

func (c Code) known() bool { return c >= InvalidOrgKey && c <= Allow }

// String returns the code as it is sent, for example DEVICE_REVOKED.
func (c Code) String() string {
	if !c.known() {
		return "UNKNOWN"
	}
	return texts[c].name
}

// Reason returns the code in lower case, as the field `reason` carries it.
func (c Code) Reason() string {
	if !c.known() {
		return "unknown"
	}
	return texts[c].reason
}

// Status returns the word that the older generation of clients reads.
func (c Code) Status() string {
	if !c.known() {
		return "error"
	}
	return texts[c].status
}
