package link

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What one frame may carry, in either direction (I14). Senders keep to it; a frame beyond it is not decoded, and ends its session: protobuf
// makes an object of every two bytes, so a frame of 4 MiB would else take 600 MiB.
const (
	// MaxToAuthority is the most bytes of a frame from an edge.
	MaxToAuthority = 1 << 20
	// MaxToEdge is the most bytes of a frame to an edge.
	MaxToEdge = 8 << 20
	// MaxFetches is the most questions of a frame.
	MaxFetches = 1 << 10
	// MaxAnswers is the most answers of a frame.
	MaxAnswers = 8 << 10
	// MaxInvalidates is the most indexes that a frame tells of. What is told again with a Welcome comes in one frame.
	MaxInvalidates = 1 << 17
	// MaxName is the most bytes of a name: of an edge, a node, a cluster, a version.
	MaxName = 256
	// maxUnknown is the most bytes of fields that this program does not know. They are passed over, and not kept.
	maxUnknown = 64 << 10

	maxAddress, maxReason, maxToken = 512, 1 << 10, 256
	// maxID is more than any id or hash has: one that is too long is for whoever reads it, as one that is too short.
	maxID                        = 64
	maxSeen, maxSighted, maxUsed = 4 << 10, 8 << 10, 2 << 10
	maxTallies, maxReplaced      = 64, 64
	maxIDes                      = MaxToEdge / 8
)

// ErrFrame is a frame that is beyond a bound, or no frame at all.
var ErrFrame = errors.New("frame refused")

// bound is what a field may take.
type bound struct {
	count int // how often it may stand in one frame, in all messages of its kind together
	bytes int // of each, where it is a string or bytes
}

// bounds are those of every field. A field that is not listed may not stand at all.
var bounds = map[protoreflect.Name]map[protoreflect.Name]bound{
	"ToAuthority": {"hello": {count: 1}, "renew": {count: 1}, "ack": {count: 1}, "fetches": {count: MaxFetches}, "report": {count: 1}},
	"ToEdge": {
		"welcome": {count: 1}, "invalidates": {count: MaxInvalidates}, "grant": {count: 1}, "answers": {count: MaxAnswers}, "goodbye": {count: 1},
		"now_ms": {count: 1},
	},
	"Hello": {
		"edge_id": {1, MaxName}, "process_id": {1, maxID}, "version": {1, MaxName}, "decision_version": {count: 1}, "term": {count: 1},
		"incarnation": {1, maxID}, "last_index": {count: 1}, "held": {1, HeldBytes}, "session": {count: 1}, "reign": {1, maxID}, "format": {count: 1},
		"read_index": {count: 1},
	},
	"Renew": {"asked_at_ns": {count: 1}},
	"Ack":   {"index": {count: 1}, "gave_back": {count: 1}},
	"Fetch": {
		"id": {count: MaxFetches}, "key_hash": {MaxFetches, maxID}, "org_id": {MaxFetches, maxID}, "device_id": {MaxFetches, MaxID},
		"device_only": {count: MaxFetches},
	},
	"Report": {"seen": {count: maxSeen}, "validates": {count: maxTallies}, "entries": {count: 1}, "used": {count: maxUsed}},
	"Used":   {"key_hash": {maxUsed, maxID}, "at_ms": {count: maxUsed}},
	"Seen":   {"org_id": {maxSeen, maxID}, "device_ids": {maxSighted, MaxID}, "at_ms": {count: maxSighted}},
	"Tally":  {"code": {maxTallies, MaxName}, "hits": {count: maxTallies}, "misses": {count: maxTallies}},
	"Welcome": {
		"term": {count: 1}, "incarnation": {1, maxID}, "cluster_id": {1, MaxName}, "authority_id": {1, MaxName}, "index": {count: 1},
		"hash_key": {1, maxID}, "lease_ns": {count: 1}, "cache_ttl_ns": {count: 1}, "http_address": {1, maxAddress},
		"proxy_token": {1, maxToken}, "reset": {count: 1}, "reign": {1, maxID}, "proven": {count: 1}, "replaces": {maxReplaced, MaxName},
	},
	"Invalidate": {"index": {count: MaxInvalidates}, "hashes": {count: maxIDes}},
	"Grant":      {"asked_at_ns": {count: 1}, "granted_ns": {count: 1}, "now_ms": {count: 1}, "index": {count: 1}},
	"Answer": {
		"id": {count: MaxAnswers}, "index": {count: MaxAnswers}, "key": {count: MaxAnswers}, "org": {count: MaxAnswers},
		"device": {count: MaxAnswers}, "unavailable": {count: MaxAnswers},
	},
	"KeyRecord": {
		"min_version": {count: MaxAnswers}, "known": {count: MaxAnswers}, "org_id": {MaxAnswers, maxID}, "expires_at_ms": {count: MaxAnswers},
	},
	"OrgRecord": {
		"min_version": {count: MaxAnswers}, "known": {count: MaxAnswers}, "disabled": {count: MaxAnswers}, "frozen": {count: MaxAnswers},
		"grace_until_ms": {count: MaxAnswers}, "access_until_ms": {count: MaxAnswers},
	},
	"DeviceRecord": {
		"min_version": {count: MaxAnswers}, "known": {count: MaxAnswers}, "revoked": {count: MaxAnswers}, "expires_at_ms": {count: MaxAnswers},
	},
	"Goodbye": {"reason": {1, maxReason}, "leader_address": {1, maxAddress}},
}

// layout is a message as check reads it.
type layout struct {
	name   protoreflect.Name
	fields []*field // by number; nil: unknown
}

type field struct {
	bound
	name  protoreflect.Name
	place int // where check counts it
	kind  protoreflect.Kind
	of    *layout // of a message
}

// known are the layouts of the two frames and of what is in them, and how many fields they have in all.
type known struct {
	layouts map[protoreflect.FullName]*layout
	fields  int
}

// layouts are made at the first frame: descriptors are there only when the program begins.
var layouts = sync.OnceValue(func() known {
	made, n := map[protoreflect.FullName]*layout{}, 0
	var of func(protoreflect.MessageDescriptor) *layout
	of = func(m protoreflect.MessageDescriptor) *layout {
		if l := made[m.FullName()]; l != nil {
			return l
		}
		l := &layout{name: m.Name()}
		made[m.FullName()] = l
		for i := range m.Fields().Len() {
			d := m.Fields().Get(i)
			f := &field{bound: bounds[m.Name()][d.Name()], name: d.Name(), place: n, kind: d.Kind()}
			n++
			if d.Message() != nil {
				f.of = of(d.Message())
			}
			for len(l.fields) <= int(d.Number()) {
				l.fields = append(l.fields, nil)
			}
			l.fields[d.Number()] = f
		}
		return l
	}
	of((&ToAuthority{}).ProtoReflect().Descriptor())
	of((&ToEdge{}).ProtoReflect().Descriptor())
	return known{made, n}
})

// wired is the wire type of a single value of a kind that frames have.
func wired(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.Fixed64Kind:
		return protowire.Fixed64Type
	default:
		return protowire.VarintType
	}
}

// checking is the look at one frame before anything of it is made.
type checking struct {
	counts  []int
	unknown int // bytes
}

// message reads one message. It goes no deeper than the layouts do, and those do not contain themselves.
func (c *checking) message(l *layout, b []byte) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %s: %w", ErrFrame, l.name, protowire.ParseError(n))
		}
		b = b[n:]
		if typ == protowire.StartGroupType || typ == protowire.EndGroupType {
			return fmt.Errorf("%w: %s has a group, and no frame has any", ErrFrame, l.name)
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return fmt.Errorf("%w: %s: %w", ErrFrame, l.name, protowire.ParseError(n))
		}
		var f *field
		if int(num) < len(l.fields) {
			f = l.fields[num]
		}
		if err := c.value(l, f, typ, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// value reads one value of a field, nil: an unknown one. As protobuf has it, one of another wire type is unknown, and a list of numbers may be packed.
func (c *checking) value(l *layout, f *field, typ protowire.Type, b []byte) error {
	n := 1
	switch {
	case f != nil && typ == wired(f.kind):
	case f != nil && typ == protowire.BytesType:
		n = packed(f.kind, b)
	default:
		if c.unknown += len(b); c.unknown > maxUnknown {
			return fmt.Errorf("%w: more than %d bytes of unknown fields", ErrFrame, maxUnknown)
		}
		return nil
	}
	if c.counts[f.place] += n; c.counts[f.place] > f.count {
		return fmt.Errorf("%w: more than %d of %s.%s", ErrFrame, f.count, l.name, f.name)
	}
	if wired(f.kind) != protowire.BytesType {
		return nil
	}
	content, _ := protowire.ConsumeBytes(b)
	if f.of != nil {
		return c.message(f.of, content)
	}
	if len(content) > f.bytes {
		return fmt.Errorf("%w: %s.%s has %d bytes, %d at most", ErrFrame, l.name, f.name, len(content), f.bytes)
	}
	return nil
}

// packed is how many numbers a packed list has, whether or not the last one is whole.
func packed(k protoreflect.Kind, b []byte) (n int) {
	content, _ := protowire.ConsumeBytes(b)
	if k == protoreflect.Fixed64Kind {
		return len(content) / 8
	}
	for _, c := range content {
		if c < 0x80 { // the last byte of one
			n++
		}
	}
	return n
}

// check returns an error if a frame of a kind is beyond a bound (bounds), before anything of it is decoded.
func check(kind protoreflect.FullName, b []byte) error {
	k := layouts()
	l := k.layouts[kind]
	if l == nil {
		return fmt.Errorf("%w: %s is no frame", ErrFrame, kind)
	}
	c := checking{counts: make([]int, k.fields)}
	return c.message(l, b)
}
