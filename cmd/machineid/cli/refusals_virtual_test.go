//go:build unix

package cli

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestAFullDiskSaysSo: whatever a nearly full disk has no room for is refused with the reason and with what to do, in the words of the command line too, and what takes rights away is done.
func TestAFullDiskSaysSo(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(t, rand.New(rand.NewPCG(1, 1)), 1, 0)
		defer s.stop()
		c := s.caller("operator")
		defer c.close()
		n := s.nodes[0]
		made := c.call(n.id, "POST", "org/create", "{}")
		key := c.call(n.id, "POST", "org/keys", `{"scope":"agent"}`, "X-Org-Key", made.Key)
		c.call(n.id, "POST", "devices/register", device("d"), "X-Org-Key", made.Key)
		n.left.Store(1 << 20)
		s.until("the node knows how full its disk is", func() bool { return strings.Contains(strings.Join(n.proc.Load().ready(), ";"), "disk: ") })
		if why := strings.Join(n.proc.Load().ready(), ";"); !strings.Contains(why, "1.0MiB are left, of a reserve of 8.0MiB; make room") {
			t.Errorf("/readyz: %s", why)
		}
		past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
		operator := []string{"Authorization", "Bearer " + siteToken}
		for _, call := range []struct {
			method, path, body string
			as                 []string
		}{
			{"POST", "devices/register", device("e"), nil},
			{"POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`, nil},
			{"POST", "org/execution", `{"enabled":true}`, nil},
			{"POST", "org/keys", `{"scope":"agent"}`, nil},
			{"POST", "org/keys/rotate", `{"keyId":"` + key.KeyID + `","graceSeconds":0}`, nil},
			{"POST", "org/create", "{}", nil},
			{"PATCH", "operator/orgs/" + made.OrgID, `{"accessUntil":"` + past + `"}`, operator},
			{"PATCH", "operator/orgs/" + made.OrgID, `{"hold":false}`, operator},
			{"PUT", "operator/plans", `{"plans":[{"planTier":"free","limit":3},{"planTier":"pro","limit":26},{"planTier":"scale","limit":250},{"planTier":"max","limit":1000}],"graceDays":7}`, operator},
			{"POST", "operator/token/rotate", `{"token":"` + strings.Repeat("n", 32) + `"}`, operator},
		} {
			as := call.as
			if as == nil {
				as = []string{"X-Org-Key", made.Key}
			}
			got := c.call(n.id, call.method, call.path, call.body, as...)
			if got.code == 200 && !got.Changed && call.path != "org/keys" {
				continue // it was so before
			}
			said := (&refusedError{status: got.code, Code: got.Error, Message: got.Message, Outcome: got.Outcome, Path: call.path}).Error()
			if got.code != 503 || got.Outcome != "not_done" || !strings.Contains(got.Message, "nearly full") || !strings.Contains(said, "make room there ('machineid cluster status'") {
				t.Errorf("%s %s: %+v; %s", call.method, call.path, got, said)
			}
		}
		for path, body := range map[string]string{"devices/revoke": device("d"), "org/execution": `{"enabled":false}`} {
			if got := c.call(n.id, "POST", path, body, "X-Org-Key", made.Key); got.code != 200 {
				t.Errorf("%s: %+v", path, got)
			}
		}
		// What takes rights away is refused too, once that has used up what the node can spare, and nobody is told that it is done.
		for range 1 << 16 {
			got := c.call(n.id, "POST", "devices/revoke", device("d"), "X-Org-Key", made.Key)
			if got.code == 200 {
				continue
			}
			said := (&refusedError{status: got.code, Code: got.Error, Message: got.Message, Outcome: got.Outcome, Path: "devices/revoke"}).Error()
			if got.code != 503 || got.Outcome != "not_done" || !strings.Contains(got.Message, "nothing was changed") || !strings.Contains(got.Message, "no room left even to take rights away") || strings.Contains(got.Message, "is done") || !strings.Contains(said, "make room there ('machineid cluster status'") {
				t.Errorf("a revoke without room: %+v; %s", got, said)
			}
			return
		}
		t.Error("revokes never end")
	})
}
