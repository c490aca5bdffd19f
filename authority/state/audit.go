package state

import (
	"encoding/binary"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

const (
	auditKeep    = int64(90 * 24 * 3600 * 1000) // milliseconds
	auditTrimMax = 4                            // entries cleared away for each one written

	// auditForm is how this program has the audit told: with settings, with the ids of batches, and with what may be left out bounded. A command says
	// how, so that an old log comes to the state that it came to (S10).
	auditForm = 1
	// boundForm is the form in which all is bounded that a key which is no admin's has written.
	boundForm = 1

	// Of a batch so many ids are named at most, and so many bytes of them.
	targetsMax   = 100
	targetsBytes = 4 << 10

	// What may be left out: so many entries of a kind by one caller in so much time, the rest are counted in one.
	writtenMax    = 100
	shortensMax   = 1000               // of what takes rights away
	othersMax     = 1000               // of all else that an agent's key can do: as many as the largest plan has devices
	writtenWindow = int64(3600 * 1000) // milliseconds
)

// What may be left out, each apart from the others: none of it can hide another. An end that comes nearer switches a device off, so no flood of names or of
// later ends leaves it out.
const (
	describes = uint32(iota + 1) // a device's name and metadata
	prolongs                     // a device's later end, or none
	versions                     // an org's API generation
	shortens                     // a device's earlier end
	others                       // whatever else a key does that is no admin's
)

// endKind is the kind of a change of a device's end.
func endKind(before, after *statepb.Occupant) uint32 {
	if at := after.GetExpiresAtMs(); at != 0 && (before.GetExpiresAtMs() == 0 || at < before.GetExpiresAtMs()) {
		return shortens
	}
	return prolongs
}

// Encode returns a command as this program writes it into the log, and has it told in this program's form of the audit.
func Encode(cmd *statepb.Command) ([]byte, error) {
	ofToday(cmd)
	raw, err := proto.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode a command: %w", err)
	}
	return raw, nil
}

// ofToday gives a command the forms of this program: the later one only where it matters, so that a node of an older program goes on until then.
func ofToday(cmd *statepb.Command) {
	cmd.AuditForm, cmd.Form = auditForm, 0
	if slices.ContainsFunc(cmd.GetCaller().GetScopes(), func(s statepb.Key_Scope) bool { return s != statepb.Key_ADMIN }) {
		cmd.Form = boundForm
	}
}

// formKnown tells whether this program knows how the command is to be carried out and told.
func formKnown(cmd *statepb.Command) bool {
	return cmd.GetAuditForm() <= auditForm && cmd.GetForm() <= boundForm
}

// bounded tells whether the caller's key is one that may not fill the audit by anything that it can do: whoever carries it need not be who governs the org.
func (t *tx) bounded() bool {
	return t.cmd.GetForm() >= boundForm && t.cmd.GetCaller() != nil && t.scope != statepb.Key_ADMIN
}

// detailed tells whether the command is told in full; in the first form it has neither settings nor the ids of batches.
func (t *tx) detailed() bool { return t.cmd.GetAuditForm() >= 1 }

// named is a target that the first form did not name.
func (t *tx) named(target string) string {
	if t.detailed() {
		return target
	}
	return ""
}

// audit records who changed what (S9), and how it was set before and after. What an agent's key does is bounded here, whichever command it is.
func (t *tx) audit(org OrgID, action, target string, set ...*statepb.Setting) {
	if t.bounded() {
		t.auditSome(others, org, action, target, set...)
		return
	}
	t.entry(org, action, target, set)
}

// entry writes one of audit's.
func (t *tx) entry(org OrgID, action, target string, set []*statepb.Setting) {
	t.write(org, &statepb.AuditEntry{Action: action, Target: target, Count: 1, Settings: differing(set)})
}

// write adds an entry, and clears away entries that are too old: more than are written, so a backlog shrinks without ever being swept.
func (t *tx) write(org OrgID, e *statepb.AuditEntry) auditID {
	t.tell(e)
	t.trimAudit()
	a := auditID{t.at.Index, t.emit.audits}
	t.emit.audits++
	e.AtMs, e.OrgId = t.now, org[:]
	e.Actor, e.Address, e.RequestId = t.cmd.GetActor(), t.cmd.GetAddress(), t.cmd.GetRequestId()
	if !t.detailed() {
		e.Settings, e.Targets = nil, nil
	}
	t.put(auditKey(a), e)
	t.set(orgAuditKey(org, a), nil)
	return a
}

// tell makes the first entry that a command comes to what it is told by.
func (t *tx) tell(e *statepb.AuditEntry) {
	if t.action == "" {
		t.action, t.target = e.GetAction(), e.GetTarget()
	}
}

// auditSome is audit for what is bounded, of one kind: who does it again and again would fill the disk with it.
func (t *tx) auditSome(kind uint32, org OrgID, action, target string, set ...*statepb.Setting) {
	if !t.detailed() {
		t.entry(org, action, target, set)
		return
	}
	by := t.cmd.GetActor()
	rec, err := get[statepb.Written](t.r, writtenKey(org, by))
	t.must(err)
	if rec == nil {
		rec = &statepb.Written{}
	}
	w := windowOf(rec, kind, t.now)
	most := uint32(writtenMax)
	switch kind {
	case shortens:
		most = shortensMax
	case others:
		most = othersMax
	}
	if w.GetEntries() < most {
		w.Entries++
		t.entry(org, action, target, set)
	} else {
		t.leaveOut(org, w, action, target)
	}
	t.put(writtenKey(org, by), rec)
}

// windowOf is the window of a kind at now: an empty one, if the one before is over.
func windowOf(rec *statepb.Written, kind uint32, now int64) *statepb.Window {
	i := slices.IndexFunc(rec.GetWindows(), func(w *statepb.Window) bool { return w.GetKind() == kind })
	switch {
	case i < 0:
		rec.Windows = append(rec.Windows, &statepb.Window{Kind: kind, BeganMs: now})
		i = len(rec.GetWindows()) - 1
	case now-rec.GetWindows()[i].GetBeganMs() >= writtenWindow:
		rec.Windows[i] = &statepb.Window{Kind: kind, BeganMs: now}
	}
	return rec.GetWindows()[i]
}

// leaveOut counts a change in the window's one entry for those that have none of their own.
func (t *tx) leaveOut(org OrgID, w *statepb.Window, action, target string) {
	t.tell(&statepb.AuditEntry{Action: action, Target: target})
	a := auditID{w.GetIndex(), uint16(w.GetN())}
	var sum *statepb.AuditEntry
	if w.GetIndex() != 0 {
		var err error
		sum, err = get[statepb.AuditEntry](t.r, auditKey(a))
		t.must(err)
	}
	if sum == nil {
		sum = &statepb.AuditEntry{Action: action, Target: org.String(), LeftOut: true}
		a = t.write(org, sum)
		w.Index, w.N = a.index, uint32(a.n)
	}
	sum.Count++
	if !slices.Contains(sum.GetTargets(), target) {
		sum.Targets = withTarget(sum.GetTargets(), target)
	}
	t.put(auditKey(a), sum)
}

// withTarget names one more, if there is room.
func withTarget(list []string, target string) []string {
	size := len(target)
	for _, id := range list {
		size += len(id)
	}
	if len(list) == targetsMax || size > targetsBytes {
		return list
	}
	return append(list, target)
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
