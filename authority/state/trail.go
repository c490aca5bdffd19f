package state

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// Entry is an entry of the audit with its place.
type Entry struct {
	Place
	*statepb.AuditEntry
}

// Place is where an audit entry stands: the n-th of the log entry at Index. Later
// ones are larger.
type Place struct {
	Index uint64
	N     uint16
}

// String is the place as ParsePlace reads it.
func (p Place) String() string {
	return strconv.FormatUint(p.Index, 10) + "-" + strconv.FormatUint(uint64(p.N), 10)
}

// ParsePlace reads a place in its one form.
func ParsePlace(text string) (p Place, ok bool) {
	index, n, _ := strings.Cut(text, "-")
	i, err := strconv.ParseUint(index, 10, 64)
	if err != nil {
		return Place{}, false
	}
	m, err := strconv.ParseUint(n, 10, 16)
	p = Place{i, uint16(m)}
	return p, err == nil && p.String() == text && i > 0
}

// Audit lists entries, the newest first, from before a place (zero: from the
// newest), at most limit and about ListBytes, and whether older ones follow. They are those of an org, or of
// everybody for the zero id. What is beyond its time at now is not listed.
func (r Reader) Audit(org OrgID, before Place, limit int, now decision.Millis) (list []Entry, more bool, err error) {
	from, to := []byte{prefixAudit}, after([]byte{prefixAudit})
	if org != (OrgID{}) {
		from, to = holderKey(prefixOrgAudit, org, ""), after(holderKey(prefixOrgAudit, org, ""))
	}
	if before != (Place{}) {
		to = auditID{before.Index, before.N}.append(append([]byte(nil), from...))
	}
	size := 0
	err = r.scanBack(from, to, func(k []byte) (bool, error) {
		id := k[len(from):]
		if len(id) != auditIDSize {
			return false, fmt.Errorf("a key has %d bytes", len(k))
		}
		p := Place{binary.BigEndian.Uint64(id), binary.BigEndian.Uint16(id[8:])}
		e, err := get[statepb.AuditEntry](r, auditKey(auditID{p.Index, p.N}))
		if err != nil || e == nil || e.GetAtMs() < now-auditKeep {
			return false, err
		}
		size += proto.Size(e)
		if more = len(list) == limit || len(list) > 0 && size > ListBytes; more {
			return false, nil
		}
		list = append(list, Entry{p, e})
		return true, nil
	})
	return list, more, err
}

// scanBack is scan from the end, for keys alone.
func (r Reader) scanBack(from, to []byte, visit func(k []byte) (more bool, err error)) (err error) {
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("scan records %q: %w", from[:1], err)
	}
	for ok := it.Last(); ok && err == nil; ok = ok && it.Prev() {
		if err = r.record(); err == nil {
			ok, err = visit(it.Key())
		}
	}
	if closed := it.Close(); err == nil { // tells what ended the iteration
		err = closed
	}
	if err != nil {
		err = fmt.Errorf("scan records %q: %w", from[:1], err)
	}
	return err
}
