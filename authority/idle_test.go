package authority

import (
	"testing"
	"time"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// TestIdleSignupsGo: the leader deletes what was signed up long enough ago and came to nothing, however much there is of it, and nothing else.
func TestIdleSignupsGo(t *testing.T) {
	t.Parallel()
	n, stop := runNode(t, t.TempDir(), "a1", func(c *Config) { c.DeleteIdleAfter = time.Hour })
	defer stop()
	begun := n.Now()
	do := func(c *statepb.Command) {
		t.Helper()
		c.TimeMs = n.Now()
		if _, out, err := n.Propose(t.Context(), c); err != nil || out.Refusal != state.Granted {
			t.Fatal(err, out)
		}
	}
	made := make([]state.OrgID, 40)
	for i := range made {
		made[i] = state.OrgID{1, byte(i)}
		do(&statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: made[i][:], SignUp: &statepb.SignUp{}}}})
	}
	do(&statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{OrgId: made[7][:], DeviceId: "d"}}})
	left := func() (ids []state.OrgID) {
		t.Helper()
		err := nodeLedger{n}.View(t.Context(), func(r state.Reader) error {
			for _, id := range made {
				if o, err := r.Org(id); err != nil {
					return err
				} else if o != nil {
					ids = append(ids, id)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if err := n.expireDue(t.Context(), time.Hour); err != nil || len(left()) != len(made) {
		t.Fatalf("too early: %v, %d are left", err, len(left()))
	}
	for n.Now() <= begun+int64(len(made)) || len(left()) > 1 {
		if err := n.expireDue(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal("it does not end")
		case <-time.After(time.Millisecond):
		}
	}
	if ids := left(); len(ids) != 1 || ids[0] != made[7] {
		t.Errorf("left: %v", ids)
	}
}
