package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/authority/state/statepb"
)

func TestUnknownOrg(t *testing.T) {
	n := seeded(t)
	before := len(n.dump())
	for _, org := range [][]byte{orgs[neverMade][:], nil, {1}, make([]byte, 16), make([]byte, 17)} {
		for _, cmd := range []*statepb.Command{register(0, "a"), revoke(0, "a"), unrevoke(0, "a"), remove(0, "a"), setExecution(0, false)} {
			c := cmd.ProtoReflect().Get(cmd.ProtoReflect().WhichOneof(cmd.ProtoReflect().Descriptor().Oneofs().Get(0))).Message()
			c.Set(c.Descriptor().Fields().ByName("org_id"), protoreflect.ValueOfBytes(org))
			if out := n.do(cmd); out.Refusal != OrgNotFound || out.Changed || out.Org != nil {
				t.Errorf("%v came to %+v", cmd, out)
			}
		}
	}
	for _, c := range []*statepb.CreateOrg{{}, {OrgId: []byte{1}}, {OrgId: orgs[neverMade][:], Keys: []*statepb.Key{{Hash: []byte{1}}}}} {
		if out := n.do(&statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: c}}); out.Refusal != OrgNotFound || out.Changed {
			t.Errorf("%v came to %+v", c, out)
		}
	}
	if len(n.dump()) != before {
		t.Errorf("a refusal left something behind:\n%s", n.dump())
	}
}

// TestKeysStay holds that a command cannot take a key from another org, nor add
// one to an org that is there.
func TestKeysStay(t *testing.T) {
	n := seeded(t)
	c := createOrg(1)
	c.GetCreateOrg().OrgId = orgs[neverMade][:]
	n.do(c)
	again := createOrg(0)
	fresh := hashOf(7, 7)
	again.GetCreateOrg().Keys[0].Hash = fresh[:]
	n.do(again)
	if k := must(n.reader().Key(hashOf(1, 0)))(t); idOf(k.GetOrgId()) != orgs[1] {
		t.Errorf("the key went to %x", k.GetOrgId())
	}
	if k := must(n.reader().Key(fresh))(t); k != nil {
		t.Errorf("a replay added %v", k)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

func TestSeedOnce(t *testing.T) {
	n := newNode(t, openDB(t))
	if out := n.do(&statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{}}}); out.Changed || n.m.Cluster() != nil {
		t.Error("a seed without a cluster changed something")
	}
	if out := n.do(setLink(1, true)); out.Changed || n.m.Cluster() != nil {
		t.Error("a link record before the seed changed something")
	}
	if out := n.do(seed()); !out.Changed || n.m.Cluster().GetClusterId() != "c1" {
		t.Error("the seed changed nothing")
	}
	other := seed()
	other.GetSeed().Cluster.ClusterId = "c2"
	if out := n.do(other); out.Changed || n.m.Cluster().GetClusterId() != "c1" {
		t.Error("the second seed changed something")
	}
	n.restart()
	if n.m.Cluster().GetClusterId() != "c1" {
		t.Error("another cluster after a restart")
	}
}

// TestReserveTime: what is reserved only grows, also under a leader whose clock is behind (S15).
func TestReserveTime(t *testing.T) {
	n := newNode(t, openDB(t))
	reserve := func(until int64) Outcome {
		return n.do(&statepb.Command{TimeMs: start, Change: &statepb.Command_ReserveTime{ReserveTime: &statepb.ReserveTime{UntilMs: until}}})
	}
	if out := reserve(start + 5); out.Changed || n.m.Reserved() != 0 {
		t.Errorf("before there is a cluster: %+v, %d", out, n.m.Reserved())
	}
	n.do(seed())
	held := n.m.Cluster() // a reader that looks while commands are applied
	for _, step := range []struct {
		until, want int64
		changed     bool
	}{{start + 5, start + 5, true}, {start + 3, start + 5, false}, {start + 5, start + 5, false}, {start + 9, start + 9, true}} {
		if out := reserve(step.until); out.Changed != step.changed || n.m.Reserved() != step.want {
			t.Errorf("up to %d: %+v, %d", step.until, out, n.m.Reserved())
		}
	}
	if held.GetReservedMs() != 0 {
		t.Error("a record that others read was changed")
	}
	n.restart()
	if got := n.m.Reserved(); got != start+9 {
		t.Errorf("after a restart %d", got)
	}
}

func TestSetLink(t *testing.T) {
	n := seeded(t)
	link := func(term uint64, open bool) bool {
		n.apply(entry{term: 5, raws: [][]byte{encode(setLink(term, open))}})
		n.commit()
		out, ok := n.outcomes[len(n.outcomes)-1].(Outcome)
		return ok && out.Changed
	}
	held := n.m.Cluster() // a reader that looks while commands are applied
	for _, term := range []uint64{0, 4, 6} {
		if link(term, true) || n.m.Cluster().GetLink().GetOpen() {
			t.Errorf("the record of term %d was taken in term 5", term)
		}
	}
	if !link(5, true) || !n.m.Cluster().GetLink().GetOpen() {
		t.Error("the record of this term was not taken")
	}
	if link(5, true) {
		t.Error("the same record changed something")
	}
	if held.GetLink() != nil {
		t.Error("a record that others read was changed")
	}
	n.restart()
	if !n.m.Cluster().GetLink().GetOpen() || n.m.Cluster().GetClusterId() != "c1" {
		t.Error("the record was lost")
	}
}

// TestTime holds S6.
func TestTime(t *testing.T) {
	n := newNode(t, openDB(t))
	n.do(at(math.MinInt64, seed()))
	n.do(at(0, createOrg(0)))
	if n.m.Time() != 1 { // zero would be "never"
		t.Errorf("time %d", n.m.Time())
	}
	n.do(at(0, register(0, "a")))
	if out := n.do(at(0, revoke(0, "a"))); !out.Changed || out.Device.GetRevokedAtMs() != 1 {
		t.Errorf("revoked at time zero: %+v", out)
	}
	n.do(at(start, register(0, "b")))
	if out := n.do(at(start-5000, register(0, "c"))); out.Device.GetCreatedAtMs() != start || n.m.Time() != start {
		t.Errorf("time went back: %v", out.Device)
	}
	// Also within one entry.
	n.apply(entry{raws: [][]byte{encode(at(start, register(0, "b"))), encode(at(start+9, revoke(0, "b"))), encode(at(start+1, unrevoke(0, "b")))}})
	if n.m.Time() != start+9 {
		t.Errorf("time went back within an entry: %d", n.m.Time()-start)
	}
	n.restart()
	if n.m.Time() != start+9 || must(n.reader().Mark())(t) != (Mark{Index: n.at.Index, Time: start + 9}) {
		t.Error("time went back at a restart")
	}
	for _, ttl := range []int64{math.MinInt64, -1, 0, math.MaxInt64 / 1000, math.MaxInt64} {
		out := n.do(registerFor(0, "b", ttl))
		if end := out.Device.GetExpiresAtMs(); out.Refusal != Granted || end < start+9 || (ttl <= 0) != (end == start+9) {
			t.Errorf("ttl %d ends at %d", ttl, end)
		}
		if err := check(n.reader()); err != nil {
			t.Fatal(err)
		}
	}
	script(t, n, did{at(math.MaxInt64, register(0, "d")), "+", 2}) // c and d: b has ended, a is revoked
}

// TestRestored gives a Machine another state than the one it was at, as the
// install of a snapshot does: nothing of the old one is left (S5).
func TestRestored(t *testing.T) {
	fill := func() *node {
		n := newNode(t, openDB(t))
		n.do(seed())
		n.do(createOrg(0))
		return n
	}
	fresh, used := fill(), fill()
	m := used.m
	used.do(at(start+200*day, register(0, "a")))
	used.do(setLink(1, true))
	used.apply(entry{raws: [][]byte{encode(register(0, "b"))}}) // never committed
	used.open = nil

	used.db, used.w, used.at = fill().db, nil, fresh.at
	if err := m.Restored(used.db, used.at); err != nil {
		t.Fatal(err)
	}
	if last := used.heard[len(used.heard)-1]; last.index != fresh.at.Index || last.concerns != nil {
		t.Errorf("told of %v", last)
	}
	if m.Time() != start || m.Cluster().GetLink() != nil {
		t.Error("time or cluster are of the old state")
	}
	heard := len(used.heard)
	for _, n := range []*node{fresh, used} {
		n.do(at(start+100*day, setExecution(0, false))) // the trail of 100 days ago is trimmed
	}
	if diff := cmp.Diff(fresh.dump(), used.dump()); diff != "" {
		t.Error(diff)
	}
	if len(used.heard) != heard+1 {
		t.Error("told of an entry of the old state")
	}
}

// TestFailStop holds S4: what cannot be read stops the node, what is empty does not.
func TestFailStop(t *testing.T) {
	later := func(b []byte) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, 999, protowire.VarintType), 1)
	}
	nested := register(0, "a")
	nested.GetRegister().ProtoReflect().SetUnknown(later(nil))
	deep := createOrg(neverMade)
	deep.GetCreateOrg().GetKeys()[1].ProtoReflect().SetUnknown(later(nil))
	newer := protowire.AppendBytes(protowire.AppendTag(encode(&statepb.Command{TimeMs: start}), 500, protowire.BytesType), []byte("x"))
	for name, raw := range map[string][]byte{
		"garbage":             []byte("garbage"),
		"cut short":           encode(register(0, "a"))[:20],
		"no change":           encode(&statepb.Command{TimeMs: start}),
		"a newer command":     newer,
		"a newer field":       later(encode(register(0, "a"))),
		"a newer field below": encode(nested),
		"and further below":   encode(deep),
		"a newer form":        bytesOf(&statepb.Command{TimeMs: start, Form: boundForm + 1, Change: register(0, "a").GetChange()}),
		"told in a newer one": bytesOf(&statepb.Command{TimeMs: start, AuditForm: auditForm + 1, Change: register(0, "a").GetChange()}),
	} {
		t.Run(name, func(t *testing.T) {
			n := seeded(t)
			before := n.dump()
			if p := panicOf(func() { n.apply(entry{raws: [][]byte{raw}}) }); p == nil || !strings.Contains(fmt.Sprint(p), "index 4") {
				t.Errorf("panicked with %v", p)
			}
			if n.dump() != before {
				t.Error("it was half done")
			}
		})
	}
	n := seeded(t)
	before, heard := n.dump(), len(n.heard)
	if out := n.apply(entry{raws: [][]byte{nil, {}}}); out[0] != nil || out[1] != nil {
		t.Errorf("empty commands came to %v", out)
	}
	if n.dump() != before || len(n.heard) != heard+1 {
		t.Errorf("empty commands changed something, or were told %d times", len(n.heard)-heard)
	}
}

func panicOf(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

// FuzzApply feeds any bytes: they stop the node with an error of ours, or leave a
// sound state.
func FuzzApply(f *testing.F) {
	f.Add([]byte(nil))
	for _, c := range []*statepb.Command{seed(), createOrg(0), setExecution(0, false), registerFor(0, "a", 5), revoke(0, "a"), unrevoke(0, "a"), remove(0, "a"), setLink(1, true)} {
		f.Add(encode(c))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 0 && raw[0] == editMark {
			return
		}
		n := seeded(t)
		n.do(register(0, "a"))
		p := panicOf(func() { n.apply(entry{raws: [][]byte{raw, raw}}) })
		if err, ok := p.(error); p != nil && (!ok || !strings.Contains(err.Error(), "command at index")) {
			t.Fatalf("panicked with %v", p)
		}
		if p == nil {
			n.commit()
			if err := check(n.reader()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestOrderOfKeys holds that by-time keys sort by time, then id, within a holder.
func TestOrderOfKeys(t *testing.T) {
	var last string
	for _, k := range []struct {
		holder OrgID
		at     int64
		id     string
	}{
		{OrgID{}, 0, ""},
		{OrgID{}, 0, "a"},
		{OrgID{}, 0, "a\x00"},
		{OrgID{}, 0, "ab"},
		{OrgID{}, 1, ""},
		{OrgID{}, 255, "z"},
		{OrgID{}, 256, "a"},
		{OrgID{}, math.MaxInt64, "\xff"},
		{OrgID{15: 1}, 0, ""},
		{OrgID{0: 0xff}, 5, "a"},
	} {
		key := string(timedKey(prefixByAge, k.holder, k.at, k.id))
		if key <= last {
			t.Errorf("%x comes after %x", last, key)
		}
		last = key
	}
	if a, b := (auditID{1, math.MaxUint16}), (auditID{2, 0}); string(auditKey(a)) >= string(auditKey(b)) ||
		binary.BigEndian.Uint64(auditKey(b)[1:]) != 2 {
		t.Error("audit entries are out of order")
	}
}

func TestDamagedRecords(t *testing.T) {
	for _, key := range [][]byte{clusterKey, plansKey, markKey} {
		n := seeded(t)
		n.ok(n.db.Set(key, []byte("damaged"), nil))
		if err := New(func(uint64, []Concern) {}).Restored(n.db, n.at); err == nil {
			t.Errorf("restored from a damaged %q", key)
		}
	}
	n := seeded(t)
	n.do(register(0, "a"))
	n.ok(n.db.Set(occupantKey(orgs[0], "a"), []byte("damaged"), nil))
	if _, _, err := n.reader().List(orgs[0], Cursor{}, 10, start); err == nil {
		t.Error("listed a damaged record")
	}
	if p := panicOf(func() { n.do(revoke(0, "a")) }); p == nil {
		t.Error("revoked a damaged record")
	}
	if KeyOf(nil).Known || HolderOf(nil).Known || OccupantOf(nil).Known {
		t.Error("nothing is known")
	}
}
