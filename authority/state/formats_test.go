package state

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/authority/state/statepb"
	"machineid/shared/format"
)

// withField is a program's table that has one field for new, of the format after the newest.
func withField(field protoreflect.FullName) *format.Table {
	return &format.Table{Newest: format.Newest + 1, Features: []format.Feature{{Name: "something new", Format: format.Newest + 1, Fields: []protoreflect.FullName{field}}}}
}

// TestRecordsWaitForTheFormat: a command that the program before applies writes nothing that the cluster's format has not: Apply stops the node ahead of
// the record (S18). What has nothing of it is applied to the same bytes as ever, and after the raise all is written.
func TestRecordsWaitForTheFormat(t *testing.T) {
	named := register(0, "b")
	named.GetRegister().Name = new("a name")
	for _, c := range []struct {
		field protoreflect.FullName
		cmd   *statepb.Command
	}{
		{"machineid.state.v1.Occupant.name", named},
		{"machineid.state.v1.Org.execution_disabled", setExecution(0, false)},
		{"machineid.state.v1.LinkRecord.lease_ns", setLink(1, true)}, // within another record
		{"machineid.state.v1.AuditEntry.target", revoke(0, "a")},     // by what a command brings with it
	} {
		if missing(c.field) {
			t.Fatalf("there is no field %s", c.field)
		}
		older, newer := seeded(t), seeded(t)
		older.do(register(0, "a"))
		newer.do(register(0, "a"))
		newer.m.Knows(withField(c.field))
		newer.m.Raised(format.Newest)
		for _, n := range []*node{older, newer} {
			n.do(&statepb.Command{TimeMs: start + 1, Change: &statepb.Command_ReserveTime{ReserveTime: &statepb.ReserveTime{UntilMs: start + 9}}}) // has none of them
		}
		if older.dump() != newer.dump() {
			t.Errorf("%s: without it the programs write different records", c.field)
		}
		before := newer.dump()
		why := panicOf(func() { newer.apply(entry{raws: [][]byte{encode(c.cmd)}}) })
		if said := fmt.Sprint(why); !strings.Contains(said, "something new") || !strings.Contains(said, fmt.Sprint("format ", format.Newest, " has not")) {
			t.Errorf("%s: before the raise: %v", c.field, why)
		}
		newer.ok(newer.w.Close()) // as the node stops
		newer.w, newer.open = nil, nil
		if newer.dump() != before {
			t.Errorf("%s: something was written", c.field)
		}
		newer.restart()
		newer.m.Knows(withField(c.field))
		newer.m.Raised(format.Newest + 1)
		if why := panicOf(func() { newer.apply(entry{raws: [][]byte{encode(c.cmd)}}) }); why != nil {
			t.Errorf("%s: after the raise: %v", c.field, why)
		}
		newer.commit()
	}
}

// missing reports whether the state has no such field.
func missing(name protoreflect.FullName) bool {
	m := statepb.File_authority_state_statepb_state_proto.Messages().ByName(name.Parent().Name())
	return m == nil || m.Fields().ByName(name.Name()) == nil
}
