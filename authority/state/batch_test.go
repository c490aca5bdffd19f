package state

import (
	"fmt"
	"slices"
	"testing"

	"machineid/authority/state/statepb"
)

// many makes an org of n devices, one of them each millisecond.
func many(t *testing.T, count int) (n *node, ids []string) {
	t.Helper()
	n = seeded(t)
	n.apply(entry{raws: [][]byte{plan(0, func(o *statepb.Org) { o.Limit = new(uint32(10 * BatchMax)) })}})
	for i := range count {
		ids = append(ids, fmt.Sprintf("d%05d", i))
		n.apply(entry{raws: [][]byte{encode(at(start+int64(i), register(0, ids[i])))}})
	}
	n.commit()
	return n, ids
}

// through runs a batch of all, stretch by stretch.
func through(t *testing.T, n *node, c *statepb.Command, between func(i int)) (counts []uint32) {
	t.Helper()
	for i := 0; ; i++ {
		out := n.do(c)
		if err := check(n.reader()); err != nil || out.Refusal != Granted {
			t.Fatalf("%v, %v", out.Refusal, err)
		}
		counts = append(counts, out.Batch.Count)
		if out.Batch.Next == nil {
			return counts
		}
		if b := c.GetRevokeBatch(); b != nil {
			b.All = out.Batch.Next
		} else {
			c.GetUnrevokeBatch().All = out.Batch.Next
		}
		between(i)
	}
}

// All the active are revoked in stretches, each of which is one change, and what comes after the first is left alone.
func TestRevokeAll(t *testing.T) {
	n, ids := many(t, 2*BatchMax+10)
	late := start + int64(len(ids)) + 10
	counts := through(t, n, at(late, allOf(revokeBatchOf(0))), func(i int) {
		n.do(at(late+1, register(0, fmt.Sprintf("late%d", i))))
		n.do(at(late+1, unrevoke(0, ids[0]))) // is behind by now
	})
	if want := []uint32{BatchMax, BatchMax, 10}; !slices.Equal(counts, want) {
		t.Errorf("revoked %v, want %v", counts, want)
	}
	if used := must(n.reader().Used(orgs[0], late+2))(t); used != 3 {
		t.Errorf("%d are active, want late0, late1 and the one that was restored", used)
	}
}

// The newest revoked come first, ties by id, and no more than there is room for.
func TestUnrevokeAll(t *testing.T) {
	n, ids := many(t, 2*BatchMax)
	for i, id := range ids {
		n.apply(entry{raws: [][]byte{encode(at(start+10_000+int64(i/2), revoke(0, id)))}})
	}
	n.commit()
	out := n.do(at(start+20_000, allOf(unrevokeBatchOf(0))))
	last := len(ids) - 1
	if s := out.Batch.Sample; len(s) != SampleMax || s[0] != ids[last-1] || s[1] != ids[last] || s[2] != ids[last-3] {
		t.Errorf("restored %v first", s)
	}
	if out.Batch.Count != BatchMax || out.Batch.Next == nil || out.Batch.AtCap {
		t.Errorf("%+v", out.Batch)
	}
	n.apply(entry{raws: [][]byte{plan(0, func(o *statepb.Org) { o.Limit = new(uint32(BatchMax + 3)) })}})
	next := allOf(unrevokeBatchOf(0))
	next.GetUnrevokeBatch().All = out.Batch.Next
	if out = n.do(next); out.Batch.Count != 3 || !out.Batch.AtCap || out.Batch.Next != nil || out.Plan.Remaining() != 0 {
		t.Errorf("%+v of %+v", out.Batch, out.Plan)
	}
	if out = n.do(allOf(unrevokeBatchOf(0))); out.Batch.Count != 0 || !out.Batch.AtCap || out.Changed {
		t.Errorf("at the cap: %+v", out.Batch)
	}
	n.do(setExecution(0, true))
	if out = n.do(allOf(unrevokeBatchOf(1))); out.Batch.Count != 0 || out.Batch.AtCap {
		t.Errorf("none is revoked: %+v", out.Batch)
	}
}

// A batch is one change: one audit entry with its count, and in a frozen org none at all.
func TestBatchIsOne(t *testing.T) {
	n, ids := many(t, 3)
	audits := func() int { return len(must(keysOf(n.reader(), prefixAudit))(t)) }
	before := audits()
	out := n.do(revokeBatchOf(0, ids[0], "nobody", ids[1], ids[0]))
	want := []Item{{ids[0], Granted, true}, {"nobody", DeviceNotFound, false}, {ids[1], Granted, true}, {ids[0], Granted, false}}
	if !slices.Equal(out.Batch.Items, want) || out.Batch.Count != 2 || audits() != before+1 {
		t.Errorf("%+v and %d audit entries", out.Batch, audits()-before)
	}
	n.do(revokeBatchOf(0, ids[0], "nobody"))
	if audits() != before+1 {
		t.Error("an entry for what changed nothing")
	}
	n.apply(entry{raws: [][]byte{plan(0, func(o *statepb.Org) { o.Held = true })}})
	if out := n.do(unrevokeBatchOf(0, ids[2], ids[0])); out.Refusal != PlanFrozen || out.Changed || out.Batch.Items != nil {
		t.Errorf("frozen: %+v", out)
	}
	if out := n.do(unrevokeBatchOf(0, ids[2], "nobody")); out.Refusal != Granted {
		t.Errorf("frozen, but nobody needs a seat: %+v", out)
	}
	if out := n.do(revokeBatchOf(0, ids...)); out.Batch.Count != 1 {
		t.Errorf("frozen, and revoked: %+v", out)
	}
	tooMany := make([]string, BatchMax+1)
	if out := n.do(revokeBatchOf(0, tooMany...)); len(out.Batch.Items) != BatchMax {
		t.Errorf("%d of too many were looked at", len(out.Batch.Items))
	}
}

// Only an org of the first generation restores by registering, and only for those who may.
func TestRegisterRestores(t *testing.T) {
	n := seeded(t)
	may := func(c *statepb.Command) *statepb.Command {
		c.GetRegister().MayRestore = true
		return c
	}
	n.do(register(0, "a"))
	n.do(revoke(0, "a"))
	script(t, n, did{may(register(0, "a")), "revoked", 0})
	n.apply(entry{raws: [][]byte{plan(0, func(o *statepb.Org) { o.Version, o.Limit = 1, new(uint32(1)) })}})
	script(t, n, did{register(0, "a"), "revoked", 0}, did{register(0, "b"), "+", 1}, did{may(register(0, "a")), "limit", 1}, did{remove(0, "b"), "+", 0})
	if out := n.do(may(registerFor(0, "a", 5))); !out.Restored || !out.Changed || out.Existed || out.Plan.Used != 1 || out.Device.GetExpiresAtMs() == 0 {
		t.Errorf("%+v", out)
	}
	n.do(revoke(0, "a"))
	script(t, n, did{at(start+6000, may(register(0, "a"))), "revoked", 0}, did{at(start+6000, may(registerFor(0, "a", 5))), "+", 1})
}
