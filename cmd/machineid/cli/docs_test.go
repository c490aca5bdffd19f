//go:build unix

package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What the documents say of the command line is held against it: flags and defaults, commands that are to be typed, rules that are broken on purpose. Exit codes are in
// exit_test.go, the README's walk in walk_test.go, shown answers in docs_answers_test.go.

// page is a document of this repository.
func page(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// section is what stands below a headline, until the next of its rank.
func section(tb testing.TB, text, headline string) string {
	tb.Helper()
	_, below, found := strings.Cut("\n"+text, "\n"+headline+"\n")
	if !found {
		tb.Fatalf("there is no %q", headline)
	}
	rank, _, _ := strings.Cut(headline, " ")
	below, _, _ = strings.Cut(below, "\n"+rank+" ")
	return below
}

// rows are the cells of the first table of a text that has this head.
func rows(tb testing.TB, text, head string) (list [][]string) {
	tb.Helper()
	_, table, found := strings.Cut(text, head+"\n|---")
	if !found {
		tb.Fatalf("there is no table %q", head)
	}
	_, table, _ = strings.Cut(table, "\n")
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "|"), " |"), " |")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		list = append(list, cells)
	}
	return list
}

var inBackticks = regexp.MustCompile("`([^`]+)`")

func quotedIn(cell string) (list []string) {
	for _, m := range inBackticks.FindAllStringSubmatch(cell, -1) {
		list = append(list, m[1])
	}
	return list
}

// flagsOfCommand are a command's own, but for help.
func flagsOfCommand(tb testing.TB, path string) map[string]*pflag.Flag {
	tb.Helper()
	list := map[string]*pflag.Flag{}
	everyCommand(func(cmd *cobra.Command) {
		if strings.Join(pathOf(cmd), " ") == path {
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Name != "help" {
					list[f.Name] = f
				}
			})
		}
	})
	if len(list) == 0 {
		tb.Fatalf("%s has no flags", path)
	}
	return list
}

// sameDefault reports whether a table's cell tells a flag's default.
func sameDefault(cell string, f *pflag.Flag) bool {
	want := f.DefValue
	if want == "" || want == "[]" {
		return cell == "none" || cell == "required" || cell == "see above" || cell == "Stripe's" || strings.HasPrefix(cell, "`--") || cell == ""
	}
	said := strings.Trim(cell, "`")
	if d, err := time.ParseDuration(said); err == nil && f.Value.Type() == "duration" {
		return d.String() == want
	}
	return said == strings.Trim(want, "[]")
}

// TestFlagsOfTheServers: docs/configuration.md has each flag of the servers with its variable and its default, and no other.
func TestFlagsOfTheServers(t *testing.T) {
	t.Parallel()
	const head = "| flag | environment | default | meaning |"
	text := page(t, "docs/configuration.md")
	every := rows(t, section(t, text, "## Every command"), head)
	for _, server := range servers {
		flags, told := flagsOfCommand(t, server), map[string]bool{}
		table := rows(t, section(t, text, "## machineid "+server), head)
		for i, row := range slices.Concat(table, every) {
			if len(row) != 4 {
				t.Errorf("%s: %q", server, row)
				continue
			}
			names, variables := quotedIn(row[0]), quotedIn(row[1])
			for n, name := range names {
				prefix, many := strings.CutSuffix(strings.TrimPrefix(name, "--"), "...")
				found := 0
				for _, f := range flags {
					if f.Name != prefix && (!many || !strings.HasPrefix(f.Name, prefix)) {
						continue
					}
					found++
					told[f.Name] = true
					variable := "MACHINEID_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
					if n < len(variables) && !many && variables[n] != variable {
						t.Errorf("%s --%s: its variable is %s, told is %s", server, f.Name, variable, variables[n])
					}
					cell := row[2]
					if usual, ofDev, two := strings.Cut(cell, "; `dev`: "); two { // a row for all servers
						cell = usual
						if server == "dev" {
							cell = ofDev
						}
					}
					if cell != "" && !sameDefault(cell, f) {
						t.Errorf("%s --%s: its default is %q, told is %s", server, f.Name, f.DefValue, cell)
					}
				}
				if found == 0 && i < len(table) {
					t.Errorf("%s has no flag %s", server, name)
				}
			}
		}
		for name := range flags {
			if !told[name] && name != "config" {
				t.Errorf("docs/configuration.md does not tell of %s --%s", server, name)
			}
		}
	}
}

// TestFlagsOfBench: the same of docs/bench.md. What depends on the scenario says so.
func TestFlagsOfBench(t *testing.T) {
	t.Parallel()
	all := map[string][]*pflag.Flag{}
	everyCommand(func(cmd *cobra.Command) {
		if path := pathOf(cmd); len(path) == 2 && path[0] == "bench" {
			cmd.Flags().VisitAll(func(f *pflag.Flag) { all[f.Name] = append(all[f.Name], f) })
		}
	})
	told := map[string]bool{"help": true, "config": true}
	for _, row := range rows(t, page(t, "docs/bench.md"), "| flag | default | meaning |") {
		names, defaults := quotedIn(row[0]), strings.Split(row[1], ", ")
		for i, name := range names {
			name = strings.TrimPrefix(name, "--")
			told[name] = true
			if len(all[name]) == 0 {
				t.Errorf("bench has no --%s", name)
				continue
			}
			if row[1] == "by scenario" || row[1] == "see above" {
				continue
			}
			if len(defaults) != len(names) {
				t.Errorf("--%s: %d flags, %d defaults", name, len(names), len(defaults))
				continue
			}
			for _, f := range all[name] {
				if !sameDefault(defaults[i], f) {
					t.Errorf("bench --%s: its default is %q, told is %s", name, f.DefValue, defaults[i])
				}
			}
		}
	}
	for name := range all {
		if !told[name] {
			t.Errorf("docs/bench.md does not tell of --%s", name)
		}
	}
}

// TestVariablesThatAreNoFlags: docs/configuration.md has each, and what it has is taken.
func TestVariablesThatAreNoFlags(t *testing.T) {
	t.Parallel()
	var told []string
	for _, row := range rows(t, page(t, "docs/configuration.md"), "| variable | read by | meaning |") {
		told = append(told, quotedIn(row[0])...)
	}
	want := []string{operatorTokenEnv, stripeKeyEnv, stripeWebhookEnv, smtpPasswordEnv, "MACHINEID_ORG_KEY", "MACHINEID_BASE_URL", "MACHINEID_TEST_..."}
	slices.Sort(told)
	slices.Sort(want)
	if !slices.Equal(told, want) {
		t.Errorf("docs/configuration.md tells of %q, the program knows %q", told, want)
	}
	for _, name := range append(told, "MACHINEID_NO_SUCH") {
		var out, said bytes.Buffer
		run([]string{"edge", "--cache-entries", "many"}, append(bareEnviron(), strings.ReplaceAll(name, "...", "X")+"=x"), &out, &said)
		if unknown := strings.Contains(said.String(), "no such setting"); unknown != (name == "MACHINEID_NO_SUCH") || !strings.Contains(said.String(), "many") {
			t.Errorf("%s: %s", name, said.String())
		}
	}
}

// documentsOfCommands are those whose readers type what they show.
func documentsOfCommands(tb testing.TB) []string {
	tb.Helper()
	list, err := filepath.Glob("../../../docs/*.md")
	if err != nil || len(list) < 10 {
		tb.Fatal(list, err)
	}
	return append(list, "../../../README.md", "../../../CONTRIBUTING.md", "../../../deploy/README.md", "../../../SECURITY.md")
}

// TestCommandsInDocumentsExist: what a document gives to type is a command, with flags that it has.
func TestCommandsInDocumentsExist(t *testing.T) {
	t.Parallel()
	commands := map[string]map[string]bool{}
	everyCommand(func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		flags := map[string]bool{}
		add := func(f *pflag.Flag) {
			flags["--"+f.Name] = true
			flags["-"+f.Shorthand] = f.Shorthand != ""
		}
		cmd.Flags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
		commands[strings.Join(pathOf(cmd), " ")] = flags
	})
	judge := func(typed string) string {
		words := strings.Fields(typed)
		var path []string
		for len(words) > 0 && commands[strings.Join(append(slices.Clone(path), words[0]), " ")] != nil {
			path, words = append(path, words[0]), words[1:]
		}
		if len(path) == 0 {
			return "there is no such command"
		}
		flags := commands[strings.Join(path, " ")]
		if len(words) > 0 && regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) && slices.ContainsFunc(slices.Collect(keysOf(commands)), func(c string) bool {
			return strings.HasPrefix(c, strings.Join(path, " ")+" ")
		}) {
			return "there is no " + strings.Join(path, " ") + " " + words[0]
		}
		for _, w := range words {
			name, _, _ := strings.Cut(strings.Trim(w, "[]|,"), "=")
			if strings.HasPrefix(name, "-") && len(name) > 1 && !flags[name] && name != "--" {
				return strings.Join(path, " ") + " has no flag " + name
			}
		}
		return ""
	}
	inline := regexp.MustCompile("`(?:[A-Z_]+=\\S+ )*machineid ([a-z][^`]*)`")
	line := regexp.MustCompile(`^ *(?:\$ )?(?:[A-Z_]+=\S+ )*(?:machineid|go run \./cmd/machineid) ([a-z].*)$`)
	seen := 0
	for _, file := range documentsOfCommands(t) {
		text := page(t, strings.TrimPrefix(file, "../../../"))
		var typed []string
		for i, part := range strings.Split(text, "```") {
			if i%2 == 0 {
				for _, m := range inline.FindAllStringSubmatch(part, -1) {
					typed = append(typed, m[1])
				}
				continue
			}
			part = strings.ReplaceAll(part, "\\\n", " ")
			for l := range strings.Lines(part) {
				if m := line.FindStringSubmatch(strings.TrimRight(l, "\n")); m != nil && !strings.Contains(l, "configuration:") {
					typed = append(typed, m[1])
				}
			}
		}
		for _, command := range typed {
			seen++
			if command, _, _ = strings.Cut(command, " #"); command == "" {
				continue
			}
			if why := judge(command); why != "" && !strings.HasPrefix(command, "bench SCENARIO") {
				t.Errorf("%s: machineid %s: %s", strings.TrimPrefix(file, "../../../"), command, why)
			}
		}
	}
	if seen < 60 {
		t.Errorf("%d commands were seen", seen)
	}
	for _, bad := range []string{"cluster explode", "edge --no-such 1", "frobnicate"} {
		if judge(bad) == "" {
			t.Errorf("machineid %s is taken for a command", bad)
		}
	}
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestBrokenRulesAreListed: docs/guarantee.md has each rule of the promise that is broken on purpose, with the test that catches it, and no other; its figures, and
// the one in docs/numbers.md, are those of the lists.
func TestBrokenRulesAreListed(t *testing.T) {
	t.Parallel()
	text := page(t, "docs/guarantee.md")
	told := map[string]int{}
	for _, row := range rows(t, section(t, text, "### Rules broken on purpose"), "| rule | broken | caught by |") {
		told["| "+strings.Join(row, " | ")+" |"]++
	}
	promise := slices.Concat(brokenRules, brokenOutside, brokenFair, brokenStrangers)
	for _, b := range promise {
		by := "the history"
		switch folder, name, _ := strings.Cut(b.by, " "); {
		case b.harmless:
			by = "nothing, rightly: this alone breaks no rule"
		case b.by != "":
			by = fmt.Sprintf("`%s`: `%s`", folder, name)
		}
		row := fmt.Sprintf("| %s | %s | %s |", b.rule, b.name, by)
		if told[row]--; told[row] < 0 {
			t.Errorf("docs/guarantee.md lacks this row:\n%s", row)
		}
	}
	for row, n := range told {
		if n > 0 {
			t.Errorf("docs/guarantee.md has a row that no edit is for:\n%s", row)
		}
	}
	store := len(brokenStoreLog) + len(brokenStoreCluster) + len(brokenStoreState)
	if want := "the rules of the store are tested: " + strconv.Itoa(store) + " of them broken on purpose"; !strings.Contains(text, want) {
		t.Errorf("docs/guarantee.md does not say: %s", want)
	}
	if want := strconv.Itoa(len(promise)) + " rules broken on purpose"; !strings.Contains(page(t, "docs/numbers.md"), want) {
		t.Errorf("docs/numbers.md does not say: %s", want)
	}
}

// TestFaultsOfTheDocument: what docs/configuration.md shows of wrong settings is what is said.
func TestFaultsOfTheDocument(t *testing.T) {
	t.Parallel()
	text := page(t, "docs/configuration.md")
	dir := t.TempDir()
	shown := strings.Split(section(t, text, "## The file"), "```")[1]
	file := filepath.Join(dir, "edge.conf")
	if err := os.WriteFile(file, []byte(strings.TrimPrefix(shown, "\n")+"cache-tll = 1m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	played := 0
	for _, block := range strings.Split(text, "```") {
		typed, answer, found := strings.Cut(strings.TrimPrefix(block, "\n"), "\n")
		command, isCommand := strings.CutPrefix(typed, "$ ")
		if !found || !isCommand {
			continue
		}
		environ := bareEnviron()
		words := strings.Fields(command)
		for words[0] != "machineid" {
			environ, words = append(environ, words[0]), words[1:]
		}
		for i, w := range words {
			if w == "edge.conf" {
				words[i] = file
			}
		}
		var out, said bytes.Buffer
		code := run(words[1:], environ, &out, &said)
		if got := strings.ReplaceAll(said.String(), file, "edge.conf"); code != exitUsage || got != answer {
			t.Errorf("%s: exit code %d\n%sthe page shows\n%s", command, code, got, answer)
		}
		played++
	}
	if played != 2 {
		t.Errorf("%d commands were played", played)
	}
}
