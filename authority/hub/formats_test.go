package hub

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/shared/format"
	"machineid/shared/link"
)

// TestEdgesThatDoNotUnderstandAFormatAreNotSpokenTo: once it is raised they get no session and none goes on, before anything that came after the raise is
// told. A change waits for their leases and not for their word (I2). Edges that understand it notice nothing.
func TestEdgesThatDoNotUnderstandAFormatAreNotSpokenTo(t *testing.T) {
	const raised = format.Newest + 1
	for _, ofTheLink := range []bool{true, false} {
		inWorld(t, usual, nil, func(w *world) {
			t := w.t
			field := protoreflect.FullName("machineid.state.v1.Command.note")
			if ofTheLink {
				field = "machineid.link.v1.Invalidate.hashes"
			}
			w.hub.cfg.Formats = &format.Table{Newest: raised, Features: []format.Feature{{Name: "x", Format: raised, Fields: []protoreflect.FullName{field}}}}
			w.store.set(func(s *fakeStore) { s.format = format.Newest })
			w.lead()
			join := func(edge string, process byte, knows uint32) *peer {
				hello := w.current(edge, process)
				hello.Held = bytes.Repeat([]byte{0xff}, link.HeldBytes)
				hello.Format = knows
				return w.greet(hello)
			}
			older, newer := join("older", 1, format.Newest), join("newer", 2, raised)
			if older.over() || newer.over() {
				t.Fatal("no session before the raise")
			}
			w.store.set(func(s *fakeStore) { s.format = raised })
			index := w.change(orgA)
			settles := w.settle(index)
			if older.over() != ofTheLink || newer.over() {
				t.Errorf("of the link %t: the older edge's session is over: %t, the newer's: %t", ofTheLink, older.over(), newer.over())
			}
			if got := len(invalidated(older.frames())) > 0; got == ofTheLink {
				t.Errorf("of the link %t: the older edge is told: %t", ofTheLink, got)
			}
			w.waits(settles) // for the newer one's word, and the older one's lease
			newer.ack(index)
			if !ofTheLink {
				older.ack(index)
			} else {
				w.waits(settles)
				time.Sleep(stretched)
			}
			if s := w.now(settles); s.err != nil {
				t.Error(s.err)
			}
			again := join("older", 1, format.Newest)
			if again.over() != ofTheLink {
				t.Errorf("of the link %t: after the raise it has a session: %t", ofTheLink, !again.over())
			}
			told := slices.ContainsFunc(again.frames(), func(f *link.ToEdge) bool { return strings.Contains(f.GetGoodbye().GetReason(), "install the program") })
			if told != ofTheLink {
				t.Errorf("of the link %t: it is told why: %t", ofTheLink, told)
			}
		})
	}
}
