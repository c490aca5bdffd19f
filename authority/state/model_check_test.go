package state

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// matches compares a record with the model's.
func (d *modelDevice) matches(o *statepb.Occupant) bool {
	if d == nil || o == nil {
		return d == nil && o == nil
	}
	return d.id == o.GetId() && d.name == o.GetName() && bytes.Equal(d.metadata, o.GetMetadata()) &&
		d.created == o.GetCreatedAtMs() && d.revoked == o.GetRevokedAtMs() && d.ends == o.GetExpiresAtMs()
}

// TestModel runs random commands against the model: outcomes, counts, lists and
// decisions agree after every one, and the cap is never exceeded (S7, S8).
func TestModel(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	rapid.Check(t, func(t *rapid.T) {
		n, m, now := newNode(t, db), newModel(), start
		m.now = start
		n.do(seed())
		actions := map[string]func(*rapid.T){
			"": func(t *rapid.T) { m.compare(t, n) },
			"plan": func(t *rapid.T) {
				org := rapid.IntRange(0, neverMade-1).Draw(t, "org")
				o := m.orgs[orgs[org]]
				if o == nil {
					t.Skip("not made yet")
				}
				n.apply(entry{raws: [][]byte{plan(org, func(r *statepb.Org) {
					randomPlan(t, r, m.now)
					r.ExecutionDisabled, r.Version = o.disabled, o.version
					o.held, o.grace, o.access = r.GetHeld(), r.GetGraceUntilMs(), r.GetAccessUntilMs()
					o.tier, o.own = r.GetPlanTier(), r.Limit
					o.unpaid, o.paid, o.paidEnd = false, "", 0
				})}})
				n.commit()
			},
			"restart": func(*rapid.T) { n.restart() },
		}
		for kind, weight := range map[string]int{"create": 1, "execution": 1, "settings": 2, "delete": 1, "plans": 1, "billing": 4, "add key": 1, "rotate key": 1, "revoke key": 1, "register": 6, "revoke": 2, "unrevoke": 2, "remove": 1, "revoke batch": 2, "unrevoke batch": 2} {
			for i := range weight {
				actions[kind+string(rune('0'+i))] = func(t *rapid.T) { m.run(t, n, draw(t, kind, &now)) }
			}
		}
		t.Repeat(actions)
	})
}

// run applies a command to both.
func (m *model) run(t *rapid.T, n *node, cmd *statepb.Command) {
	m.now = max(m.now, cmd.GetTimeMs())
	before := map[OrgID]uint32{}
	for id, o := range m.orgs {
		before[id] = m.used(o)
	}
	got, want := n.do(cmd), m.apply(cmd)
	if !cmp.Equal(got.Batch, want.batch, cmpopts.EquateEmpty()) || got.Restored != want.restored {
		t.Fatalf("%v came to %+v, want %+v", cmd, got, want)
	}
	if got.Replayed != want.replayed || got.Refusal != want.refusal || got.Changed != want.changed || got.Existed != want.existed || !want.device.matches(got.Device) || want.key != got.Key.GetKeyId() {
		t.Fatalf("%v came to %+v, want %+v (device %+v)", cmd, got, want, want.device)
	}
	if (got.Action != "") != (want.changed && !want.replayed) {
		t.Fatalf("%v came to %+v, and is audited as %q (S9)", cmd, got, got.Action)
	}
	switch {
	case want.replayed && got.Plan != want.once.plan:
		t.Fatalf("%v: the replay says %+v, the first said %+v", cmd, got.Plan, want.once.plan)
	case want.once != nil:
		want.once.plan = got.Plan
	}
	if got.Org == nil || want.replayed || cmd.GetDeleteOrg() != nil {
		return
	}
	id := OrgID(got.Org.GetId())
	o := m.orgs[id]
	if p := got.Plan; p.Used != m.used(o) || p.Limit != m.limit(o) || p.Used > before[id] && p.Used > p.Limit {
		t.Fatalf("%v left %+v, want %d used (before: %d) of %d", cmd, p, m.used(o), before[id], m.limit(o))
	}
	if p := must(n.reader().Plan(got.Org, m.now))(t); p != got.Plan {
		t.Fatalf("a reader sees %+v, the command %+v", p, got.Plan)
	}
}

// compare reads the state in every way there is.
func (m *model) compare(t *rapid.T, n *node) {
	if rapid.IntRange(0, 3).Draw(t, "look") != 0 {
		return // what is wrong stays wrong
	}
	r := n.reader()
	if err := check(r); err != nil {
		t.Fatal(err)
	}
	limit := rapid.IntRange(1, 4).Draw(t, "page")
	for org, id := range orgs {
		o := m.orgs[id]
		if (must(r.Org(id))(t) != nil) != (o != nil) {
			t.Fatalf("org %v: want there: %t", id, o != nil)
		}
		if o == nil {
			continue
		}
		if got := must(r.Used(id, m.now))(t); got != m.used(o) {
			t.Fatalf("used %d, want %d", got, m.used(o))
		}
		m.page(t, r, id, limit)
		key := hashOf(org, rapid.IntRange(0, keysInPool).Draw(t, "key")) // the last is nobody's
		for _, device := range devices {
			if got, want := decide(t, r, key, device, m.now), m.decide(key, device); got != want {
				t.Fatalf("%v %q: %v, want %v", id, device, got, want)
			}
		}
	}
}

// page walks the list.
func (m *model) page(t *rapid.T, r Reader, id OrgID, limit int) {
	want, from := m.list(m.orgs[id]), Cursor{}
	for more := true; more; {
		list, next, err := r.List(id, from, limit, m.now)
		if err != nil || len(list) > limit || len(list) > len(want) || next != (len(want) > len(list)) {
			t.Fatalf("a page of %d, more %t, %v: want %d in all", len(list), next, err, len(want))
		}
		for i, o := range list {
			if !want[i].matches(o) {
				t.Fatalf("listed %v, want %+v", o, want[i])
			}
			from = Cursor{o.GetCreatedAtMs(), o.GetId()}
		}
		want, more = want[len(list):], next
	}
}

// decide judges records as an edge does.
func decide(tb tb, r Reader, key [32]byte, device string, now int64) decision.Code {
	k := must(r.Key(key))(tb)
	org := idOf(k.GetOrgId())
	return decision.Decide(KeyOf(k), HolderOf(must(r.Org(org))(tb)), OccupantOf(must(r.Occupant(org, device))(tb)), now)
}

// keysOf lists the keys with a prefix.
func keysOf(r Reader, prefix byte) (keys [][]byte, err error) {
	err = r.scan([]byte{prefix}, []byte{prefix + 1}, func(k, _ []byte) (bool, error) {
		keys = append(keys, bytes.Clone(k))
		return true, nil
	})
	return keys, err
}
