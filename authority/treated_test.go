package authority

import (
	"testing"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// TestTreated: raftstore is told which commands must get through on a full disk, and which are kept apart from the others: those ahead of them, on which leases rest, and large ones.
func TestTreated(t *testing.T) {
	ids := make([]string, 500)
	for _, c := range []struct {
		cmd  *statepb.Command
		want raftstore.ProposeOptions
	}{
		{&statepb.Command{Change: &statepb.Command_RevokeBatch{RevokeBatch: &statepb.RevokeBatch{DeviceIds: ids}}}, raftstore.ProposeOptions{Essential: true, Large: true}},
		{&statepb.Command{Change: &statepb.Command_UnrevokeBatch{UnrevokeBatch: &statepb.UnrevokeBatch{DeviceIds: ids}}}, raftstore.ProposeOptions{Large: true}},
		{&statepb.Command{Change: &statepb.Command_Revoke{Revoke: &statepb.Revoke{}}}, raftstore.ProposeOptions{Essential: true}},
		{&statepb.Command{Change: &statepb.Command_SetLink{SetLink: &statepb.SetLink{}}}, raftstore.ProposeOptions{Essential: true, Urgent: true}},
		{&statepb.Command{Change: &statepb.Command_ReserveTime{ReserveTime: &statepb.ReserveTime{}}}, raftstore.ProposeOptions{Essential: true, Urgent: true}},
		{&statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{}}}, raftstore.ProposeOptions{}},
	} {
		if got := treated(c.cmd); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.cmd, got, c.want)
		}
	}
}
