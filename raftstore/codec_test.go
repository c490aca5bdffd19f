package raftstore

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

var updateFlag = flag.Bool("update", false, "write new golden files (never change an old one: it is the upgrade test)")

// golden compares got with a file of hexadecimal bytes.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *updateFlag {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.TrimSpace(string(want)); w != hex.EncodeToString(got) {
		t.Errorf("%s: encoded as %x, want %s", name, got, w)
	}
}

var goldenEntries = map[string]*raft.Log{
	"entry_command_v1": {
		Index: 7, Term: 300, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("ext"),
		AppendedAt: time.Unix(1_700_000_000, 123_456_789),
	},
	"entry_noop_v1": {Index: 8, Term: 1, Type: raft.LogNoop},
	"entry_configuration_v1": {
		Index: 1, Term: 1, Type: raft.LogConfiguration,
		Data: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "127.0.0.1:7072"}}}),
	},
}

func TestEntryGolden(t *testing.T) {
	for name, l := range goldenEntries {
		t.Run(name, func(t *testing.T) {
			encoded := appendEntry(nil, l)
			golden(t, name, encoded)
			if len(encoded) != entrySize(l) {
				t.Errorf("size announced as %d, is %d", entrySize(l), len(encoded))
			}
			var got raft.Log
			if err := decodeEntry(l.Index, encoded, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(l, &got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPackGolden(t *testing.T) {
	data := appendPackHeader(nil, 3)
	for _, cmd := range []string{"first", "", strings.Repeat("x", 200)} {
		data = appendPacked(data, []byte(cmd))
	}
	golden(t, "pack_v1", data)
	if n, err := unpack(nil, nil); n != 0 || err != nil {
		t.Errorf("an entry without data: %d, %v", n, err)
	}
	bar := barrier{term: 300, reign: ReignID{1, 2, 15: 16}, cluster: "cluster"}
	golden(t, "pack_barrier_v4", bar.encode())
	golden(t, "pack_barrier_v2", append([]byte{packName}, "cluster"...)) // is read, and not written any more
	for what, tt := range map[string]struct {
		data []byte
		want barrier
	}{
		"a barrier":                  {bar.encode(), bar},
		"a barrier of the name":      {append([]byte{packName}, "cluster"...), barrier{cluster: "cluster"}},
		"commands":                   {data, barrier{}},
		"nothing":                    {nil, barrier{}},
		"what raises the format":     {encodeFormat(2), barrier{}},
		"a barrier without the name": {bar.encode()[:barrierFixed], barrier{term: bar.term, reign: bar.reign}},
	} {
		if got, err := decodeBarrier(tt.data); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	for cut := 1; cut < barrierFixed; cut++ {
		if got, err := decodeBarrier(bar.encode()[:cut]); err == nil {
			t.Errorf("of %d bytes: %+v", cut, got)
		}
	}
}

// FuzzBarrier: a barrier is refused or read, holds no command, and says the same when it is written again.
func FuzzBarrier(f *testing.F) {
	f.Add(barrier{term: 7, reign: ReignID{1}, cluster: "c"}.encode())
	f.Add([]byte{packName, 'c'})
	f.Add([]byte{packBarrier})
	f.Add(encodeFormat(2))
	f.Fuzz(func(t *testing.T, data []byte) {
		bar, err := decodeBarrier(data)
		if err != nil || len(data) == 0 || data[0] != packBarrier {
			if bar.reign != (ReignID{}) {
				t.Fatalf("%x names a reign", data)
			}
			return
		}
		if n, err := unpack(data, func([]byte) { t.Fatal("it holds a command") }); n != 0 || err != nil {
			t.Fatalf("%x: %d commands, %v", data, n, err)
		}
		if !bytes.Equal(bar.encode(), data) {
			t.Fatalf("%x is %+v", data, bar)
		}
	})
}

// Whatever decodes, encodes to an entry of the same content, and no input makes the decoder panic.
func FuzzEntry(f *testing.F) {
	for _, l := range goldenEntries {
		f.Add(appendEntry(nil, l))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var l, again raft.Log
		if decodeEntry(9, data, &l) != nil {
			return
		}
		encoded := appendEntry(nil, &l)
		if len(encoded) != entrySize(&l) {
			t.Fatalf("size announced as %d, is %d", entrySize(&l), len(encoded))
		}
		if err := decodeEntry(9, encoded, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A pack that cannot be read has no effect at all; one that can, encodes to the same commands.
func FuzzPack(f *testing.F) {
	f.Add(appendPacked(appendPacked(appendPackHeader(nil, 2), []byte("a")), []byte("bc")))
	f.Add([]byte{packVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var cmds [][]byte
		n, err := unpack(data, func(cmd []byte) { cmds = append(cmds, cmd) })
		if err != nil {
			if len(cmds) != 0 {
				t.Fatalf("%d commands came out of a damaged pack", len(cmds))
			}
			return
		}
		if n != len(cmds) {
			t.Fatalf("announced %d commands, gave %d", n, len(cmds))
		}
		again := appendPackHeader(nil, n)
		for _, cmd := range cmds {
			again = appendPacked(again, cmd)
		}
		i := 0
		if _, err := unpack(again, func(cmd []byte) {
			if !bytes.Equal(cmd, cmds[i]) {
				t.Fatalf("command %d differs", i)
			}
			i++
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// The ring holds the newest entries within its bytes and never another entry than asked for.
func TestRing(t *testing.T) {
	entry := func(index uint64, size int) *raft.Log { return &raft.Log{Index: index, Data: make([]byte, size)} }
	r := ring{limit: 100 * (entryOverhead + 10)}
	for i := uint64(5); i < 505; i++ {
		r.push(entry(i, 10))
	}
	check := func(what string, first, last uint64) {
		t.Helper()
		for i := uint64(1); i < 600; i++ {
			l, ok := r.get(i)
			if want := i >= first && i <= last; ok != want || (ok && l.Index != i) {
				t.Fatalf("%s: get(%d) = %v, %v", what, i, l, ok)
			}
		}
		if r.bytes > r.limit {
			t.Errorf("%s: %d bytes of %d", what, r.bytes, r.limit)
		}
	}
	check("filled", 405, 504)
	r.dropTo(410)
	check("head dropped", 411, 504)
	r.dropFrom(500)
	check("tail dropped", 411, 499)
	r.dropBetween(1, 2)
	check("nothing dropped", 411, 499)
	r.dropBetween(400, 420)
	check("head dropped again", 421, 499)
	r.push(entry(510, 10))
	check("a gap", 510, 510)
	r.push(entry(511, r.limit))
	check("too large", 1, 0)
	if r.bytes != 0 {
		t.Errorf("%d bytes in an empty ring", r.bytes)
	}
}
