package link

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// frames are the two messages that go over the wire.
var frames = []proto.Message{&ToAuthority{}, &ToEdge{}}

// eachField calls f with every field of a frame's messages, and the fields that lead there.
func eachField(m protoreflect.MessageDescriptor, way []protoreflect.FieldDescriptor, f func([]protoreflect.FieldDescriptor)) {
	for i := range m.Fields().Len() {
		here := slices.Concat(way, []protoreflect.FieldDescriptor{m.Fields().Get(i)})
		f(here)
		if sub := here[len(here)-1].Message(); sub != nil {
			eachField(sub, here, f)
		}
	}
}

func name(way []protoreflect.FieldDescriptor) string {
	d := way[len(way)-1]
	return string(d.Parent().Name()) + "." + string(d.Name())
}

// TestEveryFieldHasABound, and nothing else has one: a field that is new must say how much of it there may be.
func TestEveryFieldHasABound(t *testing.T) {
	seen := map[string]bool{}
	for _, frame := range frames {
		eachField(frame.ProtoReflect().Descriptor(), nil, func(way []protoreflect.FieldDescriptor) {
			d := way[len(way)-1]
			seen[name(way)] = true
			b := bounds[d.Parent().Name()][d.Name()]
			text := d.Kind() == protoreflect.StringKind || d.Kind() == protoreflect.BytesKind
			if b.count == 0 || text != (b.bytes > 0) || !d.IsList() && len(way) == 1 && b.count != 1 {
				t.Errorf("%s: %+v", name(way), b)
			}
		})
	}
	for message, fields := range bounds {
		for field := range fields {
			if !seen[string(message)+"."+string(field)] {
				t.Errorf("%s.%s is no field", message, field)
			}
		}
	}
}

// within wraps content as the messages that lead to a field.
func within(way []protoreflect.FieldDescriptor, content []byte) []byte {
	for i := len(way) - 2; i >= 0; i-- {
		content = protowire.AppendBytes(protowire.AppendTag(nil, way[i].Number(), protowire.BytesType), content)
	}
	return content
}

// times writes a field so often, each value of so many bytes if it is text.
func times(d protoreflect.FieldDescriptor, n, size int) []byte {
	var one []byte
	switch d.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		one = protowire.AppendBytes(protowire.AppendTag(nil, d.Number(), protowire.BytesType), bytes.Repeat([]byte{'a'}, size))
	case protoreflect.Fixed64Kind:
		one = protowire.AppendFixed64(protowire.AppendTag(nil, d.Number(), protowire.Fixed64Type), 1)
	default:
		one = protowire.AppendVarint(protowire.AppendTag(nil, d.Number(), protowire.VarintType), 1)
	}
	return bytes.Repeat(one, n)
}

// TestBoundsHold for every field of both frames: as much as there may be is taken, one more is refused before anything is decoded.
func TestBoundsHold(t *testing.T) {
	for _, frame := range frames {
		kind := frame.ProtoReflect().Descriptor().FullName()
		eachField(frame.ProtoReflect().Descriptor(), nil, func(way []protoreflect.FieldDescriptor) {
			d := way[len(way)-1]
			b := bounds[d.Parent().Name()][d.Name()]
			tries := map[string][2][]byte{"so many": {times(d, b.count, 0), times(d, b.count+1, 0)}}
			if b.bytes > 0 {
				tries["so long"] = [2][]byte{times(d, 1, b.bytes), times(d, 1, b.bytes+1)}
			}
			if d.IsPacked() {
				packed := func(n int) []byte {
					value := []byte{0x80, 0x7f}
					if d.Kind() == protoreflect.Fixed64Kind {
						value = make([]byte, 8)
					}
					return protowire.AppendBytes(protowire.AppendTag(nil, d.Number(), protowire.BytesType), bytes.Repeat(value, n))
				}
				tries["so many, packed"] = [2][]byte{packed(b.count), packed(b.count + 1)}
			}
			for what, try := range tries {
				if err := check(kind, within(way, try[0])); err != nil {
					t.Errorf("%s, %s: %v", name(way), what, err)
				}
				if err := check(kind, within(way, try[1])); !errors.Is(err, ErrFrame) {
					t.Errorf("%s, %s and one more: %v", name(way), what, err)
				}
			}
		})
	}
}

// TestWhatIsNoFrame is refused, and what a newer program may say is not.
func TestWhatIsNoFrame(t *testing.T) {
	unknown := func(n int) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, n))
	}
	const kind = "machineid.link.v1.ToAuthority"
	for what, c := range map[string]struct {
		raw  []byte
		want bool
	}{
		"nothing":                      {nil, true},
		"an unknown field":             {unknown(1000), true},
		"a number where a message is":  {protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1), true},
		"much that is unknown":         {unknown(65_536), false},
		"all that may be unknown":      {unknown(65_536 - 3), true},
		"one byte more":                {unknown(65_536 - 2), false},
		"the first number beyond ours": {protowire.AppendVarint(protowire.AppendTag(nil, 6, protowire.VarintType), 1), true},
		"many unknown fields":          {bytes.Repeat(unknown(1), maxUnknown/2+1), false},
		"a group":                      {[]byte{100<<3&0x7f | 3, 0}, false},
		"a field that is cut":          {[]byte{1<<3 | 2, 10, 1}, false},
		"a tag that is cut":            {[]byte{0x80}, false},
		"a length beyond all":          {[]byte{1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, false},
		"a field of number 0":          {[]byte{2, 0}, false},
		"damage in a message":          {[]byte{1<<3 | 2, 1, 0x80}, false},
		"a fetch with a group":         {[]byte{4<<3 | 2, 2, 1<<3 | 3, 1<<3 | 4}, false},
		"a report in which damage is":  {[]byte{5<<3 | 2, 3, 1<<3 | 2, 5, 0}, false},
		"a packed list with a cut end": {within2(5, 1, []byte{3<<3 | 2, 1, 0x80}), true}, // protobuf refuses it
	} {
		if err := check(kind, c.raw); (err == nil) != c.want || err != nil && !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if check("machineid.link.v1.Nothing", nil) == nil {
		t.Error("any message is a frame")
	}
	cut := mem.BufferSlice{mem.SliceBuffer(within2(5, 1, []byte{3<<3 | 2, 1, 0x80}))}
	for _, v := range []any{&ToAuthority{}, "no message"} {
		if err := newCodec().Unmarshal(cut, v); !errors.Is(err, ErrFrame) {
			t.Errorf("read into %T: %v", v, err)
		}
	}
}

func within2(outer, inner protowire.Number, content []byte) []byte {
	in := protowire.AppendBytes(protowire.AppendTag(nil, inner, protowire.BytesType), content)
	return protowire.AppendBytes(protowire.AppendTag(nil, outer, protowire.BytesType), in)
}

// largest are frames as large as our own senders make them.
func largest() map[string]proto.Message {
	id, hash := make([]byte, 16), make([]byte, 32)
	device := strings.Repeat("d", MaxID)
	up := &ToAuthority{Renew: &Renew{AskedAtNs: 1 << 62}, Ack: &Ack{Index: 1 << 63, GaveBack: true}, Report: &Report{Entries: 1}}
	for i := range uint64(MaxFetches) {
		up.Fetches = append(up.Fetches, &Fetch{Id: 1<<63 + i, KeyHash: hash, OrgId: id, DeviceId: device, DeviceOnly: true})
	}
	for range 64 << 10 / (len(id) + 8 + len(device) + 10) {
		up.Report.Seen = append(up.Report.Seen, &Seen{OrgId: id, DeviceIds: []string{device}, AtMs: []int64{1 << 50}})
	}
	again := &ToEdge{Welcome: &Welcome{ClusterId: "c", Replaces: []string{"a", "b"}, HashKey: make([]byte, HashKeySize)}, NowMs: 1}
	for i := range uint64(MaxInvalidates) {
		again.Invalidates = append(again.Invalidates, &Invalidate{Index: 1<<63 + i, Hashes: []uint64{i}})
	}
	answers := &ToEdge{Grant: &Grant{Index: 1}, Goodbye: &Goodbye{Reason: "bye", LeaderAddress: "a:1"}}
	for i := range uint64(MaxAnswers) {
		answers.Answers = append(answers.Answers, &Answer{
			Id: i, Index: i, Key: &KeyRecord{Known: true, OrgId: id, ExpiresAtMs: 1 << 50}, Org: &OrgRecord{Known: true, GraceUntilMs: 1 << 50, AccessUntilMs: 1 << 50},
			Device: &DeviceRecord{Known: true, ExpiresAtMs: 1 << 50},
		})
	}
	return map[string]proto.Message{
		"a Hello":       &ToAuthority{Hello: &Hello{EdgeId: "e", ProcessId: id, Version: "v", Held: make([]byte, HeldBytes), Reign: id, Incarnation: id}},
		"all at once":   up,
		"all to resume": again,
		"all answers":   answers,
		"one revoke":    &ToEdge{Invalidates: []*Invalidate{{Index: 1, Hashes: make([]uint64, 256<<10)}}},
	}
}

// TestWhatIsSentIsTaken: the largest frames of our own pass the bounds, and gRPC's.
func TestWhatIsSentIsTaken(t *testing.T) {
	for what, m := range largest() {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := m.ProtoReflect().New().Interface()
		if err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, got); err != nil || !proto.Equal(got, m) {
			t.Errorf("%s: %v", what, err)
		}
		limit := MaxToEdge
		if _, up := m.(*ToAuthority); up {
			limit = MaxToAuthority
		}
		if len(raw) > limit*3/4 {
			t.Errorf("%s: %d bytes of at most %d", what, len(raw), limit)
		}
	}
}

// TestARefusedFrameTakesNothing: two million empty messages in 4 MiB are not made, in either direction.
func TestARefusedFrameTakesNothing(t *testing.T) {
	for _, c := range []struct {
		what string
		raw  []byte
		into proto.Message
	}{
		{"fetches", bytes.Repeat([]byte{4<<3 | 2, 0}, 2<<20), &ToAuthority{}},
		{"devices seen", within2(5, 1, bytes.Repeat([]byte{2<<3 | 2, 0}, 2<<20)), &ToAuthority{}},
		{"times seen", within2(5, 1, protowire.AppendBytes([]byte{3<<3 | 2}, make([]byte, 4<<20))), &ToAuthority{}},
		{"Hellos", bytes.Repeat([]byte{1<<3 | 2, 0}, 2<<20), &ToAuthority{}},
		{"invalidations", bytes.Repeat([]byte{2<<3 | 2, 0}, 2<<20), &ToEdge{}},
		{"answers", bytes.Repeat([]byte{4<<3 | 2, 0}, 2<<20), &ToEdge{}},
		{"clusters", protowire.AppendBytes([]byte{1<<3 | 2}, bytes.Repeat([]byte{14<<3 | 2&0x7f, 0}, 2<<20)), &ToEdge{}},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(c.raw)}, c.into)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", c.what, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d KiB were made of a frame that is refused", c.what, n>>10)
		}
	}
}

// FuzzBounds: of whatever passes, protobuf makes no more than the bounds say.
func FuzzBounds(f *testing.F) {
	f.Add([]byte{4<<3 | 2, 0, 1<<3 | 2, 2, 1<<3 | 2, 0}, true)
	f.Add(within2(5, 1, []byte{3<<3 | 2, 2, 1, 1}), true)
	f.Add([]byte{2<<3 | 2, 4, 2<<3 | 2, 2, 0, 0}, false)
	f.Fuzz(func(t *testing.T, raw []byte, up bool) {
		into := frames[1]
		if up {
			into = frames[0]
		}
		got := into.ProtoReflect().New().Interface()
		if err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, got); err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatal(err)
			}
			return
		}
		counts := map[protoreflect.FullName]int{}
		count(t, got.ProtoReflect(), counts)
		for field, n := range counts {
			if b := bounds[field.Parent().Name()][field.Name()]; n > b.count {
				t.Fatalf("%d of %s, %d at most", n, field, b.count)
			}
		}
	})
}

// count counts the values of each field that a message has, and checks their lengths.
func count(t *testing.T, m protoreflect.Message, counts map[protoreflect.FullName]int) {
	t.Helper()
	if len(m.GetUnknown()) > 0 {
		t.Fatalf("%d bytes of unknown fields are kept", len(m.GetUnknown()))
	}
	one := func(d protoreflect.FieldDescriptor, v protoreflect.Value) {
		counts[d.FullName()]++
		limit := bounds[d.Parent().Name()][d.Name()].bytes
		switch {
		case d.Message() != nil:
			count(t, v.Message(), counts)
		case d.Kind() == protoreflect.StringKind && len(v.String()) > limit, d.Kind() == protoreflect.BytesKind && len(v.Bytes()) > limit:
			t.Fatalf("%s is longer than %d", d.FullName(), limit)
		}
	}
	m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !d.IsList() {
			one(d, v)
			return true
		}
		for i := range v.List().Len() {
			one(d, v.List().Get(i))
		}
		return true
	})
}

// TestBoundsAreOfTheWire: an edge and an authority of different versions keep to the same bounds, so none changes by the way. A smaller one ends the
// sessions of those that keep to the larger.
func TestBoundsAreOfTheWire(t *testing.T) {
	for name, c := range map[string]struct{ is, want int }{
		"bytes to the authority": {MaxToAuthority, 1_048_576}, "bytes to an edge": {MaxToEdge, 8_388_608},
		"questions": {MaxFetches, 1_024}, "answers": {MaxAnswers, 8_192}, "indexes": {MaxInvalidates, 131_072}, "hashes": {maxIDes, 1_048_576},
		"a name": {MaxName, 256}, "a device's id": {MaxID, 256}, "an address": {maxAddress, 512}, "a reason": {maxReason, 1_024}, "a token": {maxToken, 256},
		"any id": {maxID, 64}, "orgs seen": {maxSeen, 4_096}, "devices seen": {maxSighted, 8_192}, "keys used": {maxUsed, 2_048},
		"tallies": {maxTallies, 64}, "clusters replaced": {maxReplaced, 64}, "unknown": {maxUnknown, 65_536}, "buckets": {Buckets, 1_048_576},
		"bytes of what is held": {HeldBytes, 131_072},
	} {
		if c.is != c.want {
			t.Errorf("%s: %d, and was always %d", name, c.is, c.want)
		}
	}
}

// TestBuckets: a hash's bucket is its lowest 20 bits, and a bit of what is held.
func TestBuckets(t *testing.T) {
	held := make([]byte, HeldBytes)
	for _, hash := range []uint64{0, 7, 8, 0xabcde, 0xfffff} {
		b := BucketOf(hash | 0x1234_5678_9ab0_0000)
		if uint64(b) != hash {
			t.Errorf("the bucket of %x is %x", hash, b)
		}
		if Held(held, b) {
			t.Errorf("%x is held before", b)
		}
		held[b/8] |= 1 << (b % 8)
		if !Held(held, b) {
			t.Errorf("%x is not held", b)
		}
	}
}
