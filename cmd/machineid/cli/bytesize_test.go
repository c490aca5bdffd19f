package cli

import (
	"strings"
	"testing"

	"machineid/raftstore"
)

func TestByteSize(t *testing.T) {
	for _, c := range []struct {
		in, out string
		bytes   int64
	}{
		{"0", "0", 0},
		{"1", "1", 1},
		{"1KiB", "1KiB", 1 << 10},
		{"1024", "1KiB", 1 << 10},
		{"1GiB", "1GiB", 1 << 30},
		{"1536MiB", "1536MiB", 3 << 29},
		{"20 GiB", "20GiB", 20 << 30},
		{"8388607TiB", "8388607TiB", 8388607 << 40},
		{"1000000000", "1000000000", 1e9},
	} {
		var b byteSize
		if err := b.Set(c.in); err != nil || int64(b) != c.bytes || b.String() != c.out {
			t.Errorf("%q: %d, %s, %v", c.in, b, b.String(), err)
		}
	}
	for _, bad := range []string{"", "GiB", "-1", "-1GiB", "1.5GiB", "1GB", "1G", "1gib", "1 K", "0x10", "8388608TiB", "99999999999999999999", "1GiBGiB", "5%"} {
		var b byteSize
		if err := b.Set(bad); err == nil || !strings.Contains(err.Error(), "for example 1GiB") {
			t.Errorf("%q is taken for %d (%v)", bad, b, err)
		}
	}
	for bytes, want := range map[uint64]string{0: "0B", 1023: "1023B", 1 << 10: "1.0KiB", 3 << 29: "1.5GiB", 1 << 40: "1.0TiB", 1<<64 - 1: "16777216.0TiB"} {
		if got := raftstore.Size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}

// TestDiskNotes: cluster status says what a disk has left before it is closed.
func TestDiskNotes(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		left, reserve uint64
		known, full   bool
		want          string
	}{
		{left: 50 * gib, reserve: gib, known: true},
		{left: 2 * gib, reserve: gib, known: true},
		{},
		{left: 2*gib - 1, reserve: gib, known: true, want: "the disk of a1 fills up: 2.0GiB are left, below 1.0GiB (--disk-reserve)"},
		{left: gib / 2, reserve: gib, known: true, full: true, want: "the disk of a1 is nearly full, only what takes rights away is done there: 512.0MiB are left, of a reserve of 1.0GiB"},
		{full: true, want: "the disk of a1 is nearly full, only what takes rights away is done there: make room"},
	} {
		m := memberView{ID: "a1", DiskFull: c.full, Reachable: true}
		column := "  -  "
		if c.known {
			m.DiskLeft, m.DiskReserve = &c.left, &c.reserve
			column = "  " + raftstore.Size(c.left) + "  "
		}
		v := &clusterView{Members: []memberView{m}}
		notes := strings.Join(v.notes(), "|")
		if c.want == "" && strings.Contains(notes, "disk") || !strings.Contains(notes, c.want) {
			t.Errorf("%+v: %s", c, notes)
		}
		var table strings.Builder
		if err := v.table(&table); err != nil || !strings.Contains(table.String(), "DISK") || !strings.Contains(table.String(), column) {
			t.Errorf("%+v: %s, %v", c, table.String(), err)
		}
	}
}

// TestDebrisNote: cluster status says what deleted orgs have left, if they have.
func TestDebrisNote(t *testing.T) {
	v := &clusterView{Members: []memberView{{ID: "a1", Reachable: true}}}
	if notes := strings.Join(v.notes(), "|"); strings.Contains(notes, "deleted") {
		t.Error(notes)
	}
	v.Debris.Orgs, v.Debris.Devices = 2, 70_000
	if notes := strings.Join(v.notes(), "|"); !strings.Contains(notes, "2 deleted orgs are not cleared away yet, with at most 70000 devices") {
		t.Error(notes)
	}
}

// TestUnfitNotes: cluster status says why a node should not lead, and of a clock that is not off so much yet that it is.
func TestUnfitNotes(t *testing.T) {
	why := "its clock is 1h0m0s off those of the others"
	for _, c := range []struct {
		m    memberView
		want string
	}{
		{memberView{TimeOffsetMs: 2000}, ""},
		{memberView{TimeOffsetMs: -3000}, "the clock of a1 is -3s off"},
		{memberView{TimeOffsetMs: 3_600_000, Unfit: &why}, "a1 should not lead: " + why},
	} {
		c.m.ID, c.m.Reachable = "a1", true
		notes := strings.Join((&clusterView{Members: []memberView{c.m}}).notes(), "|")
		if !strings.Contains(notes, c.want) || strings.Count(notes, "clock") != strings.Count(c.want, "clock") {
			t.Errorf("%+v: %s", c.m, notes)
		}
	}
}

// TestTurnedAwayNotes: a node that the others turn away does not advise to recover a cluster that serves.
func TestTurnedAwayNotes(t *testing.T) {
	for why, want := range map[string]string{
		"dial tcp 192.0.2.1:7072: connect: connection refused":                                                               "machineid recover",
		"a2 is no member of cluster c1 any more, or not yet: if it was removed, stop it and wipe its folder":                 "ask one of them (--operator-url)",
		"the log of a2 ends at 5, and a1 knows that it had applied 9: its folder is an older copy; stop it, wipe the folder": "ask one of them (--operator-url)",
	} {
		v := &clusterView{Members: []memberView{{ID: "a1", Voter: true, Error: &why}, {ID: "a2", Voter: true, Reachable: true}, {ID: "a3", Voter: true, Error: &why}}}
		if notes := strings.Join(v.notes(), "|"); !strings.Contains(notes, want) || want != "machineid recover" && strings.Contains(notes, "machineid recover") {
			t.Errorf("%s: %s", why, notes)
		}
	}
}
