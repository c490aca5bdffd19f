package main

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// nolint is one comment: `//nolint:errcheck,nilerr // why`.
var nolint = regexp.MustCompile(`^//nolint(?::([\w,]+))?(?:\s+//\s*(\S.*))?`)

// routine is whose error is nobody's to handle: what ends with the process, or prints for a person.
var routine = regexp.MustCompile(`\b(Close|Flush|Remove|RemoveAll|Setenv|Unsetenv|Printf?|Println|Fprintf?|Fprintln)\(`)

// place is a line of a file.
type place struct {
	file string
	line int
}

// withReasons has each analyzer pass over generated files, over what is routine, and over lines with a reason.
func withReasons(analyzers ...*analysis.Analyzer) []*analysis.Analyzer {
	names := make([]string, len(analyzers))
	for i, a := range analyzers {
		names[i] = a.Name
	}
	for i, a := range analyzers {
		run, first := a.Run, i == 0
		a.Run = func(pass *analysis.Pass) (any, error) {
			excused := map[place]*ast.Comment{}
			generated := map[string]bool{}
			for _, f := range pass.Files {
				generated[pass.Fset.Position(f.Pos()).Filename] = ast.IsGenerated(f)
				for _, group := range f.Comments {
					for _, c := range group.List {
						m := nolint.FindStringSubmatch(c.Text)
						if m == nil {
							continue
						}
						if first {
							faults(pass, c.Pos(), m, names)
						}
						if slices.Contains(strings.Split(m[1], ","), a.Name) {
							p := pass.Fset.Position(c.Pos())
							excused[place{p.Filename, p.Line}] = c
						}
					}
				}
			}
			used, lines := map[*ast.Comment]bool{}, map[string][]string{}
			report := pass.Report
			judged := *pass
			judged.Report = func(d analysis.Diagnostic) {
				p := pass.Fset.Position(d.Pos)
				c := excused[place{p.Filename, p.Line}]
				switch {
				case c != nil:
					used[c] = true
				case generated[p.Filename]:
				case a.Name == "errcheck" && routine.MatchString(line(pass, lines, p)):
				default:
					report(d)
				}
			}
			result, err := run(&judged)
			for _, c := range excused {
				if err == nil && !used[c] {
					pass.Reportf(c.Pos(), "nolint: %s has nothing to say of this line: take its name away", a.Name)
				}
			}
			return result, err
		}
	}
	return analyzers
}

// faults says what is wrong with the comment itself.
func faults(pass *analysis.Pass, at token.Pos, m, names []string) {
	if m[2] == "" {
		pass.Reportf(at, "nolint: say why: //nolint:NAME // why")
	}
	for name := range strings.SplitSeq(m[1], ",") {
		if !slices.Contains(names, name) {
			pass.Reportf(at, "nolint: %q is no analyzer of lint: there are %s", name, strings.Join(names, ", "))
		}
	}
}

// line returns the text of p's line.
func line(pass *analysis.Pass, lines map[string][]string, p token.Position) string {
	if lines[p.Filename] == nil {
		text, err := pass.ReadFile(p.Filename)
		if err != nil {
			return ""
		}
		lines[p.Filename] = strings.Split(string(text), "\n")
	}
	if all := lines[p.Filename]; p.Line <= len(all) {
		return all[p.Line-1]
	}
	return ""
}
