package state

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"machineid/authority/state/statepb"
)

// The trail is everything that changed, in the order of the log, and an org's is its own part of it, whatever the size of the pages.
func TestTrail(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	rapid.Check(t, func(t *rapid.T) {
		n, now := newNode(t, db), start
		n.do(seed())
		for range rapid.IntRange(1, 30).Draw(t, "commands") {
			n.do(draw(t, someKind.Draw(t, "kind"), &now))
		}
		all := audits(t, n.reader())
		for _, org := range []OrgID{{}, orgs[0], orgs[1], orgs[2]} {
			var want []*statepb.AuditEntry
			for _, e := range slices.Backward(all) {
				if (OrgID(e.GetOrgId()) == org || org == OrgID{}) && e.GetAtMs() >= n.m.Time()-auditKeep {
					want = append(want, e)
				}
			}
			limit, from := rapid.IntRange(1, 5).Draw(t, "page"), Place{}
			for more := true; more; {
				list, next, err := n.reader().Audit(org, from, limit, n.m.Time())
				if err != nil || len(list) > limit || len(list) > len(want) || next != (len(want) > len(list)) {
					t.Fatalf("a page of %d, more %t, %v: want %d in all", len(list), next, err, len(want))
				}
				for i, e := range list {
					if !proto.Equal(e.AuditEntry, want[i]) || from != (Place{}) && e.Index >= from.Index && e.N >= from.N {
						t.Fatalf("listed %v at %v, want %v", e.AuditEntry, e.Place, want[i])
					}
					from = e.Place
				}
				want, more = want[len(list):], next
			}
		}
	})
}

func TestPlace(t *testing.T) {
	for text, want := range map[string]Place{"1-0": {1, 0}, "18446744073709551615-65535": {1<<64 - 1, 1<<16 - 1}} {
		if p, ok := ParsePlace(text); !ok || p != want || p.String() != text {
			t.Errorf("%s: %v %v", text, p, ok)
		}
	}
	for _, text := range []string{"", "1", "-", "1-", "-1", "01-0", "1-00", "1-65536", "+1-0", "0-0", "1-0-0", "18446744073709551616-0", "a-b", "1-0 "} {
		if p, ok := ParsePlace(text); ok {
			t.Errorf("%q is %v", text, p)
		}
	}
}
