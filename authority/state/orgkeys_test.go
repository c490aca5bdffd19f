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
	n.do(at(start+11_000+deadKeysStay, addKey(1, 201, statepb.Key_AGENT)))
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
	keys := must(n.reader().Keys(orgs[1]))(t)
	if len(keys) != keysPerOrg+deadKeysMax+2 || must(n.reader().Key(hashOf(1, 10)))(t) != nil || must(n.reader().Key(hashOf(1, 119)))(t) == nil {
		t.Errorf("%d keys are left", len(keys))
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
