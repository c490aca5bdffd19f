package authority

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/format"
	"machineid/shared/link"
)

var updateFields = flag.Bool("update", false, "write the list of what the first release has; never after it was released")

const baselineFields = "testdata/fields-v0.1.0.txt"

// written are the files that describe what nodes and edges write.
var written = []protoreflect.FileDescriptor{statepb.File_authority_state_statepb_state_proto, link.File_shared_link_link_proto}

// eachField lists every field of a file's messages: its name, number and type.
func eachField(list protoreflect.MessageDescriptors, each func(name protoreflect.FullName, is string)) {
	for i := range list.Len() {
		m := list.Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			kind := f.Kind().String()
			if f.Message() != nil {
				kind = string(f.Message().FullName())
			} else if f.Enum() != nil {
				kind = string(f.Enum().FullName())
			}
			each(f.FullName(), fmt.Sprint(f.Number(), " ", f.Cardinality(), " ", kind))
		}
		eachField(m.Messages(), each)
	}
}

// TestEveryFieldHasAFormat: what nodes and edges write is either the first release's, unchanged, or tied to one feature of a later format.
func TestEveryFieldHasAFormat(t *testing.T) {
	now := map[protoreflect.FullName]string{}
	for _, file := range written {
		eachField(file.Messages(), func(name protoreflect.FullName, is string) { now[name] = is })
	}
	if *updateFields {
		var lines []string
		for name, is := range now {
			lines = append(lines, string(name)+" "+is+"\n")
		}
		slices.Sort(lines)
		if err := os.WriteFile(baselineFields, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(baselineFields)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range formatFaults(string(text), now, format.Current.Features) {
		t.Error(fault)
	}
}

func formatFaults(baseline string, now map[protoreflect.FullName]string, features []format.Feature) (list []string) {
	first := map[protoreflect.FullName]bool{}
	for line := range strings.Lines(baseline) {
		name, is, _ := strings.Cut(strings.TrimSpace(line), " ")
		first[protoreflect.FullName(name)] = true
		if got := now[protoreflect.FullName(name)]; got != is {
			list = append(list, fmt.Sprintf("%s was %q in the first release and is %q: what is on disks and on the link stays as it is", name, is, got))
		}
	}
	tied := map[protoreflect.FullName]string{}
	for _, f := range features {
		for _, name := range f.Fields {
			switch {
			case now[name] == "":
				list = append(list, fmt.Sprintf("%s: there is no field %s", f.Name, name))
			case first[name] || tied[name] != "":
				list = append(list, fmt.Sprintf("%s: %s belongs to the first release, or to %q", f.Name, name, tied[name]))
			}
			tied[name] = f.Name
		}
	}
	within := func(name protoreflect.FullName) bool { // a new message is tied by the fields that hold it
		for holder, is := range now {
			if tied[holder] != "" && strings.HasSuffix(is, " "+string(name.Parent())) {
				return !slices.ContainsFunc(slices.Collect(maps.Keys(first)), func(n protoreflect.FullName) bool { return n.Parent() == name.Parent() })
			}
		}
		return false
	}
	for name := range now {
		if !first[name] && tied[name] == "" && !within(name) {
			list = append(list, fmt.Sprintf("%s is new and belongs to no feature: give it one in format.Current, of a format above %d", name, format.Baseline))
		}
	}
	slices.Sort(list)
	return list
}

// TestFaultsOfFormatsAreFound: the check above can fail.
func TestFaultsOfFormatsAreFound(t *testing.T) {
	const first = "p.A.a 1 optional bytes\np.A.b 2 repeated p.B\np.B.c 1 optional bool\n"
	same := func(more ...string) map[protoreflect.FullName]string {
		m := map[protoreflect.FullName]string{"p.A.a": "1 optional bytes", "p.A.b": "2 repeated p.B", "p.B.c": "1 optional bool"}
		for i := 0; i < len(more); i += 2 {
			if m[protoreflect.FullName(more[i])] = more[i+1]; more[i+1] == "" {
				delete(m, protoreflect.FullName(more[i]))
			}
		}
		return m
	}
	feature := func(names ...protoreflect.FullName) []format.Feature {
		return []format.Feature{{Name: "x", Format: 3, Fields: names}}
	}
	for what, c := range map[string]struct {
		now      map[protoreflect.FullName]string
		features []format.Feature
		n        int
	}{
		"the first release":           {same(), nil, 0},
		"a field gone":                {same("p.A.a", ""), nil, 1},
		"a field of another type":     {same("p.A.a", "1 optional string"), nil, 1},
		"a field of another number":   {same("p.A.a", "3 optional bytes"), nil, 1},
		"a new field":                 {same("p.A.d", "4 optional bool"), nil, 1},
		"a new field that is tied":    {same("p.A.d", "4 optional bool"), feature("p.A.d"), 0},
		"a new message, tied":         {same("p.A.d", "4 optional p.D", "p.D.x", "1 optional bool"), feature("p.A.d"), 0},
		"a new message, not tied":     {same("p.A.d", "4 optional p.D", "p.D.x", "1 optional bool"), nil, 2},
		"a field of an old message":   {same("p.A.d", "4 optional p.B", "p.B.x", "2 optional bool"), feature("p.A.d"), 1},
		"a feature of what is there":  {same(), feature("p.A.a"), 1},
		"a feature of what is not":    {same(), feature("p.A.z"), 1},
		"a field of several features": {same("p.A.d", "4 optional bool"), append(feature("p.A.d"), feature("p.A.d")...), 1},
	} {
		if got := formatFaults(first, c.now, c.features); len(got) != c.n {
			t.Errorf("%s: %d faults, want %d: %q", what, len(got), c.n, got)
		}
	}
}

// TestFormatsAreInOrder: features ascend, each has a format of its own release, and the page has a row for each.
func TestFormatsAreInOrder(t *testing.T) {
	page, err := os.ReadFile("../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	last, rows := format.Baseline, []string{}
	for _, f := range format.Current.Features {
		if f.Name == "" || f.Version == "" || f.Format < last || f.Format <= format.Baseline || f.Format > format.Newest || len(f.Fields) == 0 {
			t.Errorf("%+v comes after format %d", f, last)
		}
		last = f.Format
		rows = append(rows, fmt.Sprintf("| %d | %s | %s |", f.Format, f.Version, f.Name))
	}
	var shown []string
	for line := range strings.Lines(string(page)) {
		if n, err := strconv.Atoi(strings.TrimSpace(strings.Split(line+"||", "|")[1])); err == nil && n > format.Baseline {
			shown = append(shown, strings.TrimSpace(line))
		}
	}
	if diff := cmp.Diff(rows, shown); len(rows)+len(shown) > 0 && diff != "" {
		t.Errorf("docs/formats.md (-program +page):\n%s", diff)
	}
	if last != format.Newest {
		t.Errorf("the newest format is %d, the last feature's %d", format.Newest, last)
	}
}

// TestBeyond: a feature is found wherever a message uses it, and only above the cluster's format.
func TestBeyond(t *testing.T) {
	table := format.Table{Newest: 4, Features: []format.Feature{
		{Name: "notes", Format: 3, Fields: []protoreflect.FullName{"machineid.state.v1.Command.note"}},
		{Name: "flags", Format: 4, Fields: []protoreflect.FullName{"machineid.state.v1.Value.flag", "machineid.link.v1.Report.hits"}},
	}}
	flagged := &statepb.Command{Change: &statepb.Command_Note{Note: &statepb.Note{Settings: []*statepb.Setting{{Before: &statepb.Value{Value: &statepb.Value_Flag{Flag: true}}}}}}}
	plain := &statepb.Command{Change: &statepb.Command_Note{Note: &statepb.Note{Action: "x"}}}
	revoke := &statepb.Command{Change: &statepb.Command_Revoke{Revoke: &statepb.Revoke{}}}
	for _, c := range []struct {
		at   int
		m    *statepb.Command
		want string
	}{{2, flagged, "notes"}, {3, flagged, "flags"}, {4, flagged, ""}, {2, plain, "notes"}, {3, plain, ""}, {2, revoke, ""}} {
		got := ""
		if f := table.Beyond(c.at, c.m); f != nil {
			got = f.Name
		}
		if got != c.want {
			t.Errorf("at %d, %v: %q, want %q", c.at, c.m, got, c.want)
		}
	}
	for at, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 4, 5: 4} {
		if got := table.Edges(at); got != want {
			t.Errorf("at %d edges must know %d, want %d", at, got, want)
		}
	}
}

// TestWhatIsNewWaitsForTheFormat: a node proposes nothing that a cluster of its format cannot read, and says what to type; once it is raised, it does.
func TestWhatIsNewWaitsForTheFormat(t *testing.T) {
	newer := &format.Table{Newest: format.Newest + 1, Features: []format.Feature{
		{Name: "notes", Format: format.Newest + 1, Fields: []protoreflect.FullName{"machineid.state.v1.Command.note"}},
	}}
	dir := t.TempDir()
	_, stop := runNode(t, dir, "a1", nil) // the cluster begins with the program before
	stop()
	n, stop := runNode(t, dir, "a1", func(c *Config) { c.Formats = newer })
	defer stop()
	until(t, "it leads", func() bool { _, leads := n.store.Leading(); return leads })
	note := func() error {
		_, _, err := n.Propose(t.Context(), &statepb.Command{TimeMs: n.Now(), Change: &statepb.Command_Note{Note: &statepb.Note{Action: "cluster.test"}}})
		return err
	}
	before := n.store.Applied()
	if early, is := errors.AsType[*format.UpgradeError](note()); !is || early.At != format.Newest || early.To != newer.Newest || !strings.Contains(early.Error(), "'machineid cluster raise-format'") {
		t.Errorf("before the raise: %v", early)
	}
	if after := n.store.Applied(); after.Index > before.Index+1 { // the time that is reserved may come between
		t.Errorf("it was proposed: %v, then %v", before, after)
	}
	if got, err := n.store.RaiseFormat(t.Context(), 0); err != nil || got != newer.Newest {
		t.Fatalf("raised to %d: %v", got, err)
	}
	if err := note(); err != nil {
		t.Errorf("after the raise: %v", err)
	}
}

// TestRecordsWaitForTheFormat: what a node applies is judged by the format that its log has come to, also after a restart: the state is told which that is.
func TestRecordsWaitForTheFormat(t *testing.T) {
	t.Parallel()
	newer := &format.Table{Newest: format.Newest + 1, Features: []format.Feature{
		{Name: "names", Format: format.Newest + 1, Fields: []protoreflect.FullName{"machineid.state.v1.Org.name"}},
	}}
	knows := func(c *Config) { c.Formats = newer }
	dir := t.TempDir()
	_, stop := runNode(t, dir, "a1", nil) // the cluster begins with the program before
	stop()
	for i, raised := range []bool{false, true, true} {
		n, stop := runNode(t, dir, "a1", knows)
		until(t, "it leads", func() bool { _, leads := n.store.Leading(); return leads })
		if got := n.store.Format(); i == 1 {
			if to, err := n.store.RaiseFormat(t.Context(), 0); err != nil || to != newer.Newest {
				t.Fatalf("raised to %d: %v", to, err)
			}
		} else if (got == newer.Newest) != raised {
			t.Fatalf("the format is %d", got)
		}
		stop() // what it would apply next stops the process
		if why := creates(t, n.state); (why == "") != raised || !raised && !strings.Contains(why, "names") {
			t.Errorf("raised %t: %q", raised, why)
		}
	}
}

// creates applies a command that writes an org's name to an empty state, and returns what it panics with.
func creates(t *testing.T, m *state.Machine) (why string) {
	t.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	w := db.NewIndexedBatch()
	defer func() {
		if p := recover(); p != nil {
			why = fmt.Sprint(p)
		}
		if err := errors.Join(w.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	}()
	raw, err := state.Encode(&statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: bytes.Repeat([]byte{7}, 16), Name: "a name"}}})
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(w, raftstore.Position{Index: 1 << 40, Term: 1}, raw)
	return ""
}
