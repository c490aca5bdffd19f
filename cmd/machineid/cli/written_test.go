package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"machineid/bench/report"
)

// writers are the flags and arguments that name what a command writes, by command. What else is a FILE or a DIR is only read.
var writers = map[string][]string{
	"dev": {"--data"}, "authority": {"--data"}, "recover": {"--data"}, "snapshot restore": {"--data"}, "snapshot save": {"FILE"},
	"operator token rotate": {"--new-token-file", "--operator-token-file"},
	"bench validate":        {"--out"}, "bench mixed": {"--out"}, "bench revoke": {"--out"}, "bench failover": {"--out"}, "bench register": {"--out"}, "bench storm": {"--out"},
}

// TestWhatCannotBeWrittenIsRefusedFirst: each path that a command is to write to is tried before anything else is done, exit code 2, and nobody is asked.
func TestWhatCannotBeWrittenIsRefusedFirst(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(path, text string) string {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := write(filepath.Join(dir, "token"), strings.Repeat("t", 32))
	blocked := write(filepath.Join(dir, "blocked"), strings.Repeat("t", 32))
	if err := os.Mkdir(blocked+".new", 0o700); err != nil { // where its successor would be
		t.Fatal(err)
	}
	operator := []string{"--operator-url", server.URL, "--operator-token-file", token}
	for command, flags := range writers {
		for _, flag := range flags {
			paths := []string{filepath.Join(token, "below", "r.json"), "/proc/none/r.json"} // below a file, and where not even root makes one
			if flag != "--data" {
				paths = append(paths, filepath.Join(dir, "no such folder", "r.json"))
			}
			if flag == "--operator-token-file" {
				paths = []string{blocked}
			}
			if flag == "--out" {
				if err := os.MkdirAll(filepath.Join(dir, "folder.json"), 0o700); err != nil {
					t.Fatal(err)
				}
				paths = append(paths, filepath.Join(dir, "folder.json"))
			}
			for _, path := range paths {
				args := strings.Fields(command)
				switch {
				case flag == "FILE":
					args = append(append(args, path), operator...)
				case flag == "--operator-token-file":
					args = append(args, flag, path, "--operator-url", server.URL)
				case args[0] == "operator":
					args = append(append(args, flag, path), operator...)
				case args[0] == "bench":
					args = append(args, flag, path, "--target", server.URL, "--duration", "1s")
				case command == "snapshot restore":
					args = append(args, write(filepath.Join(dir, "saved"), "x"), flag, path, "--id", "a", "--raft", "127.0.0.1:1")
				case command == "recover":
					args = append(args, flag, path, "--id", "a", "--raft", "127.0.0.1:1", "--yes")
				case command == "authority":
					args = append(args, flag, path, "--id", "a", "--bootstrap")
				default:
					args = append(args, flag, path)
				}
				code, out, errs := commandLine(args...)
				if code != exitUsage || out != "" || !strings.Contains(errs, "cannot be written") && !strings.Contains(errs, "neither a file") {
					t.Errorf("%q: exit code %d\n%s%s", args, code, out, errs)
				}
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	read := []string{"config", "operator-token-file", "stripe-secret-key-file", "stripe-webhook-secret-file", "smtp-password-file"}
	everyCommand(func(cmd *cobra.Command) {
		path := strings.Join(pathOf(cmd), " ")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			kind, _ := pflag.UnquoteUsage(f)
			if (kind == "FILE" || kind == "DIR") && !slices.Contains(read, f.Name) && !slices.Contains(writers[path], "--"+f.Name) && path != "debug log" {
				t.Errorf("%s: is --%s written, and tried before?", path, f.Name)
			}
		})
	})
}

// TestAReportIsNotLost: if its file cannot be written any more when the run is over, it is kept elsewhere, and that is said.
func TestAReportIsNotLost(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	err := save(&report.Report{}, filepath.Join(dir, "gone", "r.json"))
	kept, _ := filepath.Glob(filepath.Join(dir, "machineid-bench-*.json"))
	if err == nil || len(kept) != 1 || !strings.Contains(err.Error(), kept[0]) {
		t.Fatalf("%v, kept %v", err, kept)
	}
	if b, rerr := os.ReadFile(kept[0]); rerr != nil || !strings.HasPrefix(string(b), "{") {
		t.Errorf("%v: %.40s", rerr, b)
	}
}
