package state

import (
	"testing"

	"machineid/authority/state/statepb"
)

func signUp(org int, most uint32) *statepb.Command {
	c := createOrg(org)
	c.GetCreateOrg().SignUp = &statepb.SignUp{MaxOrgs: most}
	return c
}

func expire(ms, before int64) *statepb.Command {
	return &statepb.Command{TimeMs: ms, Change: &statepb.Command_ExpireSignups{ExpireSignups: &statepb.ExpireSignups{BeforeMs: before}}}
}

// TestMaxOrgs: nobody signs up where there are as many orgs as may be, also after a restart and a deletion; operators are not held to it, and
// asking again for an org that was made is not refused.
func TestMaxOrgs(t *testing.T) {
	n := newNode(t, openDB(t))
	n.do(seed())
	is := func(c *statepb.Command, want Refusal) {
		t.Helper()
		if out := n.do(c); out.Refusal != want || out.Changed != (want == Granted) {
			t.Errorf("%+v, want refusal %d", out, want)
		}
	}
	is(createOrg(0), Granted)
	is(signUp(1, 2), Granted)
	is(signUp(2, 2), OrgLimit)
	if must(n.reader().Org(orgs[2]))(t) != nil {
		t.Error("the org is there")
	}
	if out := n.do(signUp(1, 2)); out.Refusal != Granted || out.Changed {
		t.Errorf("again: %+v", out)
	}
	is(createOrg(2), Granted) // by an operator
	n.restart()
	is(deleteOrg(2), Granted)
	is(deleteOrg(0), Granted)
	is(signUp(0, 2), Granted)
	is(signUp(2, 2), OrgLimit)
	is(deleteOrg(0), Granted) // counted already
	is(signUp(0, 2), Granted)
	is(signUp(2, 2), OrgLimit)
	n.restart()
	is(signUp(2, 2), OrgLimit)
	is(signUp(2, 0), Granted)
}

// TestExpireSignups: what was signed up before the time and never had a device goes, with its keys; whatever somebody uses, pays for or
// has changed stays, and is not looked at again.
func TestExpireSignups(t *testing.T) {
	for name, c := range map[string]struct {
		make  *statepb.Command
		then  []*statepb.Command
		stays bool
	}{
		"never used":         {make: signUp(0, 0)},
		"keys made only":     {make: signUp(0, 0), then: []*statepb.Command{addKey(0, 5, statepb.Key_AGENT)}},
		"by an operator":     {make: createOrg(0), stays: true},
		"has a device":       {make: signUp(0, 0), then: []*statepb.Command{register(0, "a")}, stays: true},
		"had a device":       {make: signUp(0, 0), then: []*statepb.Command{register(0, "a"), remove(0, "a")}, stays: true},
		"was given a plan":   {make: signUp(0, 0), then: []*statepb.Command{setPlan(0, func(c *statepb.UpdateOrg) { c.PlanTier = new("pro") })}, stays: true},
		"is held":            {make: signUp(0, 0), then: []*statepb.Command{setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(true) })}, stays: true},
		"is gone":            {make: signUp(0, 0), then: []*statepb.Command{deleteOrg(0)}},
		"made anew meantime": {make: signUp(0, 0), then: []*statepb.Command{deleteOrg(0), at(start+5000, createOrg(0))}, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, openDB(t))
			n.do(seed())
			n.do(setPlans(3, "free", "pro"))
			n.do(c.make)
			for _, cmd := range c.then {
				if out := n.do(cmd); out.Refusal != Granted {
					t.Fatalf("%v: %+v", cmd, out)
				}
			}
			n.do(expire(start+10_000, start)) // it is of that time: not before it
			if gone := must(n.reader().Org(orgs[0]))(t) == nil; gone != (name == "is gone") {
				t.Fatal("it went too early")
			}
			if due := must(n.reader().SignupsBefore(start + 1))(t); due != (c.make.GetCreateOrg().GetSignUp() != nil) {
				t.Errorf("due: %t", due)
			}
			n.do(expire(start+10_000, start+1))
			heard := len(n.heard[len(n.heard)-1].concerns)
			if stays := must(n.reader().Org(orgs[0]))(t) != nil; stays != c.stays {
				t.Errorf("it stays: %t", stays)
			} else if name == "never used" && heard == 0 {
				t.Error("no edge is told that it is gone")
			}
			if must(n.reader().SignupsBefore(start+1<<40))(t) || len(must(keysOf(n.reader(), prefixSignup))(t)) != 0 {
				t.Error("it would be looked at again")
			}
			before := n.dump()
			n.restart()
			if n.dump() != before {
				t.Error("a restart changed it")
			}
		})
	}
}

// TestExpireSignupsInPortions: one command looks at a few, and never at what is younger than the state's time.
func TestExpireSignupsInPortions(t *testing.T) {
	n := newNode(t, openDB(t))
	n.do(seed())
	for i := range 2*expireMax + 3 {
		id := OrgID{0xee, byte(i)}
		n.do(&statepb.Command{TimeMs: start + int64(i), Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: id[:], SignUp: &statepb.SignUp{}}}})
	}
	for _, want := range []int{expireMax + 3, 3, 1, 1} {
		n.do(expire(start, start+1<<40))
		if left := len(must(keysOf(n.reader(), prefixOrg))(t)); left != want {
			t.Errorf("%d orgs are left, want %d", left, want)
		}
	}
}
