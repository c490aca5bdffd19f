package state

import (
	"testing"

	"machineid/authority/state/statepb"
)

// TestAnInstalledStateIsAllThereIs: a node that is given another state while it runs goes on as one that began with it (S5). Nothing that it
// kept of its own counts any more: no key, org, seats or count.
func TestAnInstalledStateIsAllThereIs(t *testing.T) {
	kept := seeded(t) // what the node had: keys in force, orgs that may, seats taken
	for _, device := range []string{"a", "b", "c"} {
		kept.do(from(0, 1, register(0, device)))
		kept.do(register(1, device))
	}
	kept.do(signUp(2, 100))        // counts them
	history := []*statepb.Command{ // what it is given: the opposite
		revokeKey(0, 0), setPlan(1, func(c *statepb.UpdateOrg) { c.Held = new(true) }), setPlan(0, func(c *statepb.UpdateOrg) { c.Limit = new(uint32(1)) }),
	}
	given, fresh := seeded(t), seeded(t)
	for _, cmd := range history {
		given.do(cmd)
		fresh.do(cmd)
	}
	fresh.restart()
	kept.commit()
	kept.db, kept.at = given.db, given.at
	if err := kept.m.Restored(kept.db, kept.at); err != nil {
		t.Fatal(err)
	}
	for i, cmd := range []*statepb.Command{
		from(0, 2, register(0, "d")), register(0, "e"), register(0, "f"), register(1, "a"), revoke(1, "a"), setExecution(1, true), signUp(2, 3), register(2, "a"),
	} {
		if got, want := kept.do(cmd), fresh.do(cmd); got.Refusal != want.Refusal || got.Changed != want.Changed {
			t.Errorf("command %d: %v, changed %v; a node that began with that state: %v, %v", i, got.Refusal, got.Changed, want.Refusal, want.Changed)
		}
	}
	if got, want := kept.dump(), fresh.dump(); got != want {
		t.Errorf("the states differ:\n%s\nwant\n%s", got, want)
	}
}
