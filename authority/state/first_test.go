package state

import (
	"testing"

	"machineid/authority/state/statepb"
)

// A look that is refused does not count what has ended: whoever has many of those would make every refusal a long read.
func TestALookCountsNobody(t *testing.T) {
	t.Parallel()
	const many, most = 1000, 12 // records that a look reads
	n := seeded(t)
	n.do(register(0, "off"))
	n.do(revoke(0, "off"))
	now := ending(n, many)
	for _, frozen := range []bool{false, true} {
		n.do(at(now, setPlan(0, func(c *statepb.UpdateOrg) { c.Held = &frozen })))
		for _, c := range []struct {
			cmd  *statepb.Command
			want Refusal // Granted: not foreseen
		}{
			{revoke(0, "nobody"), DeviceNotFound},
			{unrevoke(0, "nobody"), DeviceNotFound},
			{remove(0, "d0"), DeviceNotFound},
			{register(0, "off"), DeviceRevoked},
			{register(0, "new"), map[bool]Refusal{true: PlanFrozen}[frozen]},
			{unrevoke(0, "off"), map[bool]Refusal{true: PlanFrozen}[frozen]},
		} {
			read := 0
			out, refused, err := n.reader().Paced(func() error { read++; return nil }).Refuses(c.cmd, now, First{})
			if err != nil || out.Refusal != c.want || refused != (c.want != Granted) || read > most {
				t.Errorf("%v, frozen %t: %v %v, want %v; %d records were read, want %d at most", c.cmd, frozen, out.Refusal, err, c.want, read, most)
			}
		}
	}
}

// What a look cannot refuse because devices have ended is swept when it is applied: the log grows by no more of it than they were.
func TestWhatHasEndedIsSweptByARefusal(t *testing.T) {
	t.Parallel()
	for name, cmd := range map[string]func() *statepb.Command{
		"register": func() *statepb.Command { return register(0, "new") },
		"unrevoke": func() *statepb.Command { return unrevoke(0, "off") },
	} {
		n := seeded(t)
		n.do(setLimit(0, 2000))
		for _, id := range []string{"off", "a", "b"} {
			n.do(register(0, id))
		}
		n.do(revoke(0, "off"))
		now := ending(n, sweepMax+sweepMax/2)
		n.do(at(now, setLimit(0, 2)))
		for i := range 4 {
			_, foreseen, err := n.reader().Refuses(cmd(), now, First{})
			if err != nil || foreseen != (i >= 2) {
				t.Errorf("%s %d: foreseen %t, %v", name, i, foreseen, err)
			}
			if out := n.do(at(now, cmd())); out.Refusal != LimitReached || out.Plan.Used != 2 {
				t.Errorf("%s %d: %v, %d are used", name, i, out.Refusal, out.Plan.Used)
			}
		}
		if left := len(must(keysOf(n.reader(), prefixByEnd))(t)); left != 0 {
			t.Errorf("%s: %d that have ended are left", name, left)
		}
	}
}

// TestALookReadsFewKeys: of an org that makes and ends keys all the time it says nothing, and what it would have refused is refused where it is applied.
func TestALookReadsFewKeys(t *testing.T) {
	n := seeded(t)
	unknown := revokeKey(0, 1)
	unknown.GetRevokeKey().KeyId = "nobody00"
	if _, refused, err := n.reader().Refuses(unknown, n.m.Time(), First{Orgs: n.m.Orgs()}); err != nil || !refused {
		t.Fatalf("few keys: refused %t, %v", refused, err)
	}
	for i := range lookKeysMax {
		n.do(addKey(0, 2+i, statepb.Key_AGENT))
		n.do(revokeKey(0, 2+i))
	}
	if _, refused, err := n.reader().Refuses(unknown, n.m.Time(), First{Orgs: n.m.Orgs()}); err != nil || refused {
		t.Errorf("many keys: refused %t, %v", refused, err)
	}
	if out, _ := n.apply(entry{raws: [][]byte{encode(unknown)}})[0].(Outcome); out.Refusal != KeyNotFound {
		t.Errorf("%+v", out)
	}
	n.commit()
}
