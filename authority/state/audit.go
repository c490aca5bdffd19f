package state

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

const (
	auditKeep    = int64(90 * 24 * 3600 * 1000) // milliseconds
	auditTrimMax = 4                            // entries cleared away for each one written
)

// audit records who changed what, and clears away entries that are too old: more
// than are written, so a backlog shrinks without ever being swept.
func (t *tx) audit(org OrgID, action, target string) { t.auditMany(org, action, target, 1) }

// auditMany is audit for a change of count records.
func (t *tx) auditMany(org OrgID, action, target string, count uint32) {
	t.trimAudit()
	a := auditID{t.at.Index, t.emit.audits}
	t.emit.audits++
	t.put(auditKey(a), &statepb.AuditEntry{
		AtMs: t.now, Action: action, Actor: t.cmd.GetActor(), Address: t.cmd.GetAddress(), RequestId: t.cmd.GetRequestId(),
		OrgId: org[:], Target: target, Count: count,
	})
	t.set(orgAuditKey(org, a), nil)
}

func (t *tx) trimAudit() {
	before := t.now - auditKeep
	if t.m.oldestAudit >= before {
		return // only a short cut: the scan would find nothing
	}
	type old struct {
		auditID
		org OrgID
	}
	var olds []old
	// Entries are in the order of their times, because the state's time never goes
	// back: the first that is young enough ends the search.
	oldest := t.now // if nothing is left, what is written now is the oldest
	t.must(t.r.scan(t.m.heads.of(prefixAudit), after([]byte{prefixAudit}), func(k, v []byte) (bool, error) {
		if len(olds) == auditTrimMax {
			oldest = 0 // this one may be too old as well
			return false, nil
		}
		var e statepb.AuditEntry
		if err := proto.Unmarshal(v, &e); err != nil {
			return false, err
		}
		if e.GetAtMs() >= before {
			oldest = e.GetAtMs()
			return false, nil
		}
		id := auditID{binary.BigEndian.Uint64(k[1:]), binary.BigEndian.Uint16(k[9:])}
		olds = append(olds, old{id, idOf(e.GetOrgId())})
		return true, nil
	}))
	t.m.oldestAudit = oldest
	for _, o := range olds {
		t.del(auditKey(o.auditID))
		t.m.heads.passed(auditKey(o.auditID))
		t.del(orgAuditKey(o.org, o.auditID))
	}
}
