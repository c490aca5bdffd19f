package released

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/typepb"
)

// Only a release writes files, and only once.
func TestBegin(t *testing.T) {
	testdata := filepath.Join(t.TempDir(), "testdata")
	if err := os.MkdirAll(filepath.Join(testdata, "fuzz"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		version, file string
		done          bool
	}{
		{"v0.2.0-dev", "a", false},
		{"v0.2.0", "a", true},
		{"v0.2.0", "a", false},
		{"v0.2.0", "b", true},
		{"v0.10.0", "a", true},
		{"0.3.0", "a", false},
		{"", "a", false},
	} {
		dir, err := begin(testdata, c.version, c.file)
		if (err == nil) != c.done {
			t.Errorf("%s of %q: %v", c.file, c.version, err)
		}
		if err == nil {
			Write(t, filepath.Join(dir, c.file), []Line{{"x", "", []byte{1}}})
		}
	}
	dirs, err := folders(testdata)
	if err != nil || len(dirs) != 2 {
		t.Errorf("%v, %v", dirs, err)
	}
}

func TestLines(t *testing.T) {
	lines := []Line{{"a", "x: 1\ny: 2", []byte{0, 255}}, {"b", "z: \"== \"", []byte{1}}, {"c", "", []byte{2}}}
	path := filepath.Join(t.TempDir(), "lines.txt")
	Write(t, path, lines)
	if got := Read(t, path); !slices.EqualFunc(got, lines, func(a, b Line) bool {
		return a.Name == b.Name && strings.TrimSuffix(a.Text, "\n") == b.Text && bytes.Equal(a.Raw, b.Raw)
	}) {
		t.Errorf("%q", got)
	}
	for _, text := range []string{"", "== a 00\n\n== a 01\n", "== a 0\n", "== a\nx: 1\n"} {
		if lines, err := parse(text); err == nil {
			t.Errorf("%q is read: %q", text, lines)
		}
	}
}

// Each message is filled to its last field, and what is not is told.
func TestFilling(t *testing.T) {
	f := NewFilling()
	all := &apipb.Api{}
	f.Fill(all.ProtoReflect())
	missing := f.Missing(all.ProtoReflect().Descriptor())
	if len(missing) > 0 || len(all.GetMethods()) != 4 || all.GetSourceContext().GetFileName() == "" {
		t.Errorf("not filled: %v\n%v", missing, all)
	}
	if missing := f.Missing((&typepb.EnumValue{}).ProtoReflect().Descriptor()); len(missing) == 0 {
		t.Error("it has filled what it has not seen")
	}
	other := &descriptorpb.UninterpretedOption_NamePart{}
	if f.Fill(other.ProtoReflect()); other.GetNamePart() == "" || !other.GetIsExtension() {
		t.Errorf("%v", other)
	}
}

// A line that is read or written in another way is found.
func TestFaults(t *testing.T) {
	stamp := &timestamppb.Timestamp{Seconds: 7, Nanos: 8}
	good := LineOf(t, "stamp", stamp, proto.Marshal)
	with := func(change func(*Line)) Line {
		l := good
		l.Raw = bytes.Clone(l.Raw)
		change(&l)
		return l
	}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		line   Line
		encode func(proto.Message) ([]byte, error)
		decode func([]byte, proto.Message) error
		faults int
	}{
		"as it was":               {good, proto.Marshal, proto.Unmarshal, 0},
		"another number":          {with(func(l *Line) { l.Raw[1]++ }), proto.Marshal, proto.Unmarshal, 2},
		"a field that is unknown": {with(func(l *Line) { l.Raw = append(l.Raw, 0x18, 1) }), proto.Marshal, proto.Unmarshal, 2},
		"a text of another type":  {with(func(l *Line) { l.Text = "minutes: 1" }), proto.Marshal, proto.Unmarshal, 1},
		"no message":              {with(func(l *Line) { l.Raw = []byte{7} }), proto.Marshal, proto.Unmarshal, 1},
		"cannot be read":          {good, proto.Marshal, func([]byte, proto.Message) error { return broken }, 1},
		"cannot be written":       {good, func(proto.Message) ([]byte, error) { return nil, broken }, proto.Unmarshal, 2},
		"is passed over": {good, proto.Marshal, func(b []byte, m proto.Message) error {
			return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b[:2], m)
		}, 2},
	} {
		if got := c.line.Faults(&timestamppb.Timestamp{}, c.encode, c.decode); len(got) != c.faults {
			t.Errorf("%s: %d faults, want %d: %q", name, len(got), c.faults, got)
		}
	}
}
