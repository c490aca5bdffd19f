package state

import (
	"bytes"
	"net/netip"
	"testing"

	"machineid/authority/state/statepb"
)

// TestStops: what takes rights away must get through on a full disk, what gives
// them must not use up its last room.
func TestStops(t *testing.T) {
	for _, c := range []struct {
		cmd  *statepb.Command
		want bool
	}{
		{revoke(0, "a"), true},
		{remove(0, "a"), true},
		{revokeBatchOf(0, "a"), true},
		{unrevokeBatchOf(0, "a"), false},
		{setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(true) }), true},
		{setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(false) }), false},
		{setPlan(0, func(c *statepb.UpdateOrg) { c.Held, c.NoLimit = new(true), true }), false},
		{deleteOrg(0), true},
		{setPlans(3, "free"), false},
		{revokeKey(0, 0), true},
		{rotateKey(0, 0, 2, 0), false},
		{setExecution(0, false), true},
		{setExecution(0, true), false},
		{unrevoke(0, "a"), false},
		{register(0, "a"), false},
		{createOrg(0), false},
		{&statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{}}}, true},
		{&statepb.Command{Change: &statepb.Command_ReserveTime{ReserveTime: &statepb.ReserveTime{}}}, true},
		{&statepb.Command{}, false},
	} {
		if got := Stops(c.cmd); got != c.want {
			t.Errorf("%v: %v", c.cmd, got)
		}
	}
}

// TestFor: an org's commands are its own, whoever sends them; without an org, one host is one party by whichever of its addresses.
func TestFor(t *testing.T) {
	from := func(cmd *statepb.Command, address string) [16]byte {
		cmd.Address = address
		return For(cmd)
	}
	if from(revoke(0, "a"), "192.0.2.1") != [16]byte(orgs[0]) || from(revoke(0, "a"), "192.0.2.1") == from(revoke(1, "a"), "192.0.2.1") {
		t.Error("an org's command is not its own")
	}
	hold := setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(true) })
	if hold.OperatorHash = bytes.Repeat([]byte{7}, 32); For(hold) != [16]byte(hold.GetOperatorHash()[:16]) {
		t.Error("what an operator asks of an org is the org's")
	}
	for _, c := range []struct{ address, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"192.0.2.2", "192.0.2.2"},
		{"2001:db8:0:1::1", "2001:db8::"},
		{"2001:db8:0:ffff:ffff:ffff:ffff:ffff", "2001:db8::"},
		{"2001:db8:1:1::1", "2001:db8:1::"},
	} {
		if got := from(setPlans(3, "free"), c.address); got != netip.MustParseAddr(c.want).As16() {
			t.Errorf("%s is %s, want %s", c.address, netip.AddrFrom16(got), c.want)
		}
	}
	if from(setPlans(3, "free"), "") != [16]byte{} {
		t.Error("the authority itself is a party")
	}
}

// TestLarge: what changes hundreds of records waits for others of its kind; what changes one never does.
func TestLarge(t *testing.T) {
	few, many := make([]string, largeIDs-1), make([]string, largeIDs)
	for _, c := range []struct {
		cmd  *statepb.Command
		want bool
	}{
		{revokeBatchOf(0, many...), true},
		{unrevokeBatchOf(0, many...), true},
		{revokeBatchOf(0, few...), false},
		{unrevokeBatchOf(0, few...), false},
		{allOf(revokeBatchOf(0)), true},
		{allOf(unrevokeBatchOf(0)), true},
		{deleteOrg(0), true},
		{&statepb.Command{Change: &statepb.Command_ExpireSignups{ExpireSignups: &statepb.ExpireSignups{}}}, true},
		{register(0, "a"), false},
		{revoke(0, "a"), false},
		{setExecution(0, false), false},
		{createOrg(0), false},
		{&statepb.Command{Change: &statepb.Command_ReserveTime{ReserveTime: &statepb.ReserveTime{}}}, false},
		{&statepb.Command{}, false},
	} {
		if got := Large(c.cmd); got != c.want {
			t.Errorf("%v: %v", c.cmd, got)
		}
	}
}
