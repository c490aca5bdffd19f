package edge

import (
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/shared/format"
)

// TestAFrameThatTheAuthorityMayNotKnowIsNotSent: whichever of the edge's frames has a field of a later format, the session ends, and the edge denies when
// its lease is over.
func TestAFrameThatTheAuthorityMayNotKnowIsNotSent(t *testing.T) {
	for field, greets := range map[protoreflect.FullName]bool{"machineid.link.v1.Renew.asked_at_ns": true, "machineid.link.v1.Hello.edge_id": false} {
		for _, known := range []bool{false, true} {
			inWorld(t, func(w *world) {
				t, of := w.t, format.Newest+1
				if known {
					of = format.Baseline
				}
				w.e.formats = &format.Table{Newest: format.Newest + 1, Features: []format.Feature{{Name: "x", Format: of, Fields: []protoreflect.FullName{field}}}}
				w.run()
				time.Sleep(20 * time.Second)
				said := w.a.heard()
				if (said.renewals > 0) != known || (len(said.hellos) > 0) != (known || greets) {
					t.Errorf("%s, known %t: %d renewals and %d Hellos were sent", field, known, said.renewals, len(said.hellos))
				}
				want := map[bool]string{true: "ALLOW", false: "SYSTEM_UNAVAILABLE"}[known]
				w.want("d", want, false)
			})
		}
	}
}
