package state

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/authority/state/statepb"
)

// The golden files are what a node of the first release has on its disk. They are
// kept for ever: each later version must read them, and come to the same state.
// A new message gets a new file; -update writes only what is missing.
var update = flag.Bool("update", false, "write the golden files that are missing")

const hexLine = "# hex: "

// golden reads a file of prototext that ends with a comment: the same in hex.
func golden(t *testing.T, path string, m proto.Message) (raw []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := prototext.Unmarshal(text, m); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	_, line, found := strings.Cut(string(text), hexLine)
	if !found && *update {
		raw = bytesOf(m)
		if err := os.WriteFile(path, fmt.Appendf(text, "%s%x\n", hexLine, raw), 0o644); err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if raw, err = hex.DecodeString(strings.TrimSpace(line)); err != nil || !found {
		t.Fatalf("%s: no hex (run with -update): %v", path, err)
	}
	return raw
}

// goldens tests each file of a folder: old bytes mean what the file says, and new
// bytes are the old.
func goldens(t *testing.T, folder string, messageOf func(name string) proto.Message, each func(m proto.Message, raw []byte)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "v1", folder, "*.txtpb"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files in %s: %v", folder, err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txtpb")
		want, got := messageOf(name), messageOf(name)
		raw := golden(t, path, want)
		if err := proto.Unmarshal(raw, got); err != nil || !proto.Equal(want, got) || !understood(got.ProtoReflect()) {
			t.Errorf("%s reads as %v, want %v (%v)", name, got, want, err)
		}
		if again := bytesOf(got); !bytes.Equal(again, raw) {
			t.Errorf("%s is written as %x, was %x", name, again, raw)
		}
		each(got, raw)
	}
}

func TestGoldenRecords(t *testing.T) {
	all := map[string]proto.Message{
		"cluster": &statepb.Cluster{}, "plans": &statepb.Plans{}, "org": &statepb.Org{}, "key": &statepb.Key{},
		"link_record": &statepb.LinkRecord{},
		"seats":       &statepb.Seats{}, "remembered": &statepb.Remembered{}, "occupant": &statepb.Occupant{}, "audit_entry": &statepb.AuditEntry{}, "written": &statepb.Written{}, "billing": &statepb.Billing{},
	}
	missing := map[string]bool{} // a field that no file holds could change its number unseen
	for name, m := range all {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			missing[name+"."+string(fields.Get(i).Name())] = true
		}
	}
	goldens(t, "records", func(name string) proto.Message {
		return all[strings.TrimRight(name, "_0123456789")].ProtoReflect().New().Interface()
	}, func(m proto.Message, _ []byte) {
		m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			delete(missing, nameOf(m)+"."+string(f.Name()))
			return true
		})
	})
	for field := range missing {
		t.Errorf("no golden value for %s", field)
	}
}

// nameOf is a message's name as its file's.
func nameOf(m proto.Message) string {
	var b strings.Builder
	for i, c := range string(m.ProtoReflect().Descriptor().Name()) {
		if i > 0 && c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToLower(string(c)))
	}
	return b.String()
}

// TestGoldenCommands reads the commands, applies them in order, and compares the
// state and the outcomes.
func TestGoldenCommands(t *testing.T) {
	n := newNode(t, openDB(t))
	missing := map[protoreflect.Name]bool{}
	change := (&statepb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("change")
	for i := range change.Fields().Len() {
		missing[change.Fields().Get(i).Name()] = true
	}
	var out strings.Builder
	goldens(t, "commands", func(string) proto.Message { return &statepb.Command{} }, func(m proto.Message, raw []byte) {
		name := m.ProtoReflect().WhichOneof(change).Name()
		delete(missing, name)
		n.apply(entry{term: 2, raws: [][]byte{raw}})
		n.commit()
		fmt.Fprintf(&out, "# %s: %s\n", name, texts(n.outcomes)[len(n.outcomes)-1])
	})
	for name := range missing {
		t.Errorf("no golden file for %s", name)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
	compare(t, "state.txt", out.String()+n.dump())

	// A later version must also go on from this state.
	before := n.dump()
	n.restart()
	if diff := cmp.Diff(before, n.dump()); diff != "" {
		t.Error(diff)
	}
}

func TestGoldenKeys(t *testing.T) {
	org, hash := OrgID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255}, [32]byte{0xaa, 31: 0xbb}
	a := auditID{0x0102030405060708, 0x090a}
	var b strings.Builder
	for _, k := range []struct {
		name string
		key  []byte
	}{
		{"cluster", clusterKey},
		{"plans", plansKey},
		{"mark", markKey},
		{"org", orgKey(org)},
		{"seats", seatsKey(org)},
		{"key", keyKey(hash)},
		{"key of org", orgKeyKey(org, "AAAAAAAA")},
		{"occupant", occupantKey(org, "worker/prod/α")},
		{"by age", timedKey(prefixByAge, org, start, "worker/prod/α")},
		{"by end", timedKey(prefixByEnd, org, start, "worker/prod/α")},
		{"revoked", revokedKey(org, &statepb.Occupant{Id: "worker/prod/α", RevokedAtMs: start})},
		{"audit", auditKey(a)},
		{"audit of org", orgAuditKey(org, a)},
		{"once", onceKey(org, [onceSize]byte{0xcc, 15: 0xdd})},
		{"once by age", onceAgeKey(onceQueue{org: org}, 0x0102030405060708)},
		{"once of org", onceRangeKey(onceQueue{org: org})},
		{"once of a key", onceAgeKey(shareOf(org, hash[:]), 0x0102030405060708)},
		{"share", onceRangeKey(shareOf(org, hash[:]))},
		{"gone", goneKey(org)},
		{"keys of a gone", goneKeysKey(start, org)},
		{"seen", seenKey(org, "worker/prod/α")},
		{"used", usedKey(hash)},
		{"signup", signupKey(start, org)},
		{"billing", billingKey(org)},
		{"customer", customerKey("cus_1")},
		{"written", writtenKey(org, &statepb.Actor{Type: statepb.Actor_KEY, Id: "AAAAAAAA"})},
		{"after orgs", after([]byte{prefixOrg})},
		{"after a holder's", after(holderKey(prefixByAge, org, ""))},
	} {
		fmt.Fprintf(&b, "%-16s %x\n", k.name, k.key)
	}
	compare(t, "keys.txt", b.String())
	if k := after([]byte{0xff, 0xff}); k != nil {
		t.Errorf("after the last: %x", k)
	}
	if id := timedID(timedKey(prefixByEnd, org, start, "worker/prod/α")); id != "worker/prod/α" {
		t.Errorf("took %q out of a key", id)
	}
}

// compare compares with a golden file.
func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "v1", name)
	want, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		want, err = []byte(got), os.WriteFile(path, []byte(got), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs:\n%s", name, diff)
	}
}
