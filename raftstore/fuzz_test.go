package raftstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

// counting is a reader that knows how much of it was asked for at once.
type counting struct {
	*bytes.Reader
	most int
}

func (c *counting) Read(b []byte) (int, error) {
	c.most = max(c.most, len(b))
	return c.Reader.Read(b)
}

// FuzzFrame: a frame of another node is refused or read, with no more memory than the largest frame whatever it announces, and what we
// write is read back.
func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrame(&b, NodeStatus{ID: "a1", Cluster: "c", Term: 7, About: map[string]string{"http": "h:1"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Add([]byte{0, 0, 0, 2, '{', '}', 0})
	f.Add([]byte{0, 0, 64, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &counting{Reader: bytes.NewReader(raw)}
		var s, again NodeStatus
		err := readFrame(r, &s)
		if r.most > ownMaxFrame {
			t.Fatalf("%d bytes were made room for", r.most)
		}
		if err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(raw))
		if rest, _ := io.ReadAll(r.Reader); len(rest) != len(raw)-4-size || !json.Valid(raw[4:4+size]) {
			t.Fatalf("%q is a frame that leaves %d bytes", raw, len(rest))
		}
		var w bytes.Buffer
		if err := writeFrame(&w, s); err != nil {
			t.Fatal(err)
		}
		if w.Len() > 4+ownMaxFrame {
			return // its values are longer where they are escaped
		}
		if err := readFrame(&w, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again); diff != "" && len(s.About) > 0 {
			t.Fatal(diff)
		}
	})
}

// hostileConfiguration says of a field that 3.4 GB follow; make fuzz found it.
var hostileConfiguration = []byte("\x81\xa7S\x93l\xa1s\xc9\xc9\xc9\xc9\x93\x93\x93\xffss\xe2")

// TestHostileConfiguration is refused without the room that it asks for.
func TestHostileConfiguration(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := configuration{index: 2, encoded: hostileConfiguration}.decode()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 64<<20 { // others of this package run meanwhile
		t.Errorf("it took %d bytes, %v", took, err)
	}
}

// FuzzConfiguration: a membership from a snapshot is refused or read, and says the same when it is written again.
func FuzzConfiguration(f *testing.F) {
	good := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: "a1", Address: "h:1"}, {Suffrage: raft.Nonvoter, ID: "a2", Address: "h:2"}}})
	f.Add(uint64(1), good)
	f.Add(uint64(0), []byte("anything"))
	f.Add(uint64(7), good[:len(good)-3])
	f.Add(uint64(2), hostileConfiguration)
	f.Add(uint64(7), []byte{0x81, 0xa7, 'S', 'e', 'r', 'v', 'e', 'r', 's', 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, index uint64, encoded []byte) {
		conf, err := configuration{index: index, encoded: encoded}.decode()
		if err != nil || index == 0 {
			return
		}
		again, err := configuration{index: index, encoded: raft.EncodeConfiguration(conf)}.decode()
		if err != nil || !slices.Equal(conf.Servers, again.Servers) {
			t.Fatalf("%x is %+v, and then %+v, %v", encoded, conf, again, err)
		}
	})
}

// FuzzFormat: what raises the format is no pack of commands and no barrier, and has one form.
func FuzzFormat(f *testing.F) {
	for _, data := range [][]byte{encodeFormat(1), encodeFormat(formatNewest), encodeFormat(1 << 20), {packFormat}, {packFormat, 0}, {packFormat, 0x81, 0}, barrier{term: 1, reign: ReignID{1}, cluster: "c"}.encode(), nil} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		format, err := raisedFormat(data)
		if err != nil || format == 0 {
			return
		}
		if format < formatFirst || format > 1<<20 || data[0] == packBarrier {
			t.Fatalf("%x raises to %d", data, format)
		}
		if n, err := unpack(data, func([]byte) { t.Fatal("it holds a command") }); n != 0 || err != nil {
			t.Fatalf("%x: %d commands, %v", data, n, err)
		}
		if again, err := raisedFormat(encodeFormat(format)); err != nil || again != format {
			t.Fatalf("%d is written as %x", format, encodeFormat(format))
		}
	})
}

// FuzzPosition: a position is its 16 bytes.
func FuzzPosition(f *testing.F) {
	f.Add(encodePosition(Position{Index: 7, Term: 1 << 63}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePosition(data)
		if (err == nil) != (len(data) == positionLen) || err == nil && !bytes.Equal(encodePosition(p), data) {
			t.Fatalf("%x is %+v, %v", data, p, err)
		}
	})
}
