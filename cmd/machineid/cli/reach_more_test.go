//go:build linux

package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// answering is a server that gives these answers in turn, the last for ever.
func answering(tb testing.TB, answers ...func(http.ResponseWriter, *http.Request)) (url string, calls *atomic.Int64) {
	tb.Helper()
	calls = &atomic.Int64{}
	s := httptest.NewServer(asNode(func(w http.ResponseWriter, r *http.Request) {
		i := min(int(calls.Add(1)), len(answers)) - 1
		answers[i](w, r)
	}))
	tb.Cleanup(s.Close)
	return s.URL, calls
}

func saying(status int, body string, headers ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// speaking is a server that says this to whoever connects, before it is asked or after.
func speaking(tb testing.TB, text string) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			_ = c.(*net.TCPConn).CloseWrite() //nolint:errcheck // it is one
		}
	}()
	return l.Addr().String()
}

const (
	sayWell     = `{"status":"ok","request_id":"r","changed":true,"orgs":[],"propagation":{"edges":1}}`
	sayNotDone  = `{"status":"error","error":"system_unavailable","message":"the system cannot answer now and nothing was changed: try again after Retry-After","outcome":"not_done","request_id":"r"}`
	sayUnknown  = `{"status":"error","error":"system_unavailable","message":"the system cannot answer now and the change may or may not have been made: try again, which is safe","outcome":"unknown","request_id":"r"}`
	sayTooOften = `{"status":"error","error":"rate_limited","message":"too many requests: wait for as long as Retry-After says","request_id":"r"}`
)

// TestWhoIsNoNodeIsNamed: what answers at a wrong address is recognised, named, and does not stand before a node that is right.
func TestWhoIsNoNodeIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link, raft := freeAddress(t), freeAddress(t)
	d := launchDev(t, dir, "--authority-link", link, "--authority-raft", raft)
	d.ready()
	token := filepath.Join(dir, "authority", "operator-token")
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tls.Close)
	web, _ := answering(t, saying(http.StatusOK, "<html>welcome</html>", "Content-Type: text/html"))
	missing, _ := answering(t, saying(http.StatusNotFound, "404 page not found"))
	files, _ := answering(t, func(w http.ResponseWriter, r *http.Request) { // as python3 -m http.server is
		status := http.StatusNotFound
		if r.Method != http.MethodGet {
			status = http.StatusNotImplemented
		}
		w.WriteHeader(status)
	})
	moved, _ := answering(t, saying(http.StatusFound, "", "Location: http://example.com/"))
	other, _ := answering(t, saying(http.StatusOK, `{"data":[]}`))
	good := "http://" + d.authority
	for name, tt := range map[string]struct{ url, want string }{
		"an edge":             {"http://" + d.edge, "is an edge"},
		"the link":            {"http://" + link, "as --link does"},
		"operators' listener": {"http://" + d.authorityOps, "no authority node"},
		"Raft":                {"http://" + raft, "is the --raft of an authority node"},
		"a server of TLS":     {"http://" + strings.TrimPrefix(tls.URL, "https://"), "no authority node"},
		"no server of TLS":    {"https://" + d.authority, "write http://"},
		"a web site":          {web, "no authority node"},
		"a web site of files": {missing, "no authority node"},
		"one that redirects":  {moved, "no authority node"},
		"another API":         {other, "no authority node"},
		"a server of files":   {files, "no authority node"},
		"SSH":                 {"http://" + speaking(t, "SSH-2.0-OpenSSH_9.2\r\n"), "HTTP"},
	} {
		for _, args := range [][]string{{"org", "list"}, {"key", "list", anOrg}, {"org", "disable", anOrg}, {"device", "revoke", anOrg, "a"}, {"org", "create"}, {"cluster", "status"}, {"cluster", "transfer"}, {"snapshot", "save", filepath.Join(t.TempDir(), "f")}} {
			if name == "an edge" && len(args) > 2 && args[2] == anOrg {
				continue // it hands on what is for an org
			}
			code, out, errs := commandLine(append(args, "--operator-url", tt.url, "--operator-token-file", token)...)
			if code != exitFailed || !strings.Contains(errs, tt.want) || !strings.Contains(errs, tt.url) || !strings.Contains(errs, "--operator-url") {
				t.Errorf("%s: %v: exit code %d: %s%s", name, args, code, out, errs)
			}
		}
		for _, args := range [][]string{{"org", "list"}, {"org", "create", "--name", "of " + name}, {"cluster", "status"}, {"snapshot", "save", filepath.Join(t.TempDir(), "f")}} {
			if code, out, errs := commandLine(append(args, "--operator-url", tt.url+","+good, "--operator-token-file", token)...); code != exitDone {
				t.Errorf("%s and a node: %v: exit code %d: %s%s", name, args, code, out, errs)
			}
		}
	}
	for _, url := range []string{files, web, "http://" + raft} {
		if code, out, errs := commandLine("operator", "token", "rotate", "--operator-url", url, "--operator-token-file", token); code != exitFailed || !strings.Contains(errs, "Nothing was changed") {
			t.Errorf("%s: exit code %d: %s%s", url, code, out, errs)
		}
		if _, err := os.Stat(token + ".new"); err == nil {
			t.Errorf("%s: the new token stays behind", url)
		}
		if code, out, errs := commandLine("cluster", "init", "--at", url, "--operator-token-file", token); code != exitFailed || !strings.Contains(errs, "--at") {
			t.Errorf("%s: exit code %d: %s%s", url, code, out, errs)
		}
	}
	// Who hangs up may be a node that dies just now, so it is tried on.
	code, _, errs := commandLine("org", "list", "--operator-url", "http://"+speaking(t, ""), "--operator-token-file", token, "--timeout", "6s")
	if code != exitUnavailable || !strings.Contains(errs, "as --raft") || !strings.Contains(errs, "trying for") {
		t.Errorf("one that hangs up: exit code %d: %s", code, errs)
	}
	// What a node is added by, or looks for others by, is told apart alike.
	for at, want := range map[string]string{d.authority: "speaks HTTP/1, as --http", d.authorityOps: "speaks HTTP/1, as --http", link: "speaks HTTP/2 alone, as --link does"} {
		eventually(t, patient, "cluster add says whom it met at "+at, func() bool { // a node that asks is patient for a second, which may be too little
			code, out, errs := commandLine("cluster", "add", "a4", at, "--operator-url", good, "--operator-token-file", token)
			if code == exitDone || strings.Contains(errs, `\u000a`) {
				t.Errorf("cluster add at %s: exit code %d: %s%s", at, code, out, errs)
			}
			return strings.Contains(errs, want) && strings.Contains(errs, "is not the --raft of a4")
		})
	}
	reasons := func(ops string) string {
		resp, err := http.Get("http://" + ops + "/readyz")
		if err != nil {
			return ""
		}
		defer func() { _ = resp.Body.Close() }()
		raw, _ := io.ReadAll(resp.Body)
		return string(raw)
	}
	for at, want := range map[string]string{d.authority: "speaks HTTP/1, as --http", d.authorityOps: "speaks HTTP/1, as --http", raft: "is the --raft of an authority node"} {
		ops := freeAddress(t)
		e := launch(t, "edge", "--id", "e", "--http", freeAddress(t), "--ops", ops, "--authority", at)
		eventually(t, patient, "the edge says whom it met at "+at, func() bool {
			return strings.Contains(reasons(ops), want) && strings.Contains(reasons(ops), "--authority")
		})
		e.kill()
	}
	for at, want := range map[string]string{d.edge: "is an edge", d.authorityOps: "is no authority node", link: "as --link does", raft: "is the --raft of an authority node"} {
		ops := freeAddress(t)
		n := launch(t, "authority", "--id", "a4", "--data", t.TempDir(), "--http", freeAddress(t), "--link", freeAddress(t), "--raft", freeAddress(t), "--ops", ops, "--operator-token-file", token, "--join", at)
		eventually(t, patient, "the node says whom it met at "+at, func() bool {
			said := reasons(ops)
			return strings.Contains(said, want) && strings.Contains(said, "--http") && !strings.Contains(said, "cluster init") && !strings.Contains(said, "\\x00")
		})
		n.kill()
	}
}

// operateAt runs a command against addresses, with a token that fakes take.
func operateAt(urls []string, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(append(args, "--operator-url", strings.Join(urls, ",")), append(bareEnviron(), operatorTokenEnv+"="+clusterToken), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// TestWhatIsTriedAgain: by itself, while there is time, wherever that is safe.
func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	ok := saying(http.StatusOK, sayWell)
	busy := saying(http.StatusTooManyRequests, sayTooOften, "Retry-After: 1")
	never := saying(http.StatusTooManyRequests, sayTooOften, "Retry-After: 3600")
	balancers := []func(http.ResponseWriter, *http.Request){
		saying(http.StatusBadGateway, "<html>502</html>"), saying(http.StatusServiceUnavailable, "no server"), saying(http.StatusGatewayTimeout, `{"error":504}`),
	}
	read, stop, give, create := []string{"org", "list"}, []string{"device", "revoke", anOrg, "a"}, []string{"org", "enable", anOrg}, []string{"org", "create"}
	type reply = func(http.ResponseWriter, *http.Request)
	for name, tt := range map[string]struct {
		first []reply
		args  []string
		code  int
		calls int64 // at the first address, at least
	}{
		"a read that came too often":              {[]reply{busy, ok}, read, exitDone, 2},
		"a change that came too often":            {[]reply{busy, ok}, give, exitDone, 2},
		"what can be asked again too late":        {[]reply{never}, read, exitUnavailable, 1},
		"a read of a balancer":                    {append(slices.Clip(balancers), ok), read, exitDone, 4},
		"an off switch of a balancer":             {append(slices.Clip(balancers), ok), stop, exitDone, 4},
		"what gives rights, of a balancer":        {append(slices.Clip(balancers), ok), give, exitDone, 4},
		"what is made twice, of a balancer":       {append(slices.Clip(balancers), ok), create, exitUnavailable, 1},
		"what gives rights, not known":            {[]reply{saying(503, sayUnknown), ok}, give, exitDone, 2},
		"what is made twice, not known":           {[]reply{saying(503, sayUnknown), ok}, create, exitUnavailable, 1},
		"what is made twice, not done":            {[]reply{saying(503, sayNotDone), ok}, create, exitDone, 2},
		"what is made twice, when it is too much": {[]reply{busy, ok}, create, exitDone, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var keys []string
			var first []reply
			for _, f := range tt.first {
				first = append(first, func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodGet {
						mu.Lock()
						keys = append(keys, r.Header.Get("Idempotency-Key"))
						mu.Unlock()
					}
					f(w, r)
				})
			}
			url, calls := answering(t, first...)
			code, _, errs := operateAt([]string{url}, tt.args...)
			if code != tt.code || calls.Load() < tt.calls {
				t.Errorf("exit code %d after %d calls: %s", code, calls.Load(), errs)
			}
			for _, k := range keys {
				if k == "" || k != keys[0] {
					t.Errorf("attempts of one change go by the names %q", keys)
				}
			}
		})
	}
	t.Run("a change behind one that hangs", func(t *testing.T) {
		t.Parallel()
		good, _ := answering(t, ok)
		if code, _, errs := operateAt([]string{"http://" + hungServer(t), good}, []string{"org", "enable", anOrg, "--timeout", "12s"}...); code != exitDone {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
	for _, call := range []string{
		"org plan ORG --access-until 2020-01-02T15:04:05Z", "org plan ORG --limit 0", "org freeze ORG", "cluster remove n", "operator token rotate --new-token-file FILE",
	} {
		t.Run(call+" behind one that hangs", func(t *testing.T) {
			t.Parallel()
			good, _ := answering(t, ok)
			args := strings.Fields(strings.NewReplacer("ORG", anOrg, "FILE", filepath.Join(t.TempDir(), "new")).Replace(call))
			if code, _, errs := operateAt([]string{"http://" + hungServer(t), good}, append(args, "--timeout", "12s")...); code != exitDone {
				t.Errorf("exit code %d: %s", code, errs)
			}
		})
	}
	for _, call := range []string{
		"org plan ORG --access-until 2999-01-02T15:04:05Z", "org plan ORG --limit 1", "org plan ORG free --limit 0", "org unfreeze ORG", "org plan ORG --access-until never --limit 0", "cluster demote n",
	} {
		t.Run(call+" is not tried elsewhere", func(t *testing.T) {
			t.Parallel()
			lost, _ := answering(t, saying(503, sayUnknown))
			var asked atomic.Bool
			good, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Store(asked.Load() || r.Method != http.MethodGet) // which edges are late may be asked
				ok(w, r)
			})
			code, _, errs := operateAt([]string{lost, good}, strings.Fields(strings.ReplaceAll(call, "ORG", anOrg))...)
			if code != exitUnavailable || !strings.Contains(errs, "others were not asked") || !strings.Contains(errs, "--operator-url "+good) || asked.Load() {
				t.Errorf("exit code %d: %s", code, errs)
			}
		})
	}
	t.Run("a member that an attempt before took out", func(t *testing.T) {
		t.Parallel()
		url, _ := answering(t, saying(503, sayUnknown), saying(404, `{"status":"not_found","error":"member_not_found","message":"no","request_id":"r"}`))
		if code, _, errs := operateAt([]string{url}, "cluster", "remove", "n"); code != exitDone {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
	t.Run("a token that nobody takes", func(t *testing.T) {
		t.Parallel()
		const no = `{"status":"error","error":"invalid_operator_token","message":"that is none","request_id":"r"}`
		a, _ := answering(t, saying(401, no))
		b, _ := answering(t, saying(401, no))
		if code, _, errs := operateAt([]string{a, b}, "org", "list"); code != exitFailed || strings.Count(errs, "that is none") != 1 || !strings.Contains(errs, a+", "+b+": that is none") {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
	t.Run("a node that was removed", func(t *testing.T) {
		t.Parallel()
		const cluster = `{"status":"ok","clusterId":"c","node":"%s","phase":"member","leader":%s,"members":[]}`
		gone, _ := answering(t, saying(http.StatusOK, fmt.Sprintf(cluster, "gone", "null")))
		there, _ := answering(t, saying(http.StatusOK, fmt.Sprintf(cluster, "there", `"there"`)))
		if code, out, errs := operateAt([]string{gone, there}, "cluster", "status"); code != exitDone || !strings.Contains(out, "asked   there") {
			t.Errorf("exit code %d: %s%s", code, out, errs)
		}
		// For a moment after it was removed it still knows a leader, and reaches nobody.
		const members = `{"status":"ok","clusterId":"c","node":"just","phase":"member","leader":"there","members":[{"id":"there","voter":true,"leader":true,"error":"a1 is no member: wipe its folder"},{"id":"third","voter":true,"error":"wipe it"}]}`
		just, _ := answering(t, saying(http.StatusOK, members))
		for _, urls := range [][]string{{just, there}, {just, gone, there}, {gone, just, there}} {
			if code, out, errs := operateAt(urls, "cluster", "status"); code != exitDone || !strings.Contains(out, "asked   there") {
				t.Errorf("just removed: exit code %d: %s%s", code, out, errs)
			}
		}
		for _, urls := range [][]string{{just}, {gone, just}, {just, gone}} {
			if code, out, errs := operateAt(urls, "cluster", "status"); code != exitUnavailable || !strings.Contains(out, "asked   just") {
				t.Errorf("none better: exit code %d: %s%s", code, out, errs)
			}
		}
		if code, out, errs := operateAt([]string{"http://" + freeAddress(t), gone}, "cluster", "status"); code != exitUnavailable || !strings.Contains(out, "asked   gone") {
			t.Errorf("alone: exit code %d: %s%s", code, out, errs)
		}
	})
}

// TestWaitingIsToldOf: after a second, for whom, why, and for how long.
func TestWaitingIsToldOf(t *testing.T) {
	t.Parallel()
	closed := "http://" + freeAddress(t)
	code, out, errs := operateAt([]string{closed}, "org", "list", "--timeout", "3s")
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	if code != exitUnavailable || out != "" || len(lines) != 2 || !strings.HasPrefix(lines[0], closed+": connection refused; trying for ") || !strings.Contains(lines[0], "(--timeout)") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if last := lines[len(lines)-1]; strings.Contains(last, "/api/v1") || strings.Contains(last, "Get ") || !strings.Contains(last, "--operator-url") {
		t.Errorf("it ends with: %s", last)
	}
}

// TestEveryAddressIsToldOf: where nobody was at one, what each said last, and nothing is told to type that was typed already.
func TestEveryAddressIsToldOf(t *testing.T) {
	t.Parallel()
	closed, gone := "http://"+freeAddress(t), "http://"+freeAddress(t)
	leaderless, _ := answering(t, saying(http.StatusServiceUnavailable, `{"error":"system_unavailable","message":"no leader is known","outcome":"not_done"}`))
	for name, tt := range map[string]struct {
		urls []string
		want string
	}{
		"one":                {[]string{closed}, "not done: " + closed + ": connection refused; is a node running there? Others are named in --operator-url"},
		"several alike":      {[]string{closed, gone}, "not done: " + closed + ", " + gone + ": connection refused; are the nodes running?"},
		"one without leader": {[]string{leaderless, closed}, "not done: " + leaderless + ": no leader is known; " + closed + ": connection refused; are the nodes running?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := (&operatorFlags{urls: tt.urls, token: clusterToken}).client()
			a := &attempts{client: c, method: http.MethodGet, path: "operator/orgs"}
			w := c.wait(t.Context())
			defer w.end()
			for range 2 {
				if done, err := a.round(t.Context(), w); done {
					t.Fatalf("it ends: %v", err)
				}
			}
			if err := a.givenUp(t.Context()); err.Error() != tt.want {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
			// An address that has told why, and then hangs, still says why.
			a.hear(attemptError{tt.urls[0], context.DeadlineExceeded})
			if err := a.givenUp(t.Context()); err.Error() != tt.want {
				t.Errorf("after a time that was up: %v", err)
			}
		})
	}
}

// TestASnapshotHasOneTimeout: over all addresses, not at each; what is wrong on this machine is no matter of the cluster's.
func TestASnapshotHasOneTimeout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hung := []string{"http://" + hungServer(t), "http://" + hungServer(t), "http://" + hungServer(t)}
	began := time.Now()
	if code, _, errs := operateAt(hung, "snapshot", "save", filepath.Join(dir, "f"), "--timeout", "3s"); code != exitUnavailable || strings.Contains(errs, "for 3s") {
		t.Errorf("exit code %d after %v: %s", code, time.Since(began), errs)
	}
	whole, _ := answering(t, saying(http.StatusOK, "some bytes"))
	if code, _, errs := operateAt([]string{whole}, "snapshot", "save", filepath.Join(dir, "no", "such", "f")); code != exitUsage {
		t.Errorf("a folder that is not there: exit code %d: %s", code, errs)
	}
	busy, calls := answering(t, saying(http.StatusTooManyRequests, sayTooOften, "Retry-After: 1"), saying(http.StatusServiceUnavailable, sayNotDone), saying(http.StatusConflict, `{"status":"error","error":"refused","message":"no"}`))
	if code, _, errs := operateAt([]string{busy}, "snapshot", "save", filepath.Join(dir, "f")); code != exitFailed || calls.Load() != 3 {
		t.Errorf("exit code %d after %d calls: %s", code, calls.Load(), errs)
	}
}
