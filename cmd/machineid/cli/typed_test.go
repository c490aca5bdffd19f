//go:build linux

package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"machineid/shared/hint"
	"machineid/shared/wire"
)

// literals calls f with each string of the program that is built.
func literals(tb testing.TB, f func(file, text string)) {
	tb.Helper()
	seen := 0
	for _, dir := range []string{"authority", "bench", "cmd", "edge", "raftstore", "shared"} {
		err := filepath.WalkDir(filepath.Join("..", "..", "..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						seen++
						f(path, text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	if seen < 5000 {
		tb.Errorf("only %d strings were seen", seen)
	}
}

// TestCommandsToTypeExist walks over every message of the program: each command that it tells to type stands between apostrophes, where it is completed, and exists, and each flag that
// a message names is one.
func TestCommandsToTypeExist(t *testing.T) {
	t.Parallel()
	var callers []string
	flags, commands := map[string]bool{}, map[string]*cobra.Command{}
	everyCommand(func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "machineid ")
		commands[path] = cmd
		cmd.InitDefaultHelpFlag()
		for f := range strings.FieldsSeq(cmd.Flags().FlagUsages() + cmd.InheritedFlags().FlagUsages()) {
			flags[strings.TrimRight(f, ",=")] = true
		}
		for _, hidden := range []string{"operator-url"} {
			if cmd.Flag(hidden) != nil && !cmd.HasSubCommands() && !strings.HasPrefix(path, "bench ") {
				flags["--"+hidden] = true
				if !slices.ContainsFunc(hint.Callers, func(c string) bool { return path == c || strings.HasPrefix(path, c+" ") }) {
					t.Errorf("%s calls a cluster, and shared/hint does not know it", path)
				}
				callers = append(callers, path)
			}
		}
	})
	for _, c := range hint.Callers {
		if !slices.ContainsFunc(callers, func(path string) bool { return path == c || strings.HasPrefix(path, c+" ") }) {
			t.Errorf("shared/hint completes %q, which calls no cluster", c)
		}
	}
	names := make([]string, 0, len(commands))
	for path := range commands {
		if path != "machineid" {
			names = append(names, regexp.QuoteMeta(path))
		}
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) }) // the longest that fits
	typed := regexp.MustCompile(`(.?)\bmachineid (` + strings.Join(names, "|") + `)\b`)
	named := regexp.MustCompile(`(?:^|[\s('":])(--[a-z][a-z0-9-]*)`)
	quoted, flagged := 0, 0
	literals(t, func(file, text string) {
		if !strings.Contains(text, " ") {
			return
		}
		for _, m := range typed.FindAllStringSubmatch(text, -1) {
			calls := slices.Contains(callers, m[2]) || slices.ContainsFunc(callers, func(c string) bool { return strings.HasPrefix(c, m[2]+" ") })
			if calls && m[1] != "'" && !strings.HasPrefix(text, "machineid operator's token ") {
				t.Errorf("%s: %q stands without apostrophes in %q", file, m[0], text)
			}
			quoted++
		}
		for _, m := range regexp.MustCompile(`'machineid ([^'\n]*)'`).FindAllStringSubmatch(text, -1) {
			if typed.FindString("machineid "+m[1]) == "" {
				t.Errorf("%s: there is no command %q", file, m[0])
			}
		}
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if name := m[1]; !flags[name] && !strings.HasSuffix(name, "-") {
				t.Errorf("%s: there is no flag %s, which %q names", file, name, text)
			}
			flagged++
		}
	})
	if quoted < 30 || flagged < 100 {
		t.Errorf("only %d commands and %d flags were seen", quoted, flagged)
	}
}

// TestCommandsToTypeWork takes each command that a message tells to type, with something in the place of what is filled in, and has it call nobody: it is understood as it is printed.
func TestCommandsToTypeWork(t *testing.T) {
	t.Parallel()
	nobody, seen := "http://"+freeAddress(t), 0
	filled := strings.NewReplacer("%[1]s", "a", "%[2]s", "a", "--scope %s", "--scope agent", "%s", "a", "%d", "7", "ADDRESS", "127.0.0.1:7070")
	tryOut := func(where, c string) {
		words := strings.Fields(filled.Replace(strings.Trim(c, "'")))[1:]
		if !slices.ContainsFunc(hint.Callers, func(caller string) bool { return strings.HasPrefix(strings.Join(words, " ")+" ", caller+" ") }) || len(words) < 2 && words[0] != "edges" {
			return // it calls nobody, or is the name of several
		}
		seen++
		if !slices.Contains(words, "init") {
			words = append(words, "--operator-url", nobody)
		}
		var out, errs strings.Builder
		environ := append(bareEnviron(), operatorTokenEnv+"="+clusterToken)
		if code := run(append(words, "--timeout", "1ms"), environ, &out, &errs); code == exitUsage {
			t.Errorf("%s tells to type %s: %s", where, c, errs.String())
		}
	}
	literals(t, func(file, text string) {
		hint.Each(text, func(c string) string {
			tryOut(file, c)
			return c
		})
	})
	// What the API says is filled in with what the call was about, and a flag has a value.
	for _, said := range []*wire.Error{
		wire.EntitlementExpired(), wire.PlanFrozen(), wire.DeviceNotFound(), wire.DeviceRevoked(), wire.KeyNotFound(), wire.KeyLimitReached(), wire.LastAdminKey(), wire.OrgNotFound(), wire.DeviceLimitReached(),
		wire.SecretAlreadyShown("k"),
	} {
		e := &refusedError{Code: said.Code, Message: said.Message, keyID: "k", org: anOrg, body: map[string]any{"keyId": "k", "deviceId": "d", "name": "of it", "scope": "agent"}}
		hint.Each(e.Error(), func(c string) string {
			if regexp.MustCompile(`\b(ORG|KEY_ID|DEVICE)\b`).MatchString(c) {
				t.Errorf("%s is not filled in", c)
			}
			tryOut(said.Code, strings.ReplaceAll(c, `"of it"`, "of"))
			return c
		})
	}
	if seen < 40 {
		t.Errorf("only %d commands were seen", seen)
	}
	for path, want := range map[string]bool{
		"/tmp/go-build1/b001/exe/machineid": true, "/var/cache/go-build/aa/b-d/machineid": false, "/usr/bin/machineid": false, "/tmp/go-build1/b001/machineid.test": false,
	} {
		if isGoRun(path) != want {
			t.Errorf("%s: made by go run: %t", path, !want)
		}
	}
}

// callsOf is how each command that calls a cluster is called, without where and who.
func callsOf(tb testing.TB) map[string][]string {
	tb.Helper()
	more := map[string][]string{
		"org plan": {"pro"}, "org delete": {"--confirm", anOrg}, "device revoke": {"d"}, "device restore": {"d"}, "plan set": {"--grace-days", "3"},
		"operator token rotate": {"--new-token-file", filepath.Join(tb.TempDir(), "new")}, "billing sync": {"--pause", "0s"},
	}
	stands := map[string]string{"ORG": anOrg, "DEVICE": "d", "KEY_ID": "k", "ID": "a", "RAFT_ADDRESS": "127.0.0.1:1", "FILE": filepath.Join(tb.TempDir(), "saved")}
	list := map[string][]string{}
	everyCommand(func(cmd *cobra.Command) {
		path := strings.Join(pathOf(cmd), " ")
		if cmd.HasSubCommands() || cmd.Flag("operator-url") == nil || strings.HasPrefix(path, "bench") {
			return
		}
		args := pathOf(cmd)
		for _, word := range strings.Fields(cmd.Use)[1:] {
			if value, ok := stands[word]; ok {
				args = append(args, value)
			}
		}
		list[path] = append(args, more[path]...)
	})
	return list
}

// TestMessagesNameTheFlagsThatWereUsed has every command that calls a cluster meet what is none: it names flags that it has, and by which it was called, or what they are called at a node.
func TestMessagesNameTheFlagsThatWereUsed(t *testing.T) {
	t.Parallel()
	answers := func(status int, body string) string {
		var says http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
		if strings.HasPrefix(body, "{") {
			says = asNode(says.ServeHTTP)
		}
		s := httptest.NewServer(says)
		t.Cleanup(s.Close)
		return s.URL
	}
	speaks := func(text string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, text)
				_ = c.Close()
			}
		}()
		return "http://" + l.Addr().String()
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(strings.Repeat("t", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	strangers := map[string]string{
		"nobody": "http://" + freeAddress(t), "the link": speaks("\x00\x00\x12\x04\x00\x00\x00\x00\x00"), "raft": speaks(""), "a web server": answers(http.StatusNotFound, "<html>"),
		"an edge": answers(http.StatusNotFound, `{"status":"not_found","error":"not_found","message":"there is no such path"}`), "a balancer": answers(http.StatusBadGateway, "<html>"),
		"another cluster":      answers(http.StatusUnauthorized, `{"status":"error","error":"invalid_operator_token","message":"the operator's token is missing or wrong: send it as Authorization: Bearer TOKEN"}`),
		"one without a leader": answers(http.StatusServiceUnavailable, `{"status":"error","error":"system_unavailable","outcome":"not_done","message":"the system cannot answer now and nothing was changed: try again after Retry-After"}`),
	}
	named, ofNodes := regexp.MustCompile(`--[a-z][a-z-]*`), []string{"--http", "--link", "--raft"}
	seen, completed := 0, 0
	var mu sync.Mutex
	each := func(path string, args []string) {
		cmd, _, err := newRootCommand(bareEnviron(), &standard{}).Find(strings.Fields(path))
		if err != nil {
			t.Error(err)
			return
		}
		for who, url := range strangers {
			args := append(slices.Clone(args), "--operator-token-file", token)
			own, reach := "--operator-url", "--operator-url "+url
			if path == "cluster init" {
				own = "--at"
			}
			var code int
			var out, errs string
			for within := 300 * time.Millisecond; ; within *= 2 { // most ask until their time is over, so that is short: longer only where the machine is slow
				code, out, errs = commandLine(append(args, own, url, "--timeout", within.String())...)
				if within >= patient || !strings.Contains(errs, "no answer in time") {
					break
				}
			}
			mu.Lock()
			if code == exitDone || code == exitUsage || errs == "" {
				t.Errorf("%s at %s: exit code %d\n%s%s", path, who, code, out, errs)
			}
			for _, c := range regexp.MustCompile(`'machineid [^']*'`).FindAllString(out+errs, -1) {
				if !strings.Contains(c, reach) || !strings.Contains(c, "--operator-token-file "+token) {
					t.Errorf("%s at %s tells to type %s, which does not reach it", path, who, c)
				}
				completed++
			}
			for _, flag := range named.FindAllString(regexp.MustCompile(`'[^']*'`).ReplaceAllString(errs, ""), -1) {
				seen++
				if f := cmd.Flag(flag[2:]); !slices.Contains(ofNodes, flag) && (f == nil || f.Hidden) {
					t.Errorf("%s at %s names %s, which it has not: %s", path, who, flag, errs)
				}
			}
			mu.Unlock()
		}
	}
	var all sync.WaitGroup
	for path, args := range callsOf(t) {
		all.Go(func() { each(path, args) })
	}
	all.Wait()
	if seen < 100 || completed < 20 {
		t.Errorf("only %d flags and %d commands were named", seen, completed)
	}
}
