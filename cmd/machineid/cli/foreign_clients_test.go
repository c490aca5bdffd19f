//go:build foreign

package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// maker is a program that makes a client of a document, with what builds that client and what calls with it. Each step is a command in a folder that has
// openapi.json and a copy of source, which is below shared/openapi/clients.
type maker struct {
	name, source string
	make, build  [][]string
	call         []string
}

// makers are the real packages, at the versions that their lock files have.
var makers = []maker{
	{
		name: "openapi-typescript", source: "npm",
		make:  [][]string{{"npx", "--no", "openapi-typescript", "openapi.json", "-o", "api.d.ts"}},
		build: [][]string{{"npx", "--no", "tsc"}},
		call:  []string{"node", "out/calls.js"},
	},
	{
		name: "openapi-python-client", source: "python",
		make:  [][]string{{"openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "api", "--meta", "none", "--fail-on-warning"}},
		build: [][]string{{"mypy", "api"}, {"mypy", "--strict", "--follow-imports", "silent", "calls.py"}},
		call:  []string{"python3", "calls.py"},
	},
	{
		name: "oapi-codegen", source: "go",
		make: [][]string{
			{"mv", "_oapicodegen", "oapicodegen"},
			{"mkdir", "oapicodegen/api"},
			{"go", "tool", "oapi-codegen", "-package", "api", "-generate", "types,client", "-o", "oapicodegen/api/api.go", "openapi.json"},
		},
		build: [][]string{{"go", "vet", "./oapicodegen/..."}, {"go", "build", "-o", "calls", "./oapicodegen"}},
		call:  []string{"./calls"},
	},
	{
		name: "ogen", source: "go",
		make: [][]string{
			{"mv", "_ogen", "ogen"},
			{"go", "tool", "ogen", "--target", "ogen/api", "--package", "api", "--loglevel", "error", "openapi.json"},
		},
		build: [][]string{{"go", "vet", "./ogen/..."}, {"go", "build", "-o", "calls", "./ogen"}},
		call:  []string{"./calls"},
	},
	// Those that judge the document run in the same way, and make nothing.
	{name: "redocly", source: "npm", make: [][]string{{"npx", "--no", "redocly", "lint", "openapi.json", "--config", "redocly.yaml", "--max-problems", "1000"}}},
	{name: "spectral", source: "npm", make: [][]string{{"npx", "--no", "spectral", "lint", "openapi.json", "--ruleset", "spectral.yaml", "--fail-severity", "hint"}}},
}

// called is what every client prints that was made, of an org with three seats.
const called = `register a: ok, 1 of 3, A, rank 2, lives 3600 s, told true
register b: ok, 2 of 3, B, rank 2, lives 3600 s, told true
register c: ok, 3 of 3, C, rank 2, lives 3600 s, told true
register d: 403 device_limit_reached, 3 of 3, active
validate a: true ALLOW no error
revoke a: true, changed true
validate a: false DEVICE_REVOKED no error
validate : false INVALID_DEVICE_ID missing_params
validate_batch a: false DEVICE_REVOKED
validate_batch b: true ALLOW
validate_batch nobody: false DEVICE_NOT_FOUND
revoke_batch b: ok, changed true
revoke_batch nobody: not_found, changed false
list: a revoked true, b revoked true
list: c active false
revoke_batch all: 1
get nobody: 404 device_not_found
`

// warned finds what redocly says of a document beside whether it is valid. The others fail of themselves.
var warned = regexp.MustCompile(`You have \d+ warning`)

// toCome are values of today, each before one that there may be some day.
var toCome = []string{
	"DEVICE_REVOKED", "DEVICE_ASLEEP", "DEVICE_NOT_FOUND", "DEVICE_GONE", "device_limit_reached", "device_full", "device_not_found", "device_gone",
	"missing_params", "no_params", "INVALID_DEVICE_ID", "NO_DEVICE", "not_found", "gone", "revoked", "asleep", "active", "awake", "blocked", "full",
}

// TestForeignClients has generators of clients, which know nothing but /openapi.json, make a client of what each tier serves, compiles it, and makes typed calls with
// it: of that tier, and of one that answers with values and fields that there are not yet.
// MACHINEID_TEST_CLIENTS is the folder where make has installed them.
func TestForeignClients(t *testing.T) {
	t.Setenv("PATH", installed(t, "python/bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	w := startTiers(t)
	for _, tier := range []struct{ name, addr string }{{"authority", w.authority.http}, {"edge", w.edge.http}} {
		t.Run(tier.name, func(t *testing.T) {
			resp, err := http.Get("http://" + tier.addr + "/openapi.json")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			document, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			newer := httptest.NewServer(ofLater(t, tier.addr))
			defer newer.Close()
			for _, g := range makers {
				t.Run(g.name, func(t *testing.T) {
					dir := g.unfold(t, document)
					began := time.Now()
					for _, step := range g.make {
						g.must(t, dir, step)
					}
					made := time.Now()
					for _, step := range g.build {
						g.must(t, dir, step)
					}
					built := time.Now()
					if g.call != nil {
						g.calls(t, dir, w.authority.http, "http://"+tier.addr, called)
						g.calls(t, dir, w.authority.http, newer.URL, strings.NewReplacer(toCome...).Replace(called))
					}
					t.Logf("%s, %s: made in %.1f s, built in %.1f s, called in %.1f s", tier.name, g.name,
						made.Sub(began).Seconds(), built.Sub(made).Seconds(), time.Since(built).Seconds())
				})
			}
		})
	}
}

// unfold returns a folder with the document and the generator's source.
func (g *maker) unfold(t *testing.T, document []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../../shared/openapi/clients/"+g.source)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o600); err != nil {
		t.Fatal(err)
	}
	if g.source == "npm" {
		if err := os.Symlink(installed(t, "npm/node_modules"), filepath.Join(dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// installed is the path of something that make has installed.
func installed(t *testing.T, name string) string {
	t.Helper()
	at, err := filepath.Abs(filepath.Join(os.Getenv("MACHINEID_TEST_CLIENTS"), name))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// step runs a command, and returns what it printed, and what it said beside that. Nothing is reported to anybody.
func (g *maker) step(t *testing.T, dir string, command []string, environ ...string) (printed, said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, append(bareEnviron(), append(environ, "REDOCLY_TELEMETRY=off", "SCARF_ANALYTICS=false", "PYTHONDONTWRITEBYTECODE=1")...)
	var out, beside bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &beside
	err = cmd.Run()
	return out.String(), beside.String(), err
}

// must runs a command that has nothing to complain about.
func (g *maker) must(t *testing.T, dir string, command []string) {
	t.Helper()
	if printed, said, err := g.step(t, dir, command); err != nil || warned.MatchString(printed+said) {
		t.Fatalf("%s: %v\n%s%s", strings.Join(command, " "), err, printed, said)
	}
}

// tries is how often a client calls, if it was told that nothing can be proved: on a machine that does much else that is a right answer.
const tries = 10

// calls has the client that was made call a tier for a new org, and compares what it prints.
func (g *maker) calls(t *testing.T, dir, authority, tier, want string) {
	t.Helper()
	for try := range tries {
		key := newClient(t, authority).createOrg(t).admin
		printed, said, err := g.step(t, dir, g.call, "MACHINEID_BASE_URL="+tier, "MACHINEID_ORG_KEY="+key)
		if try < tries-1 && strings.Contains(strings.ToUpper(printed+said), "SYSTEM_UNAVAILABLE") {
			continue
		}
		if err != nil || printed != want {
			t.Errorf("%s: %v, prints\n%s%swant\n%s", tier, err, printed, said, want)
		}
		return
	}
}

// ofLater is a tier whose answers have values and fields that there are not yet.
func ofLater(t *testing.T, addr string) http.Handler {
	t.Helper()
	values := make([]string, 0, 2*len(toCome))
	for _, value := range toCome {
		values = append(values, `:"`+value+`"`)
	}
	change := strings.NewReplacer(append(values, `"propagation":{`, `"propagation":{"later":[1],`)...)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.ModifyResponse = func(resp *http.Response) error {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		text := `{"later":{"from":null},` + strings.TrimPrefix(change.Replace(string(body)), "{")
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		resp.Header.Set("Content-Length", strconv.Itoa(len(text)))
		return nil
	}
	return proxy
}
