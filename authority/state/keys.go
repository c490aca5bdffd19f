package state

import (
	"encoding/binary"
	"math"

	"machineid/authority/state/statepb"
)

// The key space (DESIGN.md, Key space). Every kind of key has its own first byte; ids of
// fixed length come before those of any length, so no separator is needed and no
// id can reach into another's range. 0x00 belongs to raftstore.
const (
	prefixCluster  = 'c' // -> Cluster
	prefixPlans    = 'p' // -> Plans
	prefixMark     = 'm' // -> Mark, 16 bytes
	prefixOrg      = 'o' // org -> Org
	prefixSeats    = 's' // holder -> Seats
	prefixKey      = 'k' // SHA-256 -> Key
	prefixOrgKey   = 'K' // org, key id -> SHA-256
	prefixOccupant = 'd' // holder, id -> Occupant
	prefixByAge    = 'l' // holder, created, id -> nothing: the order of lists
	prefixByEnd    = 'x' // holder, expires, id -> nothing: the active ones that end
	prefixRevoked  = 'v' // holder, latest time minus revoked, id -> nothing: the newest revoked first
	prefixAudit    = 'a' // index, n -> AuditEntry
	prefixOrgAudit = 'A' // org, index, n -> nothing
	prefixOnce     = 'r' // org, id of a request -> Remembered
	prefixOnceAge  = 'R' // org, number -> id: the order in which they came, as older versions remembered
	prefixOnceOf   = 'n' // org -> the first number there is and the next, 8 bytes each
	prefixShareAge = 'q' // org, share, number -> id: the order in which those of a key came
	prefixShareOf  = 'Q' // org, share -> the first number there is and the next
	prefixGone     = 'g' // org -> its last audit entry: a deleted one that has left something
	prefixGoneKeys = 'G' // time of its deletion, org -> nothing: its keys are kept for a while
	prefixSeen     = 't' // holder, id -> when an occupant asked last, 8 bytes
	prefixSignup   = 'i' // time, org -> nothing: signed up then, and not looked at since
	prefixUsed     = 'u' // SHA-256 of a key -> when it was used last, 8 bytes
	prefixBilling  = 'b' // org -> Billing
	prefixCustomer = 'B' // Stripe's customer -> org
	prefixWritten  = 'w' // org, who -> Written: how much of what may be left out of the audit
)

var (
	clusterKey = []byte{prefixCluster}
	plansKey   = []byte{prefixPlans}
	markKey    = []byte{prefixMark}
)

func orgKey(id OrgID) []byte                     { return holderKey(prefixOrg, id, "") }
func seatsKey(id OrgID) []byte                   { return holderKey(prefixSeats, id, "") }
func orgKeyKey(org OrgID, keyID string) []byte   { return holderKey(prefixOrgKey, org, keyID) }
func occupantKey(holder OrgID, id string) []byte { return holderKey(prefixOccupant, holder, id) }
func seenKey(holder OrgID, id string) []byte     { return holderKey(prefixSeen, holder, id) }
func usedKey(hash [32]byte) []byte               { return append([]byte{prefixUsed}, hash[:]...) }
func billingKey(org OrgID) []byte                { return holderKey(prefixBilling, org, "") }
func customerKey(id string) []byte               { return append([]byte{prefixCustomer}, id...) }
func keyKey(hash [32]byte) []byte                { return append([]byte{prefixKey}, hash[:]...) }
func auditKey(a auditID) []byte                  { return a.append([]byte{prefixAudit}) }
func orgAuditKey(org OrgID, a auditID) []byte    { return a.append(holderKey(prefixOrgAudit, org, "")) }

// writtenKey is of an org's caller: what kind of one, and its id.
func writtenKey(org OrgID, by *statepb.Actor) []byte {
	return holderKey(prefixWritten, org, string(append([]byte{byte(by.GetType())}, by.GetId()...)))
}

// onceSize is the length of a request's id.
const onceSize = 16

func onceKey(org OrgID, id [onceSize]byte) []byte { return holderKey(prefixOnce, org, string(id[:])) }

// shareSize is how much of a key's SHA-256 names its share.
const shareSize = 8

// onceQueue is an order in which requests were remembered: of a key of the org, or without a share of all that came in older versions.
type onceQueue struct {
	org   OrgID
	share string
}

// shareOf is the order of what a key asked for; without a key, the operator.
func shareOf(org OrgID, keyHash []byte) onceQueue {
	if len(keyHash) == 0 {
		return onceQueue{org, string(make([]byte, shareSize))}
	}
	return onceQueue{org, string(keyHash[:shareSize])}
}

// most is how many it holds.
func (q onceQueue) most() uint64 {
	if q.share == "" {
		return rememberMax
	}
	return ShareMax
}

func onceRangeKey(q onceQueue) []byte {
	if q.share == "" {
		return holderKey(prefixOnceOf, q.org, "")
	}
	return holderKey(prefixShareOf, q.org, q.share)
}

func onceAgeKey(q onceQueue, number uint64) []byte {
	if q.share == "" {
		return binary.BigEndian.AppendUint64(holderKey(prefixOnceAge, q.org, ""), number)
	}
	return binary.BigEndian.AppendUint64(holderKey(prefixShareAge, q.org, q.share), number)
}

func goneKey(org OrgID) []byte { return holderKey(prefixGone, org, "") }

func goneKeysKey(at int64, org OrgID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{prefixGoneKeys}, uint64(at)), org[:]...)
}

// holderKey is a key of one holder.
func holderKey(prefix byte, holder OrgID, rest string) []byte {
	k := append(make([]byte, 0, 1+len(holder)+len(rest)), prefix)
	return append(append(k, holder[:]...), rest...)
}

// timedHead is the length of what stands before the id in a timedKey.
const timedHead = 1 + len(OrgID{}) + 8

// timedKey orders a holder's occupants by a time, then by id. No time in the
// state is negative (S6).
func timedKey(prefix byte, holder OrgID, at int64, id string) []byte {
	k := append(make([]byte, 0, timedHead+len(id)), prefix)
	k = append(k, holder[:]...)
	k = binary.BigEndian.AppendUint64(k, uint64(at))
	return append(k, id...)
}

// timedID returns the id in a timedKey.
func timedID(k []byte) string { return string(k[timedHead:]) }

// timeOf returns the time in a timedKey.
func timeOf(k []byte) int64 { return int64(binary.BigEndian.Uint64(k[timedHead-8:])) }

// revokedKey is where a revoked occupant stands among its holder's.
func revokedKey(holder OrgID, o *statepb.Occupant) []byte {
	return timedKey(prefixRevoked, holder, math.MaxInt64-o.GetRevokedAtMs(), o.GetId())
}

// auditID names an audit entry: the n-th of the log entry at index.
type auditID struct {
	index uint64
	n     uint16
}

// auditIDSize is the length of an auditID in keys.
const auditIDSize = 8 + 2

func (a auditID) append(k []byte) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(k, a.index), a.n)
}

// after returns the least key that does not begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
