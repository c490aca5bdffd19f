package decision

// Version is the newest record version that this Decide understands. A record
// carries the least version that may read it; whoever meets a larger one must
// answer SystemUnavailable rather than misread it.
const Version = 1

// Millis is a time of the authority in milliseconds since 1970. Zero is "never".
type Millis = int64

// Key is what a decision reads of an org key.
type Key struct {
	// MinVersion is the least decision Version that may read this record.
	MinVersion uint32
	// Known says that an org has this key and has not revoked it.
	Known bool
	// ExpiresAt is when the key stops being known; zero is never.
	ExpiresAt Millis
}

// Holder is what a decision reads of a holder of seats: today an org.
type Holder struct {
	MinVersion uint32
	// Known is false for a holder that does not exist or was deleted.
	Known bool
	// Disabled is the holder's own off switch.
	Disabled bool
	// Frozen says that an operator holds it or that it is unpaid.
	Frozen bool
	// GraceUntil ends the grace of an unpaid holder; zero is no grace running.
	GraceUntil Millis
	// AccessUntil is when its entitlement ends; zero is never.
	AccessUntil Millis
}

// Occupant is what a decision reads of an occupant of a seat: today a device.
type Occupant struct {
	MinVersion uint32
	// Known is false for one that was never registered or was removed.
	Known   bool
	Revoked bool
	// ExpiresAt is when it ends by itself; zero is never.
	ExpiresAt Millis
}

// Decide judges one occupant under one key at now, the authority's time. It is
// the only place that knows the order of the codes, and all expiry is judged
// here, never by a sweep. It is pure and safe for concurrent use.
func Decide(k Key, h Holder, o Occupant, now Millis) Code {
	switch {
	case max(k.MinVersion, h.MinVersion, o.MinVersion) > Version:
		return SystemUnavailable
	case !k.Known || past(k.ExpiresAt, now) || !h.Known:
		return OrgNotFound
	case h.Disabled:
		return OrgDisabled
	case h.PlanFrozen(now):
		return PlanFrozen
	case past(h.AccessUntil, now):
		return EntitlementExpired
	case !o.Known || past(o.ExpiresAt, now):
		return DeviceNotFound
	case o.Revoked:
		return DeviceRevoked
	default:
		return Allow
	}
}

// Alive reports whether the key is known and has not expired.
func (k Key) Alive(now Millis) bool { return k.Known && !past(k.ExpiresAt, now) }

// PlanFrozen reports whether the holder is frozen, or unpaid past its grace.
func (h Holder) PlanFrozen(now Millis) bool { return h.Frozen || past(h.GraceUntil, now) }

// Expired reports whether the holder's entitlement has ended.
func (h Holder) Expired(now Millis) bool { return past(h.AccessUntil, now) }

// Present reports whether the occupant exists and has not expired.
func (o Occupant) Present(now Millis) bool { return o.Known && !past(o.ExpiresAt, now) }

// past reports whether an end has been reached. The instant itself is past:
// "until t" grants nothing at t.
func past(end, now Millis) bool { return end != 0 && now >= end }
