package state

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"machineid/authority/state/statepb"
)

// audits reads all entries, oldest first.
func audits(tb tb, r Reader) (list []*statepb.AuditEntry) {
	tb.Helper()
	err := r.scan([]byte{prefixAudit}, []byte{prefixAudit + 1}, func(_, v []byte) (bool, error) {
		e := &statepb.AuditEntry{}
		list = append(list, e)
		return true, proto.Unmarshal(v, e)
	})
	return must(list, err)(tb)
}

// TestAudit holds S9: one entry for a change, none for what changed nothing.
func TestAudit(t *testing.T) {
	n := seeded(t)
	before := len(audits(t, n.reader()))
	n.apply(entry{raws: [][]byte{
		encode(register(0, "a")), encode(register(0, "a")), encode(registerFor(0, "a", 60)), encode(revoke(0, "a")), encode(revoke(0, "a")),
		encode(register(0, "a")), encode(unrevoke(0, "a")), encode(unrevoke(0, "a")), encode(remove(0, "a")), encode(remove(0, "a")),
		encode(setExecution(0, false)), encode(setExecution(0, false)), encode(setExecution(0, true)),
		encode(createOrg(0)), encode(register(neverMade, "a")), encode(setLink(1, true)), encode(seed()),
	}})
	n.commit()
	var got []string
	for _, e := range audits(t, n.reader())[before:] {
		got = append(got, e.GetAction())
	}
	want := "[device.registered device.updated device.revoked device.restored device.removed org.disabled org.enabled cluster.link_changed]"
	if fmt.Sprint(got) != want {
		t.Errorf("audited %v, want %v", got, want)
	}
	cmd := revoke(1, "b")
	cmd.Actor, cmd.Address, cmd.RequestId = &statepb.Actor{Type: statepb.Actor_OPERATOR}, "192.0.2.7", "req-7"
	n.do(register(1, "b"))
	n.do(at(start+7, cmd))
	list := audits(t, n.reader())
	wantEntry := &statepb.AuditEntry{
		AtMs: start + 7, Action: "device.revoked", Actor: cmd.GetActor(), Address: "192.0.2.7", RequestId: "req-7",
		OrgId: orgs[1][:], Target: "b", Count: 1,
	}
	if last := list[len(list)-1]; !proto.Equal(last, wantEntry) {
		t.Errorf("audited %v, want %v", last, wantEntry)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// An entry names devices up to so many bytes.
func TestTargetsAreBounded(t *testing.T) {
	id := strings.Repeat("x", 256)
	var list []string
	for range 2 * targetsMax {
		list = withTarget(list, id)
	}
	if len(list) != targetsBytes/len(id) {
		t.Errorf("%d ids of %d bytes are named, want %d", len(list), len(id), targetsBytes/len(id))
	}
	if len(withTarget(slices.Repeat([]string{"x"}, targetsMax), "y")) != targetsMax {
		t.Error("more are named than may be")
	}
}

// TestAuditIsTrimmed holds S9: entries older than 90 days go, at most four for each
// that is written, and never a younger one.
func TestAuditIsTrimmed(t *testing.T) {
	n := seeded(t) // seven entries: the cluster, and two orgs with two keys each
	for i := range 10 {
		n.do(setExecution(0, i%2 == 1))
	}
	// To the millisecond 90 days is not too old.
	n.do(at(start+90*day, register(0, "a")))
	if got := len(audits(t, n.reader())); got != 18 {
		t.Errorf("%d entries at 90 days", got)
	}
	for i, want := range []int{15, 12, 9, 6, 6, 7} { // four go and one comes, until nothing is too old
		n.restartIf(i == 1)
		n.do(at(start+90*day+1, setExecution(0, i%2 == 1)))
		if got := len(audits(t, n.reader())); got != want {
			t.Errorf("%d entries after %d more, want %d", got, i+1, want)
		}
		if err := check(n.reader()); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *node) restartIf(yes bool) {
	if yes {
		n.restart()
	}
}

// TestAuditTrimming is the same at random: time moves, entries are written, and
// the trail is the one of a plain list.
func TestAuditTrimming(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	rapid.Check(t, func(t *rapid.T) {
		n, now, on := newNode(t, db), start, true
		n.do(seed())
		n.do(createOrg(0))
		var model []int64
		for _, e := range audits(t, n.reader()) {
			model = append(model, e.GetAtMs())
		}
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			now += rapid.SampledFrom([]int64{0, 1, day, 20 * day, 100 * day}).Draw(t, "step")
			n.restartIf(rapid.IntRange(0, 9).Draw(t, "restart") == 0)
			on = !on
			n.do(at(now, setExecution(0, on)))
			for range auditTrimMax {
				if len(model) > 0 && model[0] < now-90*day {
					model = model[1:]
				}
			}
			model = append(model, now)
			var got []int64
			for _, e := range audits(t, n.reader()) {
				got = append(got, e.GetAtMs())
			}
			if fmt.Sprint(got) != fmt.Sprint(model) {
				t.Fatalf("entries at %v, want %v", got, model)
			}
		}
		if err := check(n.reader()); err != nil {
			t.Fatal(err)
		}
		for _, k := range must(keysOf(n.reader(), prefixOrgAudit))(t) {
			if index := binary.BigEndian.Uint64(k[17:]); index == 0 || index > n.at.Index {
				t.Fatalf("an entry at index %d", index)
			}
		}
	})
}
