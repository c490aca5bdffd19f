package house

import (
	"fmt"
	"go/scanner"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a comment or a page cites must be there: pages, their sections, rules, tests and files. Whoever renames or moves one is told here who
// still names it. Links of pages, what they type, and in which package their tests are, is compared in docs_test.go.

// rulesOf are the pages that number rules, by the letter that their rules begin with.
var rulesOf = map[string]string{
	"A": "authority/api/DESIGN.md",
	"B": "authority/billing/DESIGN.md",
	"C": "sdk/DESIGN.md",
	"F": "authority/api/DESIGN.md",
	"I": "DESIGN.md",
	"L": "bench/load/DESIGN.md",
	"O": "shared/openapi/DESIGN.md",
	"R": "raftstore/DESIGN.md",
	"S": "authority/state/DESIGN.md",
	"W": "shared/wire/DESIGN.md",
}

// elsewhere are names that are not ours, or that are made when they are wanted.
var elsewhere = map[string]string{
	"api.d.ts":              "what a command makes",
	"docs/x.md":             "forged by TestNamedTestsExist",
	"db.go":                 "Pebble's",
	"openfga_service.proto": "OpenFGA's",
	"record/record.go":      "Pebble's",
	"rpc.proto":             "etcd's",
	"run.html":              "what a command makes",
}

// library is what can be cited.
type library struct {
	files    map[string]bool            // and folders
	headings map[string][]string        // of each page
	anchors  map[string]map[string]bool // of each page
	leadIns  map[string][]string        // paragraphs and items that begin with their name in bold
	rules    map[string]bool            // I1, I1.1, ...
	tests    map[string]map[string]bool // of each folder
	excused  map[string]bool            // which of elsewhere were needed
}

var (
	leadIn    = regexp.MustCompile(`(?m)^(?:- )?\*\*([^*]+?)\.?\*\*`)
	numbered  = regexp.MustCompile(`\*\*([A-Z]\d+)[ *]`)
	ruleTitle = regexp.MustCompile(`^### (I\d+) `)
	ruleItem  = regexp.MustCompile(`^(\d+)\. `)
)

func newLibrary(list []string, text func(file string) string) *library {
	l := &library{
		files: map[string]bool{}, headings: map[string][]string{}, anchors: map[string]map[string]bool{}, leadIns: map[string][]string{}, rules: map[string]bool{},
		tests: map[string]map[string]bool{}, excused: map[string]bool{},
	}
	for _, file := range list {
		for name := file; name != "."; name = path.Dir(name) {
			l.files[name] = true
		}
		switch {
		case path.Ext(file) == ".md":
			l.anchors[file] = anchors([]byte(text(file)))
			for _, m := range heading.FindAllStringSubmatch(text(file), -1) {
				l.headings[file] = append(l.headings[file], m[1])
			}
			for _, m := range leadIn.FindAllStringSubmatch(text(file), -1) {
				l.leadIns[file] = append(l.leadIns[file], m[1])
			}
		case strings.HasSuffix(file, "_test.go"):
			folder := path.Dir(file)
			if l.tests[folder] == nil {
				l.tests[folder] = map[string]bool{}
			}
			for _, m := range testFunc.FindAllStringSubmatch(text(file), -1) {
				l.tests[folder][m[1]] = true
			}
		}
	}
	for letter, page := range rulesOf {
		if l.files[page] {
			l.number(letter, text(page))
		}
	}
	return l
}

// number notes the rules of a page.
func (l *library) number(letter, page string) {
	for _, m := range numbered.FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(m[1], letter) {
			l.rules[m[1]] = true
		}
	}
	rule := ""
	for line := range strings.SplitSeq(page, "\n") {
		if m := ruleTitle.FindStringSubmatch(line); m != nil {
			rule = m[1]
			l.rules[rule] = true
		} else if strings.HasPrefix(line, "#") {
			rule = ""
		} else if m := ruleItem.FindStringSubmatch(line); m != nil && rule != "" {
			l.rules[rule+"."+m[1]] = true
		}
	}
}

// passage is a comment, a paragraph or a text of a program, in one line.
type passage struct {
	line   int
	text   string
	quoted bool // a text of a program
}

var citing = []string{".go", ".md", ".proto", ".py", ".sh", ".toml", ".ts", ".yaml", ".yml"}

// passagesOf are where a file may cite.
func passagesOf(file, text string) []passage {
	if path.Ext(file) == ".go" {
		return comments(text)
	}
	var list []passage
	begin, lines := 0, strings.Split(text, "\n")
	for i, line := range lines {
		if mark := remark[path.Ext(file)]; mark != nil {
			line = mark.FindString(line)
			lines[i] = line
		}
		if strings.TrimSpace(line) != "" && i < len(lines)-1 {
			continue
		}
		if part := strings.Join(lines[begin:i+1], " "); strings.TrimSpace(part) != "" {
			list = append(list, passage{line: begin + 1, text: part})
		}
		begin = i + 1
	}
	return list
}

// remark finds what of a line is a comment, where not all of a file is read by people.
var remark = map[string]*regexp.Regexp{"": hash, ".py": regexp.MustCompile(`(?:#|""").*`), ".sh": hash, ".toml": hash, ".yaml": hash, ".yml": hash}

var hash = regexp.MustCompile(`(?:^|\s)#.*`)

// comments are those of a Go file, those in lines that follow each other as one, and its texts.
func comments(text string) (list []passage) {
	var s scanner.Scanner
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(text))
	s.Init(file, []byte(text), nil, scanner.ScanComments)
	last := -1
	for {
		pos, tok, lit := s.Scan()
		line := file.Line(pos)
		switch tok {
		case token.EOF:
			return list
		case token.STRING:
			list = append(list, passage{line, strings.Trim(lit, "\"`"), true})
		case token.COMMENT:
			said := strings.Join(strings.Fields(strings.Trim(lit, "/*")), " ")
			if n := len(list) - 1; n >= 0 && !list[n].quoted && last == line-1 {
				list[n].text += " " + said
			} else {
				list = append(list, passage{line: line, text: said})
			}
			last = line + strings.Count(lit, "\n")
		default: // code
		}
	}
}

var (
	pageName = regexp.MustCompile(`(?:[\w.-]+/)*[\w-]+\.md\b`)
	anchored = regexp.MustCompile(`\b(docs/[\w-]+\.md)(?:#([\w-]+))?`)
	ruleName = regexp.MustCompile(`\b[A-Z]\d{1,2}(?:\.\d+)?\b`)
	testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*(?:\*|\.\.\.)?`)
	judgedBy = regexp.MustCompile(`^([a-z][\w/]*) (Test\w+)$`)
	fileName = regexp.MustCompile(`(?:[\w.-]+/)*[\w*.-]+\.(?:go|proto|py|sh|ts|html|yml|yaml|toml|txtar|service|timer)\b`)
	section  = regexp.MustCompile(`^(?: of the project)?, ([A-Z][^,.;:)]*)`)
)

// faults are what a passage of a file cites and the library has not.
func (l *library) faults(file string, p passage) (list []string) {
	say := func(form string, args ...any) {
		list = append(list, fmt.Sprintf("%s:%d: ", file, p.line)+fmt.Sprintf(form, args...))
	}
	if p.quoted {
		if m := judgedBy.FindStringSubmatch(p.text); m != nil && l.files[m[1]] && !l.tests[m[1]][m[2]] {
			say("%s has no test %s", m[1], m[2])
		}
	}
	for _, m := range anchored.FindAllStringSubmatch(p.text, -1) {
		if !l.files[m[1]] && !l.excuses(m[1]) {
			say("there is no page %s", m[1])
		} else if m[2] != "" && !l.anchors[m[1]][m[2]] {
			say("%s has no section #%s", m[1], m[2])
		}
	}
	if p.quoted {
		return list
	}
	for _, at := range pageName.FindAllStringIndex(p.text, -1) {
		l.page(file, p.text, at, say)
	}
	for _, at := range ruleName.FindAllStringIndex(p.text, -1) {
		rule := p.text[at[0]:at[1]]
		if rulesOf[rule[:1]] == "" || at[0] > 0 && strings.ContainsRune("./-#_`'\"=", rune(p.text[at[0]-1])) || l.rules[rule] {
			continue
		}
		say("there is no rule %s in %s", rule, rulesOf[rule[:1]])
	}
	for _, name := range testName.FindAllString(runs.ReplaceAllString(p.text, ""), -1) {
		if !l.hasTest(name) && !l.excuses(name) {
			say("there is no test %s", name)
		}
	}
	for _, at := range fileName.FindAllStringIndex(p.text, -1) {
		name := p.text[at[0]:at[1]]
		if strings.HasSuffix(p.text[:at[0]], "/") || l.hasFile(file, name) || l.excuses(name) {
			continue
		}
		say("there is no file %s", name)
	}
	return list
}

// page judges the name of a page that stands at a place in text, and the section or rule that is named behind it.
func (l *library) page(file, text string, at []int, say func(string, ...any)) {
	name, behind := text[at[0]:at[1]], text[at[1]:]
	if strings.HasSuffix(text[:at[0]], "/") {
		return // a part of an address
	}
	page := ""
	if !strings.HasPrefix(behind, " of the project") {
		for dir := path.Dir(file); dir != "." && page == ""; dir = path.Dir(dir) { // the nearest is meant
			if near := path.Join(dir, name); l.files[near] {
				page = near
			}
		}
	}
	if page == "" && l.files[name] {
		page = name
	}
	if page == "" {
		say("there is no page %s", name)
		return
	}
	m := section.FindStringSubmatch(behind)
	if m == nil || ruleName.MatchString(m[1]) {
		return
	}
	for _, title := range slices.Concat(l.headings[page], l.leadIns[page]) {
		if strings.HasPrefix(strings.TrimPrefix(behind, " of the project"), ", "+title) {
			return
		}
	}
	say("%s has no section %q", page, m[1])
}

// hasTest reports whether a test has this name, or begins with it if it ends with * or dots.
func (l *library) hasTest(name string) bool {
	begin, found := strings.CutSuffix(strings.TrimSuffix(name, "..."), "*")
	found = found || strings.HasSuffix(name, "...")
	for _, tests := range l.tests {
		if tests[name] {
			return true
		}
		if found && slices.ContainsFunc(slices.Collect(maps.Keys(tests)), func(test string) bool { return strings.HasPrefix(test, begin) }) {
			return true
		}
	}
	return false
}

// excuses reports whether a name is not ours.
func (l *library) excuses(name string) bool {
	if elsewhere[name] == "" {
		return false
	}
	l.excused[name] = true
	return true
}

// hasFile reports whether there is a file of this name: beside the one that names it, from the root, or by the end of its path.
func (l *library) hasFile(file, name string) bool {
	if l.files[path.Join(path.Dir(file), name)] || l.files[name] {
		return true
	}
	for other := range l.files {
		if strings.HasSuffix(other, "/"+name) {
			return true
		}
		if ok, _ := path.Match(path.Base(name), path.Base(other)); ok && strings.Contains(name, "*") {
			return true
		}
	}
	return false
}

func TestWhatIsCitedIsThere(t *testing.T) {
	list := files(t)
	l := newLibrary(list, func(file string) string { return string(read(t, file)) })
	for _, file := range list {
		if !slices.Contains(citing, path.Ext(file)) && file != "Makefile" || file == "CHANGELOG.md" || file == "citations_test.go" {
			continue // a changelog names what was
		}
		text := string(read(t, file))
		if generated.MatchString(text) {
			continue
		}
		for _, p := range passagesOf(file, text) {
			for _, fault := range l.faults(file, p) {
				t.Error(fault)
			}
		}
	}
	for name := range elsewhere {
		if !l.excused[name] {
			t.Errorf("elsewhere: %s needs no exception any more", name)
		}
	}
}

// TestWhatIsCitedRefuses is the proof that TestWhatIsCitedIsThere can fail: each line of these files cites what is not there, but for those
// that end with "is".
func TestWhatIsCitedRefuses(t *testing.T) {
	forged := map[string]string{
		"DESIGN.md": `# The design

## The link

### I1 Lease

1. Proven.
2. Booked.

See hub/DESIGN.md and TestFloor
`,
		"raftstore/DESIGN.md": `# raftstore

- **R1 Log before state.** Why.

**Clocks.** Why.
`,
		"raftstore/store.go": `package raftstore

// R1 and I1.2 (DESIGN.md, Clocks) is
var a int

// R2
var b int

// I1.3
var c int

// DESIGN.md, The link
var d int
`,
		"edge/DESIGN.md": `# edge

## A request
`,
		"edge/edge.go": `package edge

// DESIGN.md of the project, The link; S1 is a rule of a page that is not there, and
// HOUSE.md is no page.
var a int

// link.go is no file, edge.go is
var b = "docs/api.md#errors"

var c = "I9, TestNothing and HOUSE.md" // is

var d = "edge TestFloor"
`,
		"edge/lease_test.go": `package edge

// TestLease* and TestLe... is
func TestLease(t *testing.T) {}

// TestLe is no test
var a int
`,
	}
	list := slices.Sorted(maps.Keys(forged))
	l := newLibrary(list, func(file string) string { return forged[file] })
	var got []string
	for _, file := range list {
		for _, p := range passagesOf(file, forged[file]) {
			got = append(got, l.faults(file, p)...)
		}
	}
	want := []string{
		"DESIGN.md:10: there is no page hub/DESIGN.md",
		"DESIGN.md:10: there is no test TestFloor",
		"edge/edge.go:3: there is no page HOUSE.md",
		"edge/edge.go:3: there is no rule S1 in authority/state/DESIGN.md",
		"edge/edge.go:7: there is no file link.go",
		"edge/edge.go:8: there is no page docs/api.md",
		"edge/edge.go:12: edge has no test TestFloor",
		"edge/lease_test.go:6: there is no test TestLe",
		"raftstore/store.go:6: there is no rule R2 in raftstore/DESIGN.md",
		"raftstore/store.go:9: there is no rule I1.3 in DESIGN.md",
		"raftstore/store.go:12: raftstore/DESIGN.md has no section \"The link\"",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults found (-want +got):\n%s", diff)
	}
}
