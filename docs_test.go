package house

import (
	"bytes"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the documents say of this repository is compared with it. What they say of the program is compared beside it: commands, flags and shown answers in cmd/machineid/cli,
// metrics and alerts in deploy, formats in authority, codes in shared/openapi/contract.

// documents are what people read.
func documents(t *testing.T) (list []string) {
	t.Helper()
	for _, file := range files(t) {
		if path.Ext(file) == ".md" {
			list = append(list, file)
		}
	}
	if len(list) < 20 {
		t.Fatalf("%d documents", len(list))
	}
	return list
}

var (
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)
	quoted   = regexp.MustCompile("`[^`\n]+`")
	isTest   = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark)[A-Z]\w*$`)
	runs     = regexp.MustCompile(`go test ([^` + "`" + `|\n]*)`)
)

// testsOf are the names of tests, by their package's folder.
func testsOf(t *testing.T) map[string][]string {
	t.Helper()
	list := map[string][]string{}
	for _, file := range files(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range testFunc.FindAllSubmatch(read(t, file), -1) {
			list[path.Dir(file)] = append(list[path.Dir(file)], string(m[1]))
		}
	}
	return list
}

// namedTests calls f with each test that a line of a document names, and the package that it names before, "" if none.
func namedTests(line string, tests map[string][]string, f func(folder, name string)) {
	folder := ""
	for _, q := range quoted.FindAllString(line, -1) {
		q = strings.Trim(q, "`")
		if tests[q] != nil {
			folder = q
		} else if isTest.MatchString(q) {
			f(folder, q)
		}
	}
}

// TestNamedTestsExist: who reads which test holds a claim finds it there.
func TestNamedTestsExist(t *testing.T) {
	tests, named := testsOf(t), 0
	faults := func(file, text string) (list []string) {
		for line := range strings.Lines(text) {
			namedTests(line, tests, func(folder, name string) {
				named++
				in := folder
				if folder == "" {
					in = path.Dir(file) // or below
				}
				for f, names := range tests {
					if (f == in || folder == "" && (in == "." || f == "." || within(f, in))) && slices.Contains(names, name) {
						return
					}
				}
				list = append(list, name+" is not in "+in)
			})
			for _, m := range runs.FindAllStringSubmatch(line, -1) {
				if why := runsNothing(m[1], tests); why != "" {
					list = append(list, why)
				}
			}
		}
		return list
	}
	for _, file := range documents(t) {
		for _, fault := range faults(file, string(read(t, file))) {
			t.Errorf("%s: %s", file, fault)
		}
	}
	if named < 500 {
		t.Errorf("%d tests are named", named)
	}
	forged := "| `edge`: `TestThereIsNone` | `go test ./edge -run ThereIsNone`, `go test ./none -run X` |"
	if got := faults("docs/x.md", forged); len(got) != 3 {
		t.Errorf("of three faults %q are found", got)
	}
}

// runsNothing says why the arguments of a go test run no test.
func runsNothing(args string, tests map[string][]string) string {
	var folder, pattern string
	words := strings.Fields(args)
	for i, w := range words {
		switch {
		case strings.HasPrefix(w, "./"):
			folder = strings.TrimSuffix(strings.TrimPrefix(w, "./"), "/")
		case (w == "-run" || w == "-bench") && i+1 < len(words) && strings.Trim(words[i+1], "'") != "^$":
			pattern = strings.Trim(words[i+1], "'")
		}
	}
	if folder == "" || folder == "..." || folder == "PACKAGE" || pattern == "" || pattern == "NAME" {
		return ""
	}
	if tests[folder] == nil {
		return folder + " has no tests"
	}
	pattern, _, _ = strings.Cut(pattern, "/") // what is behind selects in a test
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err.Error()
	}
	for _, name := range tests[folder] {
		if re.MatchString(name) || re.MatchString(strings.TrimPrefix(name, "Benchmark")) {
			return ""
		}
	}
	return "go test " + args + " runs nothing"
}

var (
	target   = regexp.MustCompile(`(?m)^([a-z-]+):`)
	makes    = regexp.MustCompile("(?:`|\n(?:\\$ )?)(?:[A-Z_]+=\\S+ )*make ([a-z-]+)[^`\n]*`?")
	link     = regexp.MustCompile(`\]\(([^()\s]*)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	fences   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// TestNamedTargetsExist: what is typed after make is in the Makefile.
func TestNamedTargetsExist(t *testing.T) {
	var targets []string
	for _, m := range target.FindAllSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, string(m[1]))
	}
	named := 0
	for _, file := range documents(t) {
		for _, m := range makes.FindAllSubmatch(read(t, file), -1) {
			named++
			if !slices.Contains(targets, string(m[1])) {
				t.Errorf("%s names make %s, which the Makefile does not know", file, m[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("%d targets are named", named)
	}
}

// anchors are those of a document's headings, as GitHub makes them.
func anchors(text []byte) map[string]bool {
	list := map[string]bool{}
	for _, m := range heading.FindAllSubmatch(fences.ReplaceAll(text, nil), -1) {
		name := strings.ToLower(noAnchor.ReplaceAllString(string(m[1]), ""))
		list[strings.ReplaceAll(strings.TrimSpace(name), " ", "-")] = true
	}
	return list
}

// TestLinksLead: to a file that is there, and a headline in it.
func TestLinksLead(t *testing.T) {
	links := 0
	for _, file := range documents(t) {
		for _, m := range link.FindAllSubmatch(fences.ReplaceAll(read(t, file), nil), -1) {
			to, anchor, _ := strings.Cut(string(m[1]), "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			links++
			at := file
			if to != "" {
				at = path.Join(path.Dir(file), to)
			}
			if _, err := os.Stat(at); err != nil {
				t.Errorf("%s leads to %s: %v", file, m[1], err)
			} else if anchor != "" && !anchors(read(t, at))[anchor] {
				t.Errorf("%s leads to %s, and there is no such headline", file, m[1])
			}
		}
	}
	if links < 100 {
		t.Errorf("%d links", links)
	}
}

// action is how the audit names what was done.
var action = regexp.MustCompile(`^(?:org|key|device|devices|plans|operator|cluster|billing)\.[a-z]+(?:_[a-z]+)*$`)

// TestActionsOfTheAudit: the tables of docs/api.md have each action that the program writes, and no other.
func TestActionsOfTheAudit(t *testing.T) {
	written := map[string]bool{}
	literal := regexp.MustCompile(`"[a-z._]+"`)
	for _, file := range files(t) {
		if !strings.HasPrefix(file, "authority/") || path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range literal.FindAll(read(t, file), -1) {
			if name := strings.Trim(string(m), `"`); action.MatchString(name) {
				written[name] = true
			}
		}
	}
	_, section, found := bytes.Cut(read(t, "docs/api.md"), []byte("\n## Audit\n"))
	if !found {
		t.Fatal("docs/api.md has no section of the audit")
	}
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	told, mentioned := map[string]bool{}, string(section)
	_, tables, _ := bytes.Cut(section, []byte("\n| actions | |\n"))
	for line := range bytes.Lines(tables) {
		first, _, isRow := bytes.Cut(bytes.TrimPrefix(line, []byte("| ")), []byte(" | "))
		if !bytes.HasPrefix(line, []byte("| ")) || !isRow {
			continue
		}
		last := ""
		for _, q := range quoted.FindAllString(string(first), -1) {
			name := strings.Trim(q, "`")
			if rest, short := strings.CutPrefix(name, "..."); short {
				name = last[:strings.LastIndex(last, "_")] + rest
			}
			told[name], last = true, name
		}
	}
	if len(told) < 30 {
		t.Fatalf("%d actions are told of", len(told))
	}
	for name := range written {
		if !told[name] && !strings.Contains(mentioned, "`"+name+"`") { // one of before
			t.Errorf("docs/api.md does not tell of %s", name)
		}
	}
	for name := range told {
		if !written[name] {
			t.Errorf("docs/api.md tells of %s, which nothing writes", name)
		}
	}
}
