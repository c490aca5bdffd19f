// Package format says what belongs to which format of a cluster. A format numbers what its nodes and edges may write to their disks and to each
// other. A program that knows a newer one writes nothing of it until an operator raises the cluster (raftstore, RaiseFormat; CockroachDB's cluster
// versions, Kubernetes' feature gates): until then there is a way back to the program before.
package format

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The formats. What was there before a feature was tied to one belongs to Baseline, that of the first release.
const (
	First    = 1 // clusters from before the first release
	Baseline = 2
	Newest   = Baseline
)

// Feature is something new that programs of before cannot read.
type Feature struct {
	// Name is what messages and docs call it.
	Name string
	// Format is the first that has it, Version the first release.
	Format  int
	Version string
	// Fields are what it writes: the full names of fields, in commands, records or frames of the link. A new message needs only the field that holds it.
	Fields []protoreflect.FullName
}

// Table is what one program knows. It is not changed after it was made.
type Table struct {
	Newest   int
	Features []Feature
}

// Current is this program's. Formats ascend, and none is used by two releases.
var Current = Table{Newest: Newest}

// Beyond returns the first feature that m uses, at any depth, and a cluster at format `at` has not; nil if there is none. Where the cluster has all that
// the program knows it is one comparison, and before that only what may hold such a feature is looked at: frames and records are judged one by one.
func (t *Table) Beyond(at int, m proto.Message) *Feature {
	if t.Newest <= at {
		return nil
	}
	for i := range t.Features {
		if f := &t.Features[i]; f.Format > at && f.in(m.ProtoReflect()) {
			return f
		}
	}
	return nil
}

func (f *Feature) in(m protoreflect.Message) bool {
	for _, fd := range f.ways(m.Descriptor()) {
		switch {
		case !m.Has(fd):
		case slices.Contains(f.Fields, fd.FullName()):
			return true
		case fd.IsList():
			for i, list := 0, m.Get(fd).List(); i < list.Len(); i++ {
				if f.in(list.Get(i).Message()) {
					return true
				}
			}
		case f.in(m.Get(fd).Message()): // our messages have no maps
			return true
		}
	}
	return false
}

// known are the ways of each *Feature: a *sync.Map of descriptors of messages.
var known sync.Map

// ways are the fields of a message that are the feature's, or hold messages in which there may be one.
func (f *Feature) ways(d protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	of, ok := known.Load(f)
	if !ok {
		of, _ = known.LoadOrStore(f, &sync.Map{})
	}
	ways := of.(*sync.Map) //nolint:errcheck // nothing else is put there
	if list, ok := ways.Load(d); ok {
		return *list.(*[]protoreflect.FieldDescriptor) //nolint:errcheck // nothing else is put there
	}
	var list []protoreflect.FieldDescriptor
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); f.leads(fd, map[protoreflect.FullName]bool{}) {
			list = append(list, fd)
		}
	}
	ways.Store(d, &list)
	return list
}

// leads reports whether a field is the feature's, or there is one below it. seen are the messages that were looked at.
func (f *Feature) leads(fd protoreflect.FieldDescriptor, seen map[protoreflect.FullName]bool) bool {
	if slices.Contains(f.Fields, fd.FullName()) {
		return true
	}
	d := fd.Message()
	if d == nil || seen[d.FullName()] {
		return false
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		if f.leads(d.Fields().Get(i), seen) {
			return true
		}
	}
	return false
}

// linkPackage is that of the frames between edges and the authority.
const linkPackage = "machineid.link.v1."

// Edges is the format that an edge must know to understand what a cluster at format `at` tells it.
func (t *Table) Edges(at int) int {
	need := First
	for _, f := range t.Features {
		if f.Format <= at && slices.ContainsFunc(f.Fields, func(n protoreflect.FullName) bool {
			return strings.HasPrefix(string(n), linkPackage)
		}) {
			need = max(need, f.Format)
		}
	}
	return need
}

// UpgradeError says that a feature is not there before the format is raised.
type UpgradeError struct {
	Feature string
	At, To  int
}

// Error says what to type.
func (e *UpgradeError) Error() string {
	return fmt.Sprintf("%s need format %d, and the cluster is at %d: when every node runs the newer program and none is to go back, 'machineid cluster raise-format'", e.Feature, e.To, e.At)
}
