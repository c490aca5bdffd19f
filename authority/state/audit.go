package state

import (
	"machineid/authority/state/statepb"
)

const (
	auditKeep    = int64(90 * 24 * 3600 * 1000) // milliseconds
	auditTrimMax = 4                            // entries cleared away for each one written
)

// audit records who changed what, and clears away entries that are too old: more
// than are written, so the backlog shrinks without ever being swept.
func (t *tx) audit(org OrgID, action, target string) {
	t.trimAudit()
	n := t.emit.audits
	t.emit.audits++
	t.put(auditKey(t.at.Index, n), &statepb.AuditEntry{
		AtMs: t.now, Action: action, Actor: t.cmd.Actor, Address: t.cmd.Address, RequestId: t.cmd.RequestId,
		OrgId: org[:], Target: target, Count: 1,
	})
	t.set(orgAuditKey(org, t.at.Index, n), nil)
}

func (t *tx) trimAudit() {
	before := t.now - auditKeep
	if t.m.oldestAudit >= before {
		return // only a short cut: the scan would find nothing
	}
	old, oldest, err := t.r.auditsBefore(before, auditTrimMax)
	t.must(err)
	t.m.oldestAudit = oldest
	if len(old) == auditTrimMax {
		t.m.oldestAudit = 0 // there may be more
	}
	for _, a := range old {
		t.del(auditKey(a.index, a.n))
		t.del(orgAuditKey(a.org, a.index, a.n))
	}
}
