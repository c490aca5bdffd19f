package authority

import (
	"bytes"
	"net/netip"
	"testing"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// TestTreated: raftstore is told which commands must get through on a full disk, which are kept apart from the others, and whose they are.
func TestTreated(t *testing.T) {
	ids, org := make([]string, 500), bytes.Repeat([]byte{7}, 16)
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
		{&statepb.Command{Address: "192.0.2.1", Change: &statepb.Command_Register{Register: &statepb.Register{OrgId: org}}}, raftstore.ProposeOptions{For: raftstore.Party(org)}},
		{&statepb.Command{Address: "192.0.2.1", Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: org}}}, raftstore.ProposeOptions{For: raftstore.Party(netip.MustParseAddr("192.0.2.1").As16())}},
		{&statepb.Command{Address: "2001:db8::1:2", Change: &statepb.Command_CreateOrg{}}, raftstore.ProposeOptions{For: raftstore.Party(netip.MustParseAddr("2001:db8::").As16())}},
		{&statepb.Command{Change: &statepb.Command_SetLink{}}, raftstore.ProposeOptions{Essential: true, Urgent: true}},
	} {
		if got := treated(c.cmd); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.cmd, got, c.want)
		}
	}
}
