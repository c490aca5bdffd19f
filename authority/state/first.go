package state

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// First is what whoever asks for a first look knows already, each nil if it does not. The records are not changed.
type First struct {
	Org   *statepb.Org
	Plans *statepb.Plans
	Key   *statepb.Key // the caller's
	// Orgs is how many orgs there are, 0 if nobody has counted.
	Orgs uint64
}

// Refuses runs a command on what r shows at now, and writes nothing: it tells whether it would be refused, so that what cannot succeed need not be
// proposed (S17), and what it would come to. It says no of a command whose refusal is to be remembered (S11), of all but the plain cases of one that changes
// many records, of those of the system, and where a seat may be free because a device has ended. Seats in use are counted in what LimitReached comes to; beside other
// refusals they may include devices that have ended.
func (r Reader) Refuses(cmd *statepb.Command, now int64, known First) (out Outcome, refused bool, err error) {
	defer func() {
		switch f := recover().(type) {
		case nil:
		case unsaid:
			out, refused, err = Outcome{}, false, nil
		case dryError:
			err = fmt.Errorf("look whether a command would be refused: %w", f.error)
		default:
			panic(f)
		}
	}()
	m := &Machine{plans: known.Plans, oldestAudit: math.MaxInt64} // so that no audit entry is looked for that is too old
	if m.plans == nil {
		if m.plans, err = r.Plans(); err != nil {
			return Outcome{}, false, err
		}
	}
	if len(cmd.GetOperatorHash()) > 0 { // which authorize compares
		cluster, err := r.Cluster()
		if err != nil {
			return Outcome{}, false, err
		}
		m.cluster.Store(cluster)
	}
	t := &tx{m: m, r: r, cmd: cmd, now: max(now, 1), emit: &emission{}, dry: true}
	if known.Org != nil {
		m.recent.keepOrg(idOf(known.Org.GetId()), known.Org)
	}
	if known.Key != nil {
		m.recent.keepKey([32]byte(known.Key.GetHash()), known.Key)
	}
	m.recent.counted, m.recent.count = true, known.Orgs
	out = t.first()
	if out.Refusal == LimitReached {
		ended, err := r.anyEnded(subject(cmd), t.now)
		if err != nil || ended {
			return Outcome{}, false, err // Apply knows how many they are, and sweeps them: no more than they were can it refuse (S17)
		}
	}
	return out, out.Refusal != Granted, nil
}

// unsaid is what a look panics with that would cost too much.
type unsaid struct{}

// dryError is what a failed read panics with where nothing is applied.
type dryError struct{ error }

// first is apply for a look ahead.
func (t *tx) first() Outcome {
	if refusal := t.authorize(); refusal != Granted {
		return Outcome{Refusal: refusal}
	}
	if t.onceNamed() {
		before, err := t.r.remembered(subject(t.cmd), [onceSize]byte(t.cmd.GetOnce().GetId()))
		t.must(err)
		if t.stillKnown(before) && !t.sameRequest(before) {
			return Outcome{Refusal: IdempotencyMismatch}
		}
		return Outcome{}
	}
	switch c := t.cmd.GetChange().(type) {
	case *statepb.Command_Register, *statepb.Command_Revoke, *statepb.Command_Unrevoke, *statepb.Command_Remove,
		*statepb.Command_SetExecution, *statepb.Command_UpdateOrg, *statepb.Command_SetBilling:
		return t.run()
	case *statepb.Command_AddKey, *statepb.Command_RotateKey, *statepb.Command_RevokeKey, *statepb.Command_CreateOrg, *statepb.Command_SetPlans:
		t.cmd = proto.CloneOf(t.cmd) // these fill in what the command brings
		return t.run()
	case *statepb.Command_Recover:
		if t.recovery(t.billing(idOf(c.Recover.GetOrgId())), c.Recover.GetTokenHash()) < 0 {
			return Outcome{Refusal: TokenUnknown, Org: t.org(subject(t.cmd))}
		}
		t.cmd = proto.CloneOf(t.cmd)
		return t.run()
	case *statepb.Command_DeleteOrg, *statepb.Command_RevokeBatch:
		if t.org(subject(t.cmd)) == nil {
			return Outcome{Refusal: OrgNotFound}
		}
	case *statepb.Command_UnrevokeBatch:
		if org := HolderOf(t.org(subject(t.cmd))); !org.Known || org.PlanFrozen(t.now) || org.Expired(t.now) { // else it is not refused as a whole
			return t.run()
		}
	}
	return Outcome{}
}
