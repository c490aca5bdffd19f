package state

import (
	"fmt"
	"strings"
	"testing"

	"machineid/authority/state/statepb"
)

// did is a command and what it must come to: the refusal, with + if something
// changed and = if the device existed, and how many seats are then taken.
type did struct {
	cmd  *statepb.Command
	want string
	used uint32
}

// script runs commands one by one.
func script(t *testing.T, n *node, steps ...did) {
	t.Helper()
	for i, s := range steps {
		out := n.do(s.cmd)
		got := map[Refusal]string{
			Granted: "", OrgNotFound: "no org", DeviceNotFound: "no device", DeviceRevoked: "revoked",
			LimitReached: "limit", PlanFrozen: "frozen", EntitlementExpired: "expired",
		}[out.Refusal]
		if out.Changed {
			got += "+"
		}
		if out.Existed {
			got += "="
		}
		if got != s.want || out.Plan.Used != s.used {
			t.Errorf("step %d, %v: %q with %d used, want %q with %d", i, s.cmd, got, out.Plan.Used, s.want, s.used)
		}
		if err := check(n.reader()); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

func TestDevices(t *testing.T) {
	script(t, seeded(t), []did{
		{register(0, "a"), "+", 1},
		{register(0, "a"), "=", 1},
		{register(0, "b"), "+", 2},
		{register(0, "c"), "+", 3},
		{register(0, "d"), "limit", 3},
		{register(1, "d"), "+", 1},
		{revoke(0, "a"), "+", 2},
		{revoke(0, "a"), "", 2},
		{register(0, "a"), "revoked", 2},
		{register(0, "d"), "+", 3},
		{unrevoke(0, "a"), "limit", 3},
		{unrevoke(0, "b"), "", 3},
		{remove(0, "b"), "+", 2},
		{remove(0, "b"), "no device", 2},
		{revoke(0, "b"), "no device", 2},
		{unrevoke(0, "b"), "no device", 2},
		{unrevoke(0, "a"), "+", 3},
		{setExecution(0, false), "+", 3},
		{setExecution(0, false), "", 3},
		{setExecution(0, true), "+", 3},
		{createOrg(0), "", 3},
	}...)
}

func TestExpiry(t *testing.T) {
	const second = 1000
	n := seeded(t)
	script(t, n, []did{
		{registerFor(0, "a", 10), "+", 1},
		{registerFor(0, "b", 10), "+", 2},
		{revoke(0, "b"), "+", 1},
		{register(0, "c"), "+", 2},
		{register(0, "ab"), "+", 3},
		// One millisecond before and at the end: the slot is free exactly then.
		{at(start+10*second-1, register(0, "d")), "limit", 3},
		{at(start+10*second-1, registerFor(1, "a", 10)), "+", 1},
	}...)
	if got := must(n.reader().Used(orgs[0], start+10*second-1))(t); got != 3 {
		t.Errorf("before the end: %d used", got)
	}
	if got := must(n.reader().Used(orgs[0], start+10*second))(t); got != 2 {
		t.Errorf("at the end: %d used", got)
	}
	script(t, n, []did{
		{at(start+10*second, revoke(0, "a")), "no device", 2},
		// A revoked one stays after its end: it cannot outwait its revocation.
		{at(start+10*second, register(0, "b")), "revoked", 2},
		{at(start+10*second, revoke(0, "b")), "", 2},
		{at(start+10*second, unrevoke(0, "b")), "no device", 2}, // nothing is left to restore
		{at(start+10*second, remove(0, "b")), "+", 2},
		{at(start+10*second, register(0, "b")), "+", 3}, // anew, and active
		{at(start+10*second, register(0, "a")), "limit", 3},
		{at(start+10*second, remove(0, "c")), "+", 2},
		{at(start+10*second+1, registerFor(0, "a", 1)), "+", 3},
		{at(start+11*second+1, registerFor(0, "a", 1)), "+", 3},
		{at(start+11*second+2, registerFor(0, "a", 1)), "+=", 3}, // its end moves
	}...)
	d := must(n.reader().Occupant(orgs[0], "a"))(t)
	if d.GetCreatedAtMs() != start+11*second+1 || d.GetExpiresAtMs() != start+12*second+2 {
		t.Errorf("registered again as %v", d)
	}
	if s := must(n.reader().Seats(orgs[0]))(t); s.GetActive() != 3 || s.GetRevoked() != 0 || s.GetEnding() != 1 {
		t.Errorf("seats %v", s)
	}
}

// TestSweep holds that what has ended is cleared away by and by, and that nothing
// depends on how far that has come (S7).
func TestSweep(t *testing.T) {
	n := seeded(t)
	n.apply(entry{raws: [][]byte{plan(0, func(o *statepb.Org) { o.Limit = new(uint32(2 * sweepMax)) })}})
	for i := range sweepMax + 10 {
		n.apply(entry{raws: [][]byte{encode(registerFor(0, fmt.Sprintf("d%04d", i), 1))}})
	}
	n.commit()
	last := fmt.Sprintf("d%04d", sweepMax+9) // not swept by the next command
	script(t, n, []did{
		{at(start+5000, revoke(0, last)), "no device", 0},
		{at(start+5000, register(0, "a")), "+", 1},
		{at(start+5000, revoke(0, last)), "no device", 1},
	}...)
	if s := must(n.reader().Seats(orgs[0]))(t); s.GetActive() != 11 || s.GetEnding() != 10 {
		t.Errorf("after one sweep: %v", s)
	}
	script(t, n, did{at(start+5000, register(0, last)), "+", 2}, did{at(start+5000, register(0, "b")), "+", 3})
	if s := must(n.reader().Seats(orgs[0]))(t); s.GetActive() != 3 || s.GetEnding() != 0 {
		t.Errorf("after all: %v", s)
	}
}

func TestPlans(t *testing.T) {
	for _, c := range []struct {
		name  string
		org   func(*statepb.Org)
		want  string
		state PlanState
		limit uint32
	}{
		{"free", func(*statepb.Org) {}, "+", PlanActive, 3},
		{"pro", func(o *statepb.Org) { o.PlanTier = "pro" }, "+", PlanActive, 25},
		{"unknown tier", func(o *statepb.Org) { o.PlanTier = "gone" }, "limit", PlanActive, 0},
		{"limit 1", func(o *statepb.Org) { o.Limit = new(uint32(1)) }, "limit", PlanActive, 1},
		{"limit 0", func(o *statepb.Org) { o.Limit = new(uint32(0)) }, "limit", PlanActive, 0},
		{"held", func(o *statepb.Org) { o.Held = true }, "frozen", PlanIsFrozen, 3},
		{"unpaid", func(o *statepb.Org) { o.Unpaid = true }, "frozen", PlanIsFrozen, 3},
		{"grace", func(o *statepb.Org) { o.GraceUntilMs = start + 1 }, "+", PlanGrace, 3},
		{"grace over", func(o *statepb.Org) { o.GraceUntilMs = start }, "frozen", PlanIsFrozen, 3},
		{"access ended", func(o *statepb.Org) { o.AccessUntilMs = start }, "expired", PlanActive, 3},
		{"held and ended", func(o *statepb.Org) { o.Held, o.AccessUntilMs = true, start }, "frozen", PlanIsFrozen, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := seeded(t)
			n.do(register(0, "a"))
			n.do(register(0, "b"))
			n.do(revoke(0, "b"))
			n.apply(entry{raws: [][]byte{plan(0, c.org)}})
			used := uint32(1)
			if c.want == "+" {
				used = 2
			}
			script(t, n, did{unrevoke(0, "b"), c.want, used}, did{revoke(0, "b"), strings.Repeat("+", int(used)-1), 1},
				did{register(0, "c"), c.want, used}, did{register(0, "a"), "=", used})
			p := n.do(setExecution(0, true)).Plan
			if p.State != c.state || p.Limit != c.limit || p.Remaining() != max(c.limit, used)-used || p.OverLimit() != (used > c.limit) {
				t.Errorf("plan %+v", p)
			}
		})
	}
}
