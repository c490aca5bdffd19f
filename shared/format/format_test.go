package format_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"machineid/shared/format"
)

// A table in which a message that protobuf brings along has features: one of its own, one of a message in it, one of messages in a list.
var table = format.Table{Newest: 5, Features: []format.Feature{
	{Name: "own", Format: 3, Fields: []protoreflect.FullName{"google.protobuf.FileDescriptorProto.syntax", "google.protobuf.FileDescriptorProto.package"}},
	{Name: "in a message", Format: 4, Fields: []protoreflect.FullName{"google.protobuf.FileOptions.go_package"}},
	{Name: "in a list", Format: 5, Fields: []protoreflect.FullName{"google.protobuf.FieldDescriptorProto.json_name"}},
	{Name: "of the link", Format: 4, Fields: []protoreflect.FullName{"google.protobuf.FileOptions.x", "machineid.link.v1.Hello.x"}},
}}

// TestBeyond: the first feature that a message uses at any depth, of those that the cluster has not.
func TestBeyond(t *testing.T) {
	field := func(name string) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{JsonName: proto.String(name)}
	}
	inList := &descriptorpb.FileDescriptorProto{
		Name:      proto.String("a"),
		Extension: []*descriptorpb.FieldDescriptorProto{{Name: proto.String("b")}, field("c"), {Name: proto.String("d")}},
	}
	deep := &descriptorpb.FileDescriptorProto{MessageType: []*descriptorpb.DescriptorProto{
		{Name: proto.String("m")}, {NestedType: []*descriptorpb.DescriptorProto{{Field: []*descriptorpb.FieldDescriptorProto{field("f")}}, {}}}, {},
	}}
	for what, c := range map[string]struct {
		at   int
		m    proto.Message
		want string
	}{
		"nothing":                       {2, &descriptorpb.FileDescriptorProto{}, ""},
		"what always was":               {2, &descriptorpb.FileDescriptorProto{Name: proto.String("a"), Dependency: []string{"b"}, Options: &descriptorpb.FileOptions{}}, ""},
		"its own":                       {2, &descriptorpb.FileDescriptorProto{Syntax: proto.String("a")}, "own"},
		"its own, of a list of fields":  {2, &descriptorpb.FileDescriptorProto{Package: proto.String("a")}, "own"},
		"its own, raised":               {3, &descriptorpb.FileDescriptorProto{Syntax: proto.String("a")}, ""},
		"in a message":                  {3, &descriptorpb.FileDescriptorProto{Options: &descriptorpb.FileOptions{GoPackage: proto.String("a")}}, "in a message"},
		"in a message, raised":          {4, &descriptorpb.FileDescriptorProto{Options: &descriptorpb.FileOptions{GoPackage: proto.String("a")}}, ""},
		"in a list":                     {4, inList, "in a list"},
		"in a list, raised":             {5, inList, ""},
		"deep in lists":                 {4, deep, "in a list"},
		"deep in lists, raised":         {5, deep, ""},
		"a cluster newer than we are":   {6, deep, ""},
		"two, the first of them":        {2, &descriptorpb.FileDescriptorProto{Syntax: proto.String("a"), Extension: inList.Extension}, "own"},
		"two, the first of them raised": {3, &descriptorpb.FileDescriptorProto{Syntax: proto.String("a"), Extension: inList.Extension}, "in a list"},
	} {
		got := ""
		if f := table.Beyond(c.at, c.m); f != nil {
			got = f.Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	newer := table
	newer.Newest = 4 // what it lists beyond that is not there yet
	if f := newer.Beyond(4, inList); f != nil {
		t.Errorf("%s is beyond the newest", f.Name)
	}
}

// TestEdges: an edge must know the newest format whose features are in the frames that it reads.
func TestEdges(t *testing.T) {
	for at, want := range map[int]int{0: 1, 1: 1, 2: 1, 3: 1, 4: 4, 5: 4, 9: 4} {
		if got := table.Edges(at); got != want {
			t.Errorf("at format %d an edge needs %d, want %d", at, got, want)
		}
	}
}

// The formats of clusters that there are: none of them may change.
func TestFormats(t *testing.T) {
	if format.First != 1 || format.Baseline != 2 || format.Newest != 2 || format.Current.Newest != 2 {
		t.Errorf("%d, %d, %d, %d", format.First, format.Baseline, format.Newest, format.Current.Newest)
	}
}

func TestUpgradeError(t *testing.T) {
	text := (&format.UpgradeError{Feature: "groups", At: 2, To: 3}).Error()
	for _, part := range []string{"groups need format 3", "the cluster is at 2", "'machineid cluster raise-format'"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}
