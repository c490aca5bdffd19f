package state

import (
	"testing"

	"machineid/authority/state/statepb"
)

// A rotation only brings a key's end nearer, and the new key has its scope and name.
func TestRotateKeepsAnEarlierEnd(t *testing.T) {
	n := seeded(t)
	c := addKey(0, 2, statepb.Key_VALIDATE)
	c.GetAddKey().Key.ExpiresAtMs = start + 5000
	n.do(c)
	out := n.do(rotateKey(0, 2, 3, 3600))
	if got := out.Replaced.GetExpiresAtMs(); got != start+5000 {
		t.Errorf("it ends at start+%d, want 5000", got-start)
	}
	if out.Key.GetScope() != statepb.Key_VALIDATE || out.Key.GetName() != "a key" || out.Key.GetExpiresAtMs() != 0 {
		t.Errorf("the new key: %v", out.Key)
	}
	if out := n.do(rotateKey(0, 3, 1, 1)); out.Refusal != KeyTaken {
		t.Errorf("a key that there is was made anew: %+v", out)
	}
	out = n.do(rotateKey(0, 0, 5, 1))
	if got := out.Replaced.GetExpiresAtMs(); got != start+1000 {
		t.Errorf("it ends at start+%d, want 1000", got-start)
	}
	// What is dead is forgotten beyond a hundred, the longest dead first, and its index with it; but nothing that died a moment ago.
	for i := range 110 {
		n.do(at(start+10_000+int64(i), addKey(1, 10+i, statepb.Key_AGENT)))
		n.do(at(start+10_000+int64(i), revokeKey(1, 10+i)))
	}
	n.do(addKey(1, 200, statepb.Key_AGENT))
	if must(n.reader().Key(hashOf(1, 10)))(t) == nil {
		t.Error("a key is forgotten while edges may hold it")
	}
	// Few go with each that comes.
	for i, left := range []int{10 - forgetMax, 10 - 2*forgetMax, 0, 0} {
		n.do(at(start+11_000+deadKeysStay, addKey(1, 201+i, statepb.Key_AGENT)))
		if keys := must(n.reader().Keys(orgs[1]))(t); len(keys) != keysPerOrg+deadKeysMax+left+2+i {
			t.Errorf("%d keys after %d more", len(keys), i+1)
		}
		if must(n.reader().Key(hashOf(1, 10+10-left)))(t) == nil {
			t.Error("one that died later is forgotten first")
		}
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
	keys := must(n.reader().Keys(orgs[1]))(t)
	if len(keys) != keysPerOrg+deadKeysMax+5 || must(n.reader().Key(hashOf(1, 10)))(t) != nil || must(n.reader().Key(hashOf(1, 119)))(t) == nil {
		t.Errorf("%d keys are left", len(keys))
	}
}

// Nothing that is kept of a key outlasts it, however it goes.
func TestNothingIsLeftOfADroppedKey(t *testing.T) {
	for name, drop := range map[string]func(*node){
		"a dead key": func(n *node) {
			deadKeys(n, deadKeysMax, 0)
			n.do(at(start+2*deadKeysStay, addKey(0, 10, statepb.Key_AGENT)))
		},
		"a deleted org": func(n *node) {
			n.do(deleteOrg(0))
			n.do(at(start+keepDeadKeys, revoke(1, "nobody")))
		},
	} {
		n := seeded(t)
		n.do(addKey(0, 9, statepb.Key_AGENT))
		for _, by := range []string{"key00001", "key00009"} {
			for _, name := range []string{"one", "other"} {
				c := register(0, "a")
				c.Actor, c.GetRegister().Name = &statepb.Actor{Type: statepb.Actor_KEY, Id: by}, &name
				n.do(c)
			}
		}
		hash, written := hashOf(0, 9), writtenKey(orgs[0], &statepb.Actor{Type: statepb.Actor_KEY, Id: "key00009"})
		n.do(&statepb.Command{TimeMs: start, Change: &statepb.Command_SetSeen{SetSeen: &statepb.SetSeen{Keys: []*statepb.Used{{KeyHash: hash[:], AtMs: start}}}}})
		there := func(key []byte) bool { return must(n.reader().has(key))(t) }
		for _, key := range [][]byte{keyKey(hash), usedKey(hash), written} {
			if !there(key) {
				t.Fatalf("%s: no %q before", name, key)
			}
		}
		n.do(revokeKey(0, 9))
		drop(n)
		for _, key := range [][]byte{keyKey(hash), orgKeyKey(orgs[0], "key00009"), usedKey(hash), written} {
			if there(key) {
				t.Errorf("%s: it has left %q", name, key)
			}
		}
	}
}

// The keys of a deleted org go bit by bit, also over a restart, and all of them.
func TestTheKeysOfADeletedOrgGo(t *testing.T) {
	n := seeded(t)
	deadKeys(n, 2*tidyMax, 0)
	n.do(deleteOrg(0))
	for i, want := range []int{2*tidyMax + keysPerOrg, tidyMax + keysPerOrg, keysPerOrg, 0} {
		n.do(at(start+keepDeadKeys-1+int64(min(i, 1)), revoke(1, "nobody")))
		if keys := must(n.reader().Keys(orgs[0]))(t); len(keys) != want {
			t.Errorf("%d keys are left after %d commands, want %d", len(keys), i, want)
		}
		n.restartIf(i == 1)
	}
	if left := must(keysOf(n.reader(), prefixGoneKeys))(t); len(left) != 0 {
		t.Errorf("%d orgs are left whose keys are to be dropped", len(left))
	}
}

// A cap that falls below what is in use takes nothing away and gives nothing more.
func TestDowngrade(t *testing.T) {
	n := seeded(t)
	n.do(setPlan(0, func(c *statepb.UpdateOrg) { c.PlanTier = new("pro") }))
	for _, id := range []string{"a", "b", "c", "d"} {
		n.do(register(0, id))
	}
	n.do(revoke(0, "d"))
	out := n.do(setPlans(2, "free", "pro"))
	if !out.Changed || n.do(setPlans(2, "free", "pro")).Changed || n.do(setPlans(9, "free")).Refusal != TierMissing {
		t.Errorf("plans: %+v", out)
	}
	out = n.do(setPlan(0, func(c *statepb.UpdateOrg) { c.PlanTier = new("free") }))
	if p := out.Plan; p.Used != 3 || p.Limit != 2 || !p.OverLimit() || p.Remaining() != 0 {
		t.Errorf("after the downgrade: %+v", p)
	}
	n.restart()
	for _, c := range []struct {
		cmd  *statepb.Command
		want Refusal
	}{
		{register(0, "a"), Granted},
		{register(0, "new"), LimitReached},
		{unrevoke(0, "d"), LimitReached},
		{revoke(0, "a"), Granted},
		{register(0, "new"), LimitReached},
		{revoke(0, "b"), Granted},
		{register(0, "new"), Granted},
	} {
		if out := n.do(c.cmd); out.Refusal != c.want {
			t.Errorf("%v: %v, want %v", c.cmd, out.Refusal, c.want)
		}
	}
}
