//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestQuickStart plays what the README tells to type, and every documented error, through the edge and directly: a client
// needs not know which of the two it speaks with.
func TestQuickStart(t *testing.T) {
	t.Parallel()
	for tier, variable := range map[string]string{"edge": "MACHINEID_EDGE_HTTP", "authority": "MACHINEID_AUTHORITY_HTTP"} {
		t.Run(tier, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, scripts("testdata/tiers", func(e *testscript.Env) {
				e.Setenv("API", "http://"+e.Getenv(variable)+"/api/v1")
				e.Setenv("TIER", tier)
			}))
		})
	}
}

// TestScripts plays the rest of the command line: versions, faults, secrets, restarts, ends.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scripts("testdata/script", func(*testscript.Env) {}))
}

// TestSecondStart proves that a second start of dev has every org and device, and is ready within a second. A start that took
// longer is tried again, twice: the machine may be busy with something else.
func TestSecondStart(t *testing.T) {
	const orgs = 20
	dir := t.TempDir()
	d := launchDev(t, dir)
	d.ready()
	c := newClient(t, d.edge)
	made := make([]org, orgs)
	for i := range made {
		made[i] = c.createOrg(t)
		for n := range 3 {
			c.must(t, "devices/register", made[i].admin, naming(fmt.Sprint("agent-", n)))
		}
		c.must(t, "devices/revoke", made[i].admin, naming("agent-2"))
	}
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	d.interrupt()
	best := patient
	for range 3 {
		began := time.Now()
		d = launchDev(t, dir)
		d.ready()
		took := time.Since(began)
		best = min(best, took)
		banner := regexp.MustCompile(`is ready \(\d+ ms\)`).FindString(d.out.String())
		t.Logf("ready %v after the start of the process; it says of itself: %s", took.Round(time.Millisecond), banner)
		c := newClient(t, d.edge)
		for _, o := range made {
			for n, want := range []string{codeAllow, codeAllow, codeRevoked} {
				if code := c.validate(t, o.agent, fmt.Sprint("agent-", n)); code != want {
					t.Errorf("agent-%d after a restart: %s, want %s", n, code, want)
				}
			}
			if a, err := c.get("usage", o.admin); err != nil || a.number("devicesUsed") != 2 {
				t.Errorf("usage after a restart: %v, %+v", err, a)
			}
		}
		again, err := os.ReadFile(filepath.Join(dir, keyFile))
		if err != nil || string(again) != string(key) {
			t.Errorf("the org key is another after a restart (%v)", err)
		}
		if best <= time.Second {
			return
		}
		d.interrupt()
	}
	t.Errorf("the second start took %v, want at most 1s", best)
}

// scripts are the parameters of a folder of scripts. Each script has addresses of its own, as settings in its environment.
func scripts(dir string, setup func(*testscript.Env)) testscript.Params {
	return testscript.Params{
		Dir: dir, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			tb, ok := e.T().(testing.TB)
			if !ok {
				return fmt.Errorf("%T is no testing.TB", e.T())
			}
			for _, flag := range []string{"edge-http", "edge-ops", "authority-http", "authority-link", "authority-raft", "authority-ops"} {
				e.Setenv("MACHINEID_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_")), freeAddress(tb))
			}
			e.Setenv("A", freeAddress(tb)) // for whatever else
			e.Setenv("B", freeAddress(tb))
			setup(e)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"http": scriptHTTP, "json": scriptJSON, "mode": scriptMode, "wait-ready": scriptWaitReady, "wait-file": scriptWaitFile, "exit-code": scriptExitCode,
			"token-env": scriptTokenEnv,
		},
	}
}

// scriptHTTP is the command `http STATUS METHOD URL ['Header: value'...] [{BODY}]`: a call that must be answered with this
// status and keep what every answer keeps. Its body becomes stdout, its headers stderr.
func scriptHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: http STATUS METHOD URL ['Header: value'...] [{BODY}]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	addr, path, ok := strings.Cut(strings.TrimPrefix(args[2], "http://"), "/api/v1/")
	if !ok {
		ts.Fatalf("%s is not below /api/v1/", args[2])
	}
	headers, body := args[3:], ""
	if n := len(headers); n > 0 && strings.HasPrefix(headers[n-1], "{") {
		headers, body = headers[:n-1], headers[n-1]
	}
	c := &client{addr: addr}
	defer c.close()
	a, err := c.do(args[1], path, "", body, headers...)
	ts.Check(err)
	_, err = fmt.Fprintln(ts.Stdout(), a.raw)
	ts.Check(err)
	ts.Check(a.Header.Write(ts.Stderr()))
	if a.StatusCode != want {
		ts.Fatalf("HTTP %d, want %d: %s", a.StatusCode, want, a.raw)
	}
}

// scriptJSON is the command `json FIELD VARIABLE`: it keeps a text of the last stdout.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: json FIELD VARIABLE")
	}
	var body map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &body))
	text, ok := body[args[0]].(string)
	if !ok {
		ts.Fatalf("no %s in %v", args[0], body)
	}
	ts.Setenv(args[1], text)
}

// scriptMode is the command `mode PERMISSIONS FILE`.
func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode PERMISSIONS FILE")
	}
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := info.Mode().Perm(); got != fs.FileMode(want) {
		ts.Fatalf("%s has mode %v, want %v", args[1], got, fs.FileMode(want))
	}
}

// scriptWaitReady is the command `wait-ready ADDRESS...`: it waits for operators' listeners to say that all is ready.
func scriptWaitReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: wait-ready ADDRESS...")
	}
	for _, ops := range args {
		scriptWait(ts, ops+" is not ready", func() bool { return readyAt(ops) })
	}
}

// scriptWaitFile is the command `wait-file FILE`.
func scriptWaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wait-file FILE")
	}
	scriptWait(ts, args[0]+" is not there", func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

func scriptWait(ts *testscript.TestScript, complaint string, holds func() bool) {
	deadline := time.Now().Add(patient)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			ts.Fatalf("%s within %v", complaint, patient)
		}
		<-tick.C
	}
}

// scriptExitCode is the command `exit-code CODE COMMAND [ARGS...]`.
func scriptExitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit-code CODE COMMAND [ARGS...]")
	}
	code := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// scriptTokenEnv is the command `token-env VARIABLE FILE`: it keeps what a file of one line says.
func scriptTokenEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: token-env VARIABLE FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}
