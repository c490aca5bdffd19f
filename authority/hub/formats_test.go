package hub

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/shared/format"
	"machineid/shared/link"
	"machineid/shared/seldom"
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

// TestAFrameOfALaterFormatIsNotSent: one that uses what the cluster's format has not, and one that its edge would not understand, ends the session, with
// what it is; changes wait for the edge's lease (I2). After the raise it is sent.
func TestAFrameOfALaterFormatIsNotSent(t *testing.T) {
	const raised = format.Newest + 1
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		var log bytes.Buffer
		w.hub.log = slog.New(slog.NewTextHandler(&log, nil))
		w.hub.cfg.Formats = &format.Table{Newest: raised, Features: []format.Feature{
			{Name: "nodes' notes", Format: raised, Fields: []protoreflect.FullName{"machineid.state.v1.Command.note"}},
			{Name: "hashed changes", Format: raised, Fields: []protoreflect.FullName{"machineid.link.v1.Invalidate.hashes"}},
		}}
		w.store.set(func(s *fakeStore) { s.format = format.Newest })
		w.lead()
		join := func(edge string, process byte, knows uint32) *peer {
			hello := w.current(edge, process)
			hello.Held = bytes.Repeat([]byte{0xff}, link.HeldBytes)
			hello.Format = knows
			return w.greet(hello)
		}
		edge := join("e1", 1, raised)
		if edge.over() || edge.renew() == nil {
			t.Fatal("frames without it are not sent")
		}
		settles := w.settle(w.change(orgA))
		if got := invalidated(edge.frames()); len(got) > 0 {
			t.Errorf("the edge is told of %v", got)
		}
		if !edge.over() {
			t.Fatal("the session goes on")
		}
		if err := <-edge.ended; status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "hashed changes") {
			t.Errorf("it ends by %v", err)
		}
		if lines := log.String(); strings.Count(lines, "level=ERROR") != 1 || !strings.Contains(lines, `feature="hashed changes"`) {
			t.Errorf("the log says:\n%s", lines)
		}
		w.waits(settles)
		time.Sleep(stretched)
		if s := w.now(settles); s.err != nil {
			t.Error(s.err)
		}
		log.Reset()
		w.hub.unsent = seldom.Line{} // it may speak again
		older := join("e2", 2, format.Newest)
		w.store.set(func(s *fakeStore) { s.format = raised })
		again := join("e1", 1, raised)
		w.hub.mu.Lock()
		for s := range w.hub.reign.sessions { // told before the raise is noticed, as answers may be
			if s.edgeID == "e2" {
				s.mu.Lock()
				s.invals = append(s.invals, &link.Invalidate{Index: w.hub.dispatched, Hashes: []uint64{1}})
				s.queued(0)
				s.mu.Unlock()
			}
		}
		w.hub.mu.Unlock()
		synctest.Wait()
		if got := invalidated(older.frames()); len(got) > 0 || !older.over() || strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("an edge that does not understand it is told of %v; its session is over: %t; the log:\n%s", got, older.over(), log.String())
		}
		w.change(orgA)
		synctest.Wait()
		if got := invalidated(again.frames()); len(got) == 0 || again.over() {
			t.Errorf("after the raise the edge is told of %v, and its session is over: %t", got, again.over())
		}
	})
}

// BenchmarkTell measures what it costs to send a frame that goes nowhere, and what of it is the look at its format: where the cluster has all that the
// program knows, where the next has something of nodes only, and where it has something of frames.
func BenchmarkTell(b *testing.B) {
	grant := &link.ToEdge{NowMs: 1, Grant: &link.Grant{AskedAtNs: 1, GrantedNs: 1, NowMs: 1, Index: 1}}
	answers := &link.ToEdge{NowMs: 1}
	for range link.MaxAnswers {
		answers.Answers = append(answers.Answers, &link.Answer{Id: 1, Index: 1, Key: &link.KeyRecord{Known: true}, Org: &link.OrgRecord{Known: true}})
	}
	for _, c := range []struct {
		name  string
		field protoreflect.FullName
	}{{"nothing", ""}, {"nodes", "machineid.state.v1.Command.note"}, {"frames", "machineid.link.v1.ToEdge.later"}} {
		h := &Hub{store: &fakeStore{format: format.Newest}, cfg: Config{Formats: &format.Current}}
		if c.field != "" {
			h.cfg.Formats = &format.Table{Newest: format.Newest + 1, Features: []format.Feature{
				{Name: "x", Format: format.Newest + 1, Fields: []protoreflect.FullName{c.field}},
			}}
		}
		for name, f := range map[string]*link.ToEdge{"grant": grant, "answers": answers} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := h.tell(nowhere{}, f, format.Newest+1); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// nowhere is a stream that drops what it is sent.
type nowhere struct{ link.Link_SessionServer }

func (nowhere) Send(*link.ToEdge) error { return nil }
