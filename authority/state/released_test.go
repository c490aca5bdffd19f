package state

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/internal/testkit/released"
	"machineid/shared/release"
)

// recordTypes are the records of the state, by the names that the releases' files have for them.
var recordTypes = map[string]proto.Message{
	"cluster": &statepb.Cluster{}, "plans": &statepb.Plans{}, "org": &statepb.Org{}, "key": &statepb.Key{}, "link_record": &statepb.LinkRecord{},
	"seats": &statepb.Seats{}, "remembered": &statepb.Remembered{}, "occupant": &statepb.Occupant{}, "audit_entry": &statepb.AuditEntry{},
	"written": &statepb.Written{}, "billing": &statepb.Billing{},
}

// asRecord is how a record, or a command, is written.
func asRecord(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// proposed is how a command is proposed: in the forms of this program.
func proposed(m proto.Message) ([]byte, error) {
	cmd, ok := m.(*statepb.Command)
	if !ok {
		return nil, fmt.Errorf("%T is no command", m)
	}
	cmd.AuditForm, cmd.Form = 0, 0
	return Encode(cmd)
}

func readWhole(raw []byte, m proto.Message) error {
	if err := proto.Unmarshal(raw, m); err != nil {
		return err
	}
	if !understood(m.ProtoReflect()) {
		return fmt.Errorf("it has fields that are not known: %v", m)
	}
	return nil
}

// TestReleasedCommands: each command that a release could propose, with every field that it has, is read as it was meant, and this program would
// propose it by the same bytes. What they come to when they are applied is in testdata/v1 and in authority's TestReleasedFolders.
func TestReleasedCommands(t *testing.T) {
	released.Each(t, release.Version(), "commands.txt", func(t *testing.T, dir string) {
		f := released.NewFilling()
		var lines []released.Line
		change := (&statepb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("change")
		for range change.Fields().Len() {
			cmd := &statepb.Command{}
			f.Fill(cmd.ProtoReflect())
			name := string(cmd.ProtoReflect().WhichOneof(change).Name())
			lines = append(lines, released.LineOf(t, name, cmd, asRecord))
		}
		if missing := f.Missing((&statepb.Command{}).ProtoReflect().Descriptor()); len(missing) > 0 {
			t.Fatalf("not filled: %v", missing)
		}
		for _, scope := range []statepb.Key_Scope{statepb.Key_ADMIN, statepb.Key_AGENT} {
			cmd := &statepb.Command{Caller: &statepb.Caller{Scopes: []statepb.Key_Scope{scope}}}
			lines = append(lines, released.LineOf(t, "of_"+strings.ToLower(scope.String()), cmd, proposed))
		}
		released.Write(t, filepath.Join(dir, "commands.txt"), lines)
	}, func(t *testing.T, dir string) {
		for _, l := range released.Read(t, filepath.Join(dir, "commands.txt")) {
			encode := asRecord
			if strings.HasPrefix(l.Name, "of_") {
				encode = proposed // in a later form an older program would stop at them
			}
			for _, fault := range l.Faults(&statepb.Command{}, encode, readWhole) {
				t.Error(fault)
			}
		}
	})
}

// TestReleasedRecords: likewise each record of the state.
func TestReleasedRecords(t *testing.T) {
	released.Each(t, release.Version(), "records.txt", func(t *testing.T, dir string) {
		f := released.NewFilling()
		var lines []released.Line
		for _, name := range slices.Sorted(maps.Keys(recordTypes)) {
			of := recordTypes[name].ProtoReflect()
			for i := range 2 { // the second has other values
				m := of.New()
				f.Fill(m)
				lines = append(lines, released.LineOf(t, fmt.Sprintf("%s/%d", name, i), m.Interface(), asRecord))
			}
			if missing := f.Missing(of.Descriptor()); len(missing) > 0 {
				t.Fatalf("not filled: %v", missing)
			}
		}
		released.Write(t, filepath.Join(dir, "records.txt"), lines)
	}, func(t *testing.T, dir string) {
		for _, l := range released.Read(t, filepath.Join(dir, "records.txt")) {
			name, _, _ := strings.Cut(l.Name, "/")
			for _, fault := range l.Faults(recordTypes[name].ProtoReflect().New().Interface(), asRecord, readWhole) {
				t.Error(fault)
			}
		}
	})
}
