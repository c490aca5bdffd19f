//go:build unix

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"machineid/internal/testkit/program"
)

// typed is a command of the README and what it shows of the answer.
type typed struct{ command, answer string }

// walkOf reads the commands below a headline of a document: lines that begin with $, and what follows until the next.
func walkOf(tb testing.TB, file, headline string) (list []typed) {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "\n## "+headline+"\n")
	if !found {
		tb.Fatalf("%s has no %q", file, headline)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for i, block := range strings.Split(text, "```") {
		if i%2 == 0 || !strings.Contains(block, "$ ") {
			continue // words, or what dev prints
		}
		for line := range strings.Lines(block) {
			line = strings.TrimRight(line, "\n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				list = append(list, typed{command: command})
			} else if n := len(list); n > 0 {
				list[n-1].answer += strings.TrimSpace(line)
			}
		}
	}
	return list
}

// TestTheWalkOfTheREADME types it into dash, which knows no more than a shell must, and reads the answers. It leaves the device as docs/clients.md takes it up.
func TestTheWalkOfTheREADME(t *testing.T) {
	t.Parallel()
	dash := program.Find(t, "dash", "dash")
	program.Find(t, "curl", "curl")
	dir := t.TempDir()
	d := launchDev(t, filepath.Join(dir, "machineid-data"), "--max-wait", "900ms", "--lease", "5s") // for a machine that stands still a while
	d.ready()
	if !strings.Contains(d.out.String(), filepath.Join("authority", "operator-token")) {
		t.Errorf("dev does not say where the operator's token is: %s", d.out.String())
	}
	walk := walkOf(t, "../../../README.md", "A walk of one minute")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const mark = "=== next"
	// A machine that stands still for longer than an edge waits gets a denial, which the README does not show: what is typed then is answered from memory.
	const decided = "n=0; until case $(%s) in *" + codeUnsure + "*) false ;; esac; do n=$((n + 1)); [ $n -lt 100 ]; done\n"
	var script strings.Builder
	for _, c := range walk {
		command := strings.ReplaceAll(c.command, "127.0.0.1:8080", d.edge)
		if rest, ok := strings.CutPrefix(command, "go run ./cmd/machineid "); ok {
			command = self + " " + rest + " --operator-url http://" + d.authority
		}
		if strings.HasPrefix(command, "api devices/validate ") {
			fmt.Fprintf(&script, decided, command)
		}
		script.WriteString(command + "\necho '" + mark + "'\n")
	}
	file := filepath.Join(dir, "walk")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), dash, "-eu", file)
	cmd.Dir, cmd.Env = dir, append(bareEnviron(), runMainEnv+"=1")
	stdin, err := cmd.StdinPipe() // open for as long as this process is there: see endWithParent
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	answers := strings.Split(string(out), mark+"\n")
	if len(answers) != len(walk)+1 || len(walk) < 8 {
		t.Fatalf("%d commands, %d answers: %s", len(walk), len(answers)-1, out)
	}
	figure := regexp.MustCompile(`"(index|elapsedMs)":[0-9]+(\\\.[0-9]+)?`) // as QuoteMeta writes them: some have no fraction; all others are what a first start shows
	shown := 0
	for i, c := range walk {
		want := strings.ReplaceAll(regexp.QuoteMeta(c.answer), `\.\.\.`, `.*`)
		want = figure.ReplaceAllString(want, `"$1":[0-9.]+`)
		if c.answer == "" {
			continue // what it says is left out
		}
		shown++
		if got := strings.TrimSpace(answers[i]); !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("%s\nanswers %s\nthe README shows %s", c.command, got, c.answer)
		}
	}
	if shown < 7 {
		t.Errorf("%d answers are shown", shown)
	}
	key, err := os.ReadFile(filepath.Join(dir, "machineid-data", keyFile))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patient, "the device with which docs/clients.md begins is allowed", func() bool {
		return newClient(t, d.edge).validate(t, strings.TrimSpace(string(key)), "agent-01") == codeAllow
	})
}
