package released

import (
	"bytes"
	"fmt"
	"regexp"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Filling fills messages: every field of every message in them has a value of its own that is not zero, lists have several, and where one of several
// fields can be there, one after the other is.
type Filling struct {
	n    int64
	next map[protoreflect.FullName]int // of each oneof
	set  map[protoreflect.FullName]bool
}

// NewFilling begins with the first of each.
func NewFilling() *Filling {
	return &Filling{next: map[protoreflect.FullName]int{}, set: map[protoreflect.FullName]bool{}}
}

// Fill sets every field of m.
func (f *Filling) Fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	chosen := map[protoreflect.FullName]int{}
	for i := range fields.Len() {
		fd := fields.Get(i)
		if of := fd.ContainingOneof(); of != nil && !of.IsSynthetic() {
			if _, is := chosen[of.FullName()]; !is {
				chosen[of.FullName()] = f.next[of.FullName()] % of.Fields().Len()
				f.next[of.FullName()]++
			}
			if of.Fields().Get(chosen[of.FullName()]) != fd {
				continue
			}
		}
		f.set[fd.FullName()] = true
		if !fd.IsList() {
			m.Set(fd, f.value(fd, m.NewField(fd)))
			continue
		}
		n := 2
		if fd.Message() != nil {
			n = 4
		}
		list := m.Mutable(fd).List()
		for range n {
			list.Append(f.value(fd, list.NewElement()))
		}
	}
}

// Missing lists the fields of the messages in m, at any depth, that nothing was filled into.
func (f *Filling) Missing(m protoreflect.MessageDescriptor) (list []protoreflect.FullName) {
	f.missing(m, map[protoreflect.FullName]bool{}, &list)
	return list
}

func (f *Filling) missing(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool, list *[]protoreflect.FullName) {
	if seen[m.FullName()] {
		return
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		fd := m.Fields().Get(i)
		if !f.set[fd.FullName()] {
			*list = append(*list, fd.FullName())
		}
		if fd.Message() != nil {
			f.missing(fd.Message(), seen, list)
		}
	}
}

// value is the next of a field's kind. Odd numbers are large and, where that can be, negative.
func (f *Filling) value(fd protoreflect.FieldDescriptor, empty protoreflect.Value) protoreflect.Value {
	f.n++
	n := f.n
	switch fd.Kind() { //nolint:exhaustive // a kind that is not there panics
	case protoreflect.MessageKind:
		f.Fill(empty.Message())
		return empty
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(fd.Enum().Values().Get(1 + int(n)%(fd.Enum().Values().Len()-1)).Number())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("α text %d", n))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(fmt.Appendf(nil, "\x00\xff bytes %d", n))
	case protoreflect.Int64Kind:
		if n%2 == 1 {
			n = -n << 40
		}
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n) << (n % 2 * 50))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n) << (n % 2 * 20))
	}
	panic(fmt.Sprintf("%s is of a kind that is not filled yet: %s", fd.FullName(), fd.Kind()))
}

// spaces are those that prototext has here and there, so that nobody relies on its form.
var spaces = regexp.MustCompile(`(?m)^( *\w+:)  +`)

// LineOf is a message as a line.
func LineOf(t *testing.T, name string, m proto.Message, encode func(proto.Message) ([]byte, error)) Line {
	t.Helper()
	raw, err := encode(m)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	text := prototext.MarshalOptions{Multiline: true, Indent: " "}.Format(m)
	return Line{Name: name, Text: spaces.ReplaceAllString(text, "$1 "), Raw: raw}
}

// Faults says what is wrong with how this program reads and writes a line: the text is what the bytes mean, all of it, and it is written as
// the same bytes. empty is a new message of its type.
func (l Line) Faults(empty proto.Message, encode func(proto.Message) ([]byte, error), decode func([]byte, proto.Message) error) (list []string) {
	want, got := empty, empty.ProtoReflect().New().Interface()
	if err := prototext.Unmarshal([]byte(l.Text), want); err != nil {
		return []string{fmt.Sprintf("%s: its text is not understood: %v", l.Name, err)}
	}
	if err := decode(l.Raw, got); err != nil {
		return []string{fmt.Sprintf("%s cannot be read: %v", l.Name, err)}
	}
	if !proto.Equal(want, got) {
		list = append(list, fmt.Sprintf("%s is read as %v, was %v", l.Name, got, want))
	}
	for what, m := range map[string]proto.Message{"what was read": got, "what it says": want} {
		if again, err := encode(m); err != nil || !bytes.Equal(again, l.Raw) {
			list = append(list, fmt.Sprintf("%s, %s, is written as %x, was %x (%v)", l.Name, what, again, l.Raw, err))
		}
	}
	return list
}
