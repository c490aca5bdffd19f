package state

import "encoding/binary"

// The key space. Every name has its own first byte; ids of fixed length come
// before those of any length, so no separator is needed and no id can reach
// into another's range. 0x00 belongs to raftstore.
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
	prefixByEnd    = 'x' // holder, expires, id -> 1 if active, 0 if revoked
	prefixAudit    = 'a' // index, n -> AuditEntry
	prefixOrgAudit = 'A' // org, index, n -> nothing
)

var (
	clusterKey = []byte{prefixCluster}
	plansKey   = []byte{prefixPlans}
	markKey    = []byte{prefixMark}
)

func orgKey(id OrgID) []byte   { return append([]byte{prefixOrg}, id[:]...) }
func seatsKey(id OrgID) []byte { return append([]byte{prefixSeats}, id[:]...) }

func keyKey(hash []byte) []byte { return append([]byte{prefixKey}, hash...) }

func orgKeyKey(org OrgID, keyID string) []byte {
	return append(append([]byte{prefixOrgKey}, org[:]...), keyID...)
}

func occupantKey(holder OrgID, id string) []byte {
	return append(append(make([]byte, 0, 1+16+len(id)), prefixOccupant), append(holder[:], id...)...)
}

// timedKey orders a holder's occupants by a time, then by id. Times are not
// negative: Apply sees to it.
func timedKey(prefix byte, holder OrgID, at int64, id string) []byte {
	k := append(make([]byte, 0, 1+16+8+len(id)), prefix)
	k = append(k, holder[:]...)
	k = binary.BigEndian.AppendUint64(k, uint64(at)) //nolint:gosec // not negative
	return append(k, id...)
}

// timedOf takes a timedKey apart.
func timedOf(k []byte) (at int64, id string) {
	return int64(binary.BigEndian.Uint64(k[17:])), string(k[25:]) //nolint:gosec // written by timedKey
}

func auditKey(index uint64, n uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64([]byte{prefixAudit}, index), n)
}

func orgAuditKey(org OrgID, index uint64, n uint16) []byte {
	return append(append([]byte{prefixOrgAudit}, org[:]...), auditKey(index, n)[1:]...)
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
