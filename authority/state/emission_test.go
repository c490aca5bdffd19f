package state

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// about is what a command names, whatever it finds: all this it must emit (S1).
func about(cmd *statepb.Command) (list []Concern) {
	switch c := cmd.GetChange().(type) {
	case *statepb.Command_CreateOrg:
		list = append(list, Concern{Kind: ConcernHolder, Org: OrgID(c.CreateOrg.GetOrgId())})
		for _, k := range c.CreateOrg.GetKeys() {
			list = append(list, Concern{Kind: ConcernKey, Key: [32]byte(k.GetHash()), Org: OrgID(c.CreateOrg.GetOrgId())})
		}
	case *statepb.Command_SetExecution, *statepb.Command_UpdateOrg, *statepb.Command_DeleteOrg, *statepb.Command_SetBilling:
		list = append(list, Concern{Kind: ConcernHolder, Org: orgOf(cmd)})
	case *statepb.Command_RevokeBatch, *statepb.Command_UnrevokeBatch:
		org := orgOf(cmd)
		for _, id := range batchOf(cmd).GetDeviceIds() {
			list = append(list, Concern{Kind: ConcernOccupant, Org: org, Occupant: id})
		}
		if batchOf(cmd).GetAll() != nil {
			list = nil // the devices that it finds are what it changes
		}
		if org == orgs[neverMade] {
			list = append(list, Concern{Kind: ConcernHolder, Org: org})
		}
	case *statepb.Command_SetPlans: // no edge holds a plan
	case *statepb.Command_BeginRecovery:
		if orgOf(cmd) == orgs[neverMade] {
			return []Concern{{Kind: ConcernHolder, Org: orgOf(cmd)}}
		}
	case *statepb.Command_AddKey, *statepb.Command_RotateKey, *statepb.Command_RevokeKey:
		if orgOf(cmd) == orgs[neverMade] {
			return []Concern{{Kind: ConcernHolder, Org: orgOf(cmd)}}
		}
		if k := cmd.GetAddKey().GetKey(); k != nil {
			list = append(list, Concern{Kind: ConcernKey, Key: [32]byte(k.GetHash()), Org: orgOf(cmd)})
		}
	default:
		org, id := deviceOf(cmd)
		list = append(list, Concern{Kind: ConcernOccupant, Org: org, Occupant: id})
		if org == orgs[neverMade] { // refused because there is no such org
			list = append(list, Concern{Kind: ConcernHolder, Org: org})
		}
	}
	return list
}

// aboutKeys is the keys that a command names and that are there.
func aboutKeys(n *node, cmd *statepb.Command) (list []Concern) {
	if must(n.reader().Org(orgOf(cmd)))(n.tb) == nil {
		return nil // of an org that is not there no key is looked for
	}
	ids := []string{cmd.GetRotateKey().GetKeyId(), cmd.GetRevokeKey().GetKeyId()}
	for _, k := range must(n.reader().Keys(orgOf(cmd)))(n.tb) {
		if slices.Contains(ids, k.GetKeyId()) {
			list = append(list, Concern{Kind: ConcernKey, Key: [32]byte(k.GetHash()), Org: orgOf(cmd)})
		}
	}
	return list
}

// sight is all that decisions of the pool depend on, and the decisions themselves.
type sight struct {
	records   map[Concern]any
	decisions map[[2]Concern]decision.Code // of a key and a device
}

func see(tb tb, r Reader, now int64) sight {
	tb.Helper()
	s := sight{map[Concern]any{}, map[[2]Concern]decision.Code{}}
	for org, id := range orgs {
		holder := HolderOf(must(r.Org(id))(tb))
		s.records[Concern{Kind: ConcernHolder, Org: id}] = holder
		occupants := map[Concern]decision.Occupant{}
		for _, device := range devices {
			c := Concern{Kind: ConcernOccupant, Org: id, Occupant: device}
			if holder.Known { // of an org that is gone nobody reaches a device
				occupants[c] = OccupantOf(must(r.Occupant(id, device))(tb))
			}
			s.records[c] = occupants[c]
		}
		for n := range keysInPool {
			hash := hashOf(org, n)
			c, key := Concern{Kind: ConcernKey, Key: hash, Org: id}, KeyOf(must(r.Key(hash))(tb))
			s.records[c] = key
			for of, occupant := range occupants {
				s.decisions[[2]Concern{c, of}] = decision.Decide(key, holder, occupant, now)
			}
		}
	}
	return s
}

// uncovered names a difference that no concern covers.
func uncovered(before, after sight, emitted []Concern) error {
	for c, was := range before.records {
		holder := Concern{Kind: ConcernHolder, Org: c.Org}
		if c.Kind == ConcernOccupant && after.records[holder] == (decision.Holder{}) && slices.Contains(emitted, holder) {
			continue // who asks hears of the org, whatever there was in it
		}
		if is := after.records[c]; was != is && !slices.Contains(emitted, c) {
			return fmt.Errorf("%+v changed from %+v to %+v and was not emitted", c, was, is)
		}
	}
	for of, was := range before.decisions {
		org := Concern{Kind: ConcernHolder, Org: of[1].Org}
		told := slices.ContainsFunc(emitted, func(c Concern) bool { return c == of[0] || c == of[1] || c == org })
		if is := after.decisions[of]; was != is && !told {
			return fmt.Errorf("the decision of %+v changed from %v to %v and none of its records was emitted", of, was, is)
		}
	}
	return nil
}

// watch runs a command and tells what it failed to emit: of what it changed, or of
// what it only asked about.
func watch(n *node, cmd *statepb.Command) (changes, unsaid error) {
	n.tb.Helper()
	keys := aboutKeys(n, cmd)
	now := max(n.m.Time(), cmd.GetTimeMs()) // time alone changes decisions, and needs no emission
	before := see(n.tb, n.reader(), now)
	out := n.do(cmd)
	emitted := n.heard[len(n.heard)-1].concerns
	changes = uncovered(before, see(n.tb, n.reader(), now), emitted)
	for _, c := range asked(cmd, out, keys) {
		if !slices.Contains(emitted, c) {
			unsaid = fmt.Errorf("%v did not emit %+v", cmd, c)
		}
	}
	return changes, unsaid
}

// asked is about, but for a command that was refused before it asked about anything.
func asked(cmd *statepb.Command, out Outcome, keys []Concern) []Concern {
	switch {
	case out.Refusal == InsufficientScope || out.Refusal == IdempotencyMismatch:
		return nil
	case out.Refusal == OrgNotFound && cmd.GetCaller() != nil:
		return []Concern{{Kind: ConcernKey, Key: [32]byte(cmd.GetCaller().GetKeyHash()), Org: orgOf(cmd)}}
	}
	return append(about(cmd), keys...)
}

// TestEmission holds S1: whatever a command changes and whatever it asks about, it
// emits; also when it changes nothing, and when it is refused.
func TestEmission(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	rapid.Check(t, func(t *rapid.T) {
		n, now := newNode(t, db), start
		n.do(seed())
		for range rapid.IntRange(1, 20).Draw(t, "commands") {
			cmd := draw(t, someKind.Draw(t, "kind"), &now)
			if changes, asked := watch(n, cmd); changes != nil || asked != nil {
				t.Fatalf("%v: %v, %v", cmd, changes, asked)
			}
			org, _ := deviceOf(cmd)
			if batchOf(cmd) != nil {
				org = orgOf(cmd)
			}
			holder := Concern{Kind: ConcernHolder, Org: org}
			if org != (OrgID{}) && must(n.reader().Org(org))(t) != nil && slices.Contains(n.heard[len(n.heard)-1].concerns, holder) {
				t.Fatalf("%v concerns everybody who holds the org", cmd)
			}
		}
	})
}

// TestEmissionMutants forgets one emission after the other: the checks of
// TestEmission must find each, or they prove nothing.
func TestEmissionMutants(t *testing.T) {
	device := Concern{Kind: ConcernOccupant, Org: orgs[0], Occupant: "a"}
	org0, org1 := Concern{Kind: ConcernHolder, Org: orgs[0]}, Concern{Kind: ConcernHolder, Org: orgs[1]}
	key := Concern{Kind: ConcernKey, Key: hashOf(1, 0), Org: orgs[1]}
	for _, c := range []struct {
		name    string
		before  []*statepb.Command
		cmd     *statepb.Command
		drop    Concern
		changes bool // the command changes what it is about
	}{
		{"org created", nil, createOrg(1), org1, true},
		{"key created", nil, createOrg(1), key, true},
		{"org there already", []*statepb.Command{createOrg(1)}, createOrg(1), org1, false},
		{"key there already", []*statepb.Command{createOrg(1)}, createOrg(1), key, false},
		{"switched off", nil, setExecution(0, false), org0, true},
		{"on already", nil, setExecution(0, true), org0, false},
		{"settings that stand", nil, setVersion(0, 2), org0, false},
		{"held", nil, setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(true) }), org0, true},
		{"given an end of access", nil, setPlan(0, func(c *statepb.UpdateOrg) { c.AccessUntilMs = new(start) }), org0, true},
		{"a plan that is none", nil, setPlan(0, func(c *statepb.UpdateOrg) { c.PlanTier = new("none") }), org0, false},
		{"deleted", nil, deleteOrg(0), org0, true},
		{"deleted with its keys", nil, deleteOrg(0), Concern{Kind: ConcernKey, Key: hashOf(0, 1), Org: orgs[0]}, true},
		{"no org to delete", nil, deleteOrg(1), org1, false},
		{"past due", nil, setBilling(0, 0, "evt_1", sub("sub_1", "pro", statepb.Subscription_PAST_DUE)), org0, true},
		{"unpaid", nil, setBilling(0, 0, "", sub("sub_1", "pro", statepb.Subscription_UNPAID)), org0, true},
		{"event again", []*statepb.Command{setBilling(0, 0, "evt_1", sub("sub_1", "pro", statepb.Subscription_UNPAID))}, setBilling(0, 0, "evt_1", sub("sub_1", "pro", statepb.Subscription_ACTIVE)), org0, false},
		{"billing moved", nil, setBilling(0, 7, "evt_1", sub("sub_1", "pro", statepb.Subscription_UNPAID)), org0, false},
		{"no org to bill", nil, setBilling(1, 0, "evt_1", nil), org1, false},
		{"no org to set", nil, setVersion(1, 1), org1, false},
		{"key added", nil, addKey(0, 2, statepb.Key_AGENT), Concern{Kind: ConcernKey, Key: hashOf(0, 2), Org: orgs[0]}, true},
		{"key rotated", nil, rotateKey(0, 0, 2, 0), Concern{Kind: ConcernKey, Key: hashOf(0, 0), Org: orgs[0]}, true},
		{"key given an end", nil, rotateKey(0, 0, 2, 60), Concern{Kind: ConcernKey, Key: hashOf(0, 0), Org: orgs[0]}, true},
		{"no key to rotate", []*statepb.Command{revokeKey(0, 0)}, rotateKey(0, 0, 2, 60), Concern{Kind: ConcernKey, Key: hashOf(0, 0), Org: orgs[0]}, false},
		{"key revoked", nil, revokeKey(0, 0), Concern{Kind: ConcernKey, Key: hashOf(0, 0), Org: orgs[0]}, true},
		{"key revoked already", []*statepb.Command{revokeKey(0, 0)}, revokeKey(0, 0), Concern{Kind: ConcernKey, Key: hashOf(0, 0), Org: orgs[0]}, false},
		{"last admin key", []*statepb.Command{revokeKey(0, 0)}, revokeKey(0, 1), Concern{Kind: ConcernKey, Key: hashOf(0, 1), Org: orgs[0]}, false},
		{"rotation asked again", []*statepb.Command{from(0, 1, rotateKey(0, 1, 2, 60))}, from(0, 1, rotateKey(0, 1, 2, 60)), Concern{Kind: ConcernKey, Key: hashOf(0, 1), Org: orgs[0]}, false},
		{"key revoked, asked again", []*statepb.Command{from(0, 1, addKey(0, 2, statepb.Key_ADMIN)), from(0, 2, revokeKey(0, 1))}, from(0, 2, revokeKey(0, 1)), Concern{Kind: ConcernKey, Key: hashOf(0, 1), Org: orgs[0]}, false},
		{"no org to switch", nil, setExecution(1, true), org1, false},
		{"registered", nil, register(0, "a"), device, true},
		{"exists", []*statepb.Command{register(0, "a")}, register(0, "a"), device, false},
		{"given an end", []*statepb.Command{register(0, "a")}, registerFor(0, "a", 5), device, true},
		{"register of a revoked", []*statepb.Command{register(0, "a"), revoke(0, "a")}, register(0, "a"), device, false},
		{"register at the cap", []*statepb.Command{register(0, "b"), register(0, "c"), register(0, "ab")}, register(0, "a"), device, false},
		{"register in no org", nil, register(neverMade, "a"), Concern{Kind: ConcernHolder, Org: orgs[neverMade]}, false},
		{"swept by another", []*statepb.Command{registerFor(0, "a", 5)}, at(start+5000, register(0, "b")), device, true},
		{"revoked", []*statepb.Command{register(0, "a")}, revoke(0, "a"), device, true},
		{"revoked already", []*statepb.Command{register(0, "a"), revoke(0, "a")}, revoke(0, "a"), device, false},
		{"nothing to revoke", nil, revoke(0, "a"), device, false},
		{"asked again", []*statepb.Command{register(0, "a"), from(0, 1, revoke(0, "a")), unrevoke(0, "a")}, from(0, 1, revoke(0, "a")), device, false},
		{"switch asked again", []*statepb.Command{from(0, 1, setExecution(0, false))}, from(0, 1, setExecution(0, false)), org0, false},
		{"refused again", []*statepb.Command{from(0, 1, revoke(0, "a"))}, from(0, 1, revoke(0, "a")), device, false},
		{"by another's key", []*statepb.Command{register(0, "a")}, from(1, 1, revoke(0, "a")), Concern{Kind: ConcernKey, Key: hashOf(1, 0), Org: orgs[0]}, false},
		{"restored", []*statepb.Command{register(0, "a"), revoke(0, "a")}, unrevoke(0, "a"), device, true},
		{"never revoked", []*statepb.Command{register(0, "a")}, unrevoke(0, "a"), device, false},
		{"removed", []*statepb.Command{register(0, "a")}, remove(0, "a"), device, true},
		{"nothing to remove", nil, remove(0, "a"), device, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, mutant := range []bool{false, true} {
				n := newNode(t, openDB(t))
				n.do(seed())
				n.do(createOrg(0))
				for _, b := range c.before {
					n.do(b)
				}
				if mutant {
					n.drop = func(e Concern) bool { return e == c.drop }
				}
				changes, asked := watch(n, c.cmd)
				if caught := changes != nil; caught != (mutant && c.changes) {
					t.Errorf("mutant %t: changes: %v", mutant, changes)
				}
				swept := c.name == "swept by another" || c.name == "deleted with its keys" // not what the command is about
				if caught := asked != nil; caught != (mutant && !swept) {
					t.Errorf("mutant %t: asked: %v", mutant, asked)
				}
			}
		})
	}
}
