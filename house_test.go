// Package house holds tests about the repository itself: who may import whom, and what a file may look like.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	module  = "machineid"
	testkit = module + "/internal/testkit" // what the tests of all folders share
)

// layer says what the packages below a folder must never depend on, not even through another package.
type layer struct {
	folder string
	// ours are the only packages of this module, besides those of the folder itself, that it may depend on.
	ours  []string
	never map[string]string
	// std: nothing but the standard library.
	std bool
}

// layers are the table of DESIGN.md, Folders, and who may import whom. The reasons are for whoever sees the test fail.
var layers = []layer{
	{folder: "shared", never: map[string]string{
		"github.com/hashicorp/raft":        "shared knows no storage",
		"github.com/cockroachdb/pebble/v2": "shared knows no storage",
	}},
	{folder: "raftstore", ours: []string{"shared/search"}}, // which its model is searched with; the store itself needs nothing of ours
	{folder: "cmd", ours: []string{"authority", "edge", "bench", "raftstore", "shared", "sdk"}, never: map[string]string{
		"github.com/getkin/kin-openapi": "the validator of OpenAPI is for tests: import shared/openapi, not its contract",
	}},
	{folder: "edge", ours: []string{"shared"}, never: map[string]string{
		"github.com/hashicorp/raft":        "the edge never sees Raft",
		"github.com/cockroachdb/pebble/v2": "the edge never sees Pebble",
	}},
	{folder: "bench/load", ours: []string{"bench/report", "shared"}}, // a client: what it finds is what clients find
	{folder: "bench/report"},
	{folder: "internal/testkit"},
	{folder: "authority", ours: []string{"raftstore", "shared"}},
	{folder: "sdk", std: true},                                         // clients live in other people's programs
	{folder: "authority/state", ours: []string{"raftstore", "shared"}}, // the domain: not even authority/api and authority/hub
}

// pkg is what `go list -json` tells about a package; Deps are the direct and the indirect ones.
type pkg struct {
	ImportPath, Doc           string
	GoFiles, Deps             []string
	TestImports, XTestImports []string
}

// within reports whether the package importPath lies in folder or below it.
func within(importPath, folder string) bool {
	return importPath == folder || strings.HasPrefix(importPath, folder+"/")
}

// layerFaults names every dependency that layers forbids. What a test imports directly counts too; a test of both tiers belongs
// above them, in cmd or bench.
func layerFaults(pkgs []pkg, layers []layer) []string {
	var faults []string
	for _, p := range pkgs {
		deps := slices.Concat(p.Deps, p.TestImports, p.XTestImports)
		slices.Sort(deps)
		deps = slices.Compact(deps)
		for _, l := range layers {
			if !within(p.ImportPath, module+"/"+l.folder) {
				continue
			}
			for _, dep := range deps {
				if why := l.fault(dep); why != "" {
					faults = append(faults, fmt.Sprintf("%s depends on %s: %s", p.ImportPath, dep, why))
				}
			}
		}
		for _, dep := range deps {
			if within(dep, module+"/cmd") && !within(p.ImportPath, module+"/cmd") {
				faults = append(faults, fmt.Sprintf("%s depends on %s: cmd is imported by nobody", p.ImportPath, dep))
			}
		}
		for _, dep := range p.Deps {
			if within(dep, testkit) && !within(p.ImportPath, testkit) {
				faults = append(faults, fmt.Sprintf("%s depends on %s: only tests import it", p.ImportPath, dep))
			}
		}
	}
	return faults
}

// fault says why the layer may not depend on dep, or nothing.
func (l layer) fault(dep string) string {
	for folder, why := range l.never {
		if within(dep, folder) {
			return why
		}
	}
	if first, _, _ := strings.Cut(dep, "/"); l.std && strings.Contains(first, ".") {
		return l.folder + " depends on the standard library only"
	}
	if !within(dep, module) || within(dep, module+"/cmd") || within(dep, testkit) || within(dep, module+"/"+l.folder) {
		return ""
	}
	for _, folder := range l.ours {
		if within(dep, module+"/"+folder) {
			return ""
		}
	}
	if len(l.ours) == 0 {
		return l.folder + " imports nothing of ours"
	}
	return l.folder + " may import only " + strings.Join(l.ours, " and ")
}

func TestLayers(t *testing.T) {
	for _, fault := range layerFaults(packages(t), layers) {
		t.Error(fault)
	}
}

// TestLayersRefuses is the proof that TestLayers can fail: each forged package breaks one rule, and the last ones break none.
func TestLayersRefuses(t *testing.T) {
	forged := []pkg{
		{ImportPath: "machineid/shared/clock", Deps: []string{"time", "machineid/edge"}},
		{ImportPath: "machineid/shared/link", Deps: []string{"github.com/cockroachdb/pebble/v2/vfs"}},
		{ImportPath: "machineid/raftstore", Deps: []string{"github.com/hashicorp/raft", "machineid/shared/clock"}},
		{ImportPath: "machineid/edge", Deps: []string{"machineid/authority/hub", "machineid/shared/link"}},
		{ImportPath: "machineid/edge/cache", Deps: []string{"github.com/hashicorp/raft"}},
		{ImportPath: "machineid/edge/link", XTestImports: []string{"machineid/raftstore"}},
		{ImportPath: "machineid/authority/hub", Deps: []string{"machineid/edge", "machineid/shared/link"}},
		{ImportPath: "machineid/authority/state", Deps: []string{"machineid/authority/api"}},
		{ImportPath: "machineid/authority/state/statepb", TestImports: []string{"machineid/authority/hub"}},
		{ImportPath: "machineid/bench/load", Deps: []string{"machineid/bench/report", "machineid/edge/link", "machineid/shared/wire"}},
		{ImportPath: "machineid/bench", Deps: []string{"machineid/cmd/machineid/cli/config"}},
		{ImportPath: "machineid/sdk/go", Deps: []string{"machineid/shared/orgkey", "net/http", "vendor/golang.org/x/net/idna"}, TestImports: []string{"github.com/google/go-cmp/cmp"}},
		{ImportPath: "machineid/cmd/machineid", Deps: []string{"github.com/getkin/kin-openapi/openapi3", "machineid/shared/openapi"}},
		{ImportPath: "machineid/edge", Deps: []string{"machineid/internal/testkit/bubble"}},

		{ImportPath: "machineid/edge", Deps: []string{"machineid/edge/link", "machineid/shared/link"}},
		{ImportPath: "machineid/raftstore", XTestImports: []string{"machineid/internal/testkit/bubble"}},
		{ImportPath: "machineid/edgeless", Deps: []string{"machineid/raftstore"}},
		{ImportPath: "machineid/authority", Deps: []string{"machineid/authority/api", "machineid/raftstore", "net/http"}},
		{ImportPath: "machineid/cmd/machineid", Deps: []string{"machineid/authority", "machineid/cmd/machineid/cli/config", "machineid/edge"}},
	}
	want := []string{
		"machineid/shared/clock depends on machineid/edge: shared imports nothing of ours",
		"machineid/shared/link depends on github.com/cockroachdb/pebble/v2/vfs: shared knows no storage",
		"machineid/raftstore depends on machineid/shared/clock: raftstore may import only shared/search",
		"machineid/edge depends on machineid/authority/hub: edge may import only shared",
		"machineid/edge/cache depends on github.com/hashicorp/raft: the edge never sees Raft",
		"machineid/edge/link depends on machineid/raftstore: edge may import only shared",
		"machineid/authority/hub depends on machineid/edge: authority may import only raftstore and shared",
		"machineid/authority/state depends on machineid/authority/api: authority/state may import only raftstore and shared",
		"machineid/authority/state/statepb depends on machineid/authority/hub: authority/state may import only raftstore and shared",
		"machineid/bench/load depends on machineid/edge/link: bench/load may import only bench/report and shared",
		"machineid/bench depends on machineid/cmd/machineid/cli/config: cmd is imported by nobody",
		"machineid/sdk/go depends on github.com/google/go-cmp/cmp: sdk depends on the standard library only",
		"machineid/sdk/go depends on machineid/shared/orgkey: sdk imports nothing of ours",
		"machineid/cmd/machineid depends on github.com/getkin/kin-openapi/openapi3: the validator of OpenAPI is for tests: import shared/openapi, not its contract",
		"machineid/edge depends on machineid/internal/testkit/bubble: only tests import it",
	}
	if diff := cmp.Diff(want, layerFaults(forged, layers)); diff != "" {
		t.Errorf("faults found (-want +got):\n%s", diff)
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment: say what it guarantees", p.ImportPath)
		}
	}
}

// packages lists every package of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e",
		"-json=ImportPath,Doc,GoFiles,Deps,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatalf("list the packages: %v\n%s", err, stderr(err))
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// topFolders are those of DESIGN.md, Folders, and who may import whom. Folders that begin with a dot belong to tools.
var topFolders = []string{"authority", "bench", "cmd", "deploy", "docs", "edge", "internal", "raftstore", "sdk", "shared"}

func TestTopFolders(t *testing.T) {
	for _, file := range files(t) {
		top, _, nested := strings.Cut(file, "/")
		if nested && !strings.HasPrefix(top, ".") && !slices.Contains(topFolders, top) {
			t.Errorf("%s: %s is no top folder of the design (%s)", file, top, strings.Join(topFolders, ", "))
		}
	}
}

// maxLines is where a file should have been looked at for its second concern. Long files that are right as they are go into
// longFiles with the reason.
const maxLines = 700

var longFiles = map[string]string{}

// source are the endings of the files that people write and read; data and golden files may be as long as they need.
var source = []string{".css", ".go", ".html", ".js", ".md", ".proto", ".py", ".sh", ".ts"}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFilesAreShort(t *testing.T) {
	excused := map[string]bool{}
	for _, file := range files(t) {
		if !slices.Contains(source, path.Ext(file)) {
			continue
		}
		text := read(t, file)
		lines := bytes.Count(text, []byte("\n"))
		if lines <= maxLines || generated.Match(text) {
			continue
		}
		if longFiles[file] != "" {
			excused[file] = true
			continue
		}
		t.Errorf("%s has %d lines, more than %d: look for the second concern in it", file, lines, maxLines)
	}
	for file := range longFiles {
		if !excused[file] {
			t.Errorf("longFiles: %s needs no exception any more", file)
		}
	}
}

func TestReadmeIsShort(t *testing.T) {
	if lines := bytes.Count(read(t, "README.md"), []byte("\n")); lines > 150 {
		t.Errorf("README.md has %d lines, more than 150: move details into docs/", lines)
	}
}

// machinePath finds the absolute path of somebody's own machine, which means nothing to anybody else. Those in containers and
// in examples go into machinePaths with the reason.
var machinePath = regexp.MustCompile(`(?m)(?:^|[\s"'` + "`" + `=:(,])/(?:` + strings.Join([]string{"root", "work", "Users", "home"}, "|") + `)/[\w.-]+`)

var machinePaths = map[string]string{}

// TestVirtualTimeIsEnteredByBubble: testing/synctest itself can end a process under the race detector; package bubble says why.
func TestVirtualTimeIsEnteredByBubble(t *testing.T) {
	const enter = "synctest" + ".Test("
	for _, file := range files(t) {
		if !strings.HasPrefix(file, "internal/testkit/bubble/") && bytes.Contains(read(t, file), []byte(enter)) {
			t.Errorf("%s enters virtual time by %s): call bubble.Test of internal/testkit/bubble", file, enter)
		}
	}
}

func TestNoMachinePaths(t *testing.T) {
	for _, file := range files(t) {
		text := read(t, file)
		if machinePaths[file] != "" || bytes.IndexByte(text, 0) >= 0 {
			continue
		}
		if found := machinePath.Find(text); found != nil {
			t.Errorf("%s names %s, a path of one machine", file, bytes.TrimSpace(found))
		}
	}
}

func TestMachinePathRefuses(t *testing.T) {
	for text, want := range map[string]bool{
		"cd /" + "root/machineid":                       true,
		"log in `/" + "work/main/x.log`":                true,
		"PATH=/" + "home/ann/go/bin":                    true,
		"file:/" + "Users/ann/x":                        true,
		"/var/lib/machineid":                            false,
		"docs/root/x and worker/prod/" + "work/x":       false,
		"https://example.com/" + "home/page and a/work": false,
	} {
		if got := machinePath.MatchString(text); got != want {
			t.Errorf("machinePath matches %q: %v, want %v", text, got, want)
		}
	}
}

// raceFree marks files that are left out under the race detector, and allocTest the tests that are then run without it.
var (
	raceFree  = regexp.MustCompile(`(?m)^//go:build !race$`)
	allocTest = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// TestNoTestIsForgotten holds the agreement with the Makefile: `make test-race` runs everything under the race detector, and what is
// built only without it by the name TestAlloc*.
func TestNoTestIsForgotten(t *testing.T) {
	for _, file := range files(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		text := read(t, file)
		if !raceFree.Match(text) {
			continue
		}
		for _, name := range allocTest.FindAllSubmatch(text, -1) {
			if !bytes.HasPrefix(name[1], []byte("TestAlloc")) {
				t.Errorf("%s: %s is built without the race detector only; name it TestAlloc..., or make test-race never runs it", file, name[1])
			}
		}
	}
}

// TestFramesAreSentInOnePlace: at either end of the link no frame goes around tell, which holds back what the other end may not know.
func TestFramesAreSentInOnePlace(t *testing.T) {
	places := map[string]int{}
	for _, file := range files(t) {
		if folder := path.Dir(file); folder != "edge" && folder != "authority/hub" || strings.HasSuffix(file, "_test.go") || path.Ext(file) != ".go" {
			continue
		}
		if n := bytes.Count(read(t, file), []byte(".Send(")); n > 0 {
			places[file] = n
		}
	}
	if diff := cmp.Diff(map[string]int{"edge/formats.go": 1, "authority/hub/formats.go": 1}, places); diff != "" {
		t.Errorf("frames are sent elsewhere than in tell (-want +got):\n%s", diff)
	}
}

// files lists what is in the repository or would be by the next commit.
func files(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("list the repository's files: %v (this test needs a git checkout): %s", err, stderr(err))
	}
	var list []string
	for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() {
			list = append(list, file)
		}
	}
	return list
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// stderr is what a failed command said.
func stderr(err error) []byte {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return bytes.TrimSpace(exit.Stderr)
	}
	return nil
}
