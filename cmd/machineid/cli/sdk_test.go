//go:build unix

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/internal/testkit/program"
	sdk "machineid/sdk/go"
)

// ranTests is unittest's closing lines: how many tests ran, and that none failed and none was skipped.
var ranTests = regexp.MustCompile(`(?m)^Ran (\d+) tests? in [\d.]+s\n\nOK$`)

// TestPythonClient runs the tests of sdk/python, which start this test binary as their servers.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	python := program.Find(t, "python3", "python3") // 3.9 or newer
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const most = 8 * time.Minute // it takes a minute, of which a cluster that is taken apart has half
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	files := "test_*.py"
	if testing.Short() {
		files = "test_*[!r].py" // without test_cluster and test_server, which take a minute and more
	}
	cmd := exec.CommandContext(ctx, python, "-B", "-W", "error::ResourceWarning", "-m", "unittest", "discover", "--start-directory", "tests", "--top-level-directory", ".", "--pattern", files)
	cmd.Dir = filepath.Join("..", "..", "..", "sdk", "python")
	cmd.Env = append(bareEnviron(), "MACHINEID_TEST_SERVER="+self)
	cmd.WaitDelay = patient
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python3 -m unittest: %v\n%s", err, said)
	}
	const least = 100 // a discovery that finds nothing succeeds too
	if found := ranTests.FindSubmatch(said); found == nil {
		t.Errorf("tests were skipped, or none ran:\n%s", said)
	} else if n, err := strconv.Atoi(string(found[1])); err != nil || n < least {
		t.Errorf("only %d tests ran, want at least %d (%v)", n, least, err)
	}
}

// TestGoClient plays sdk/go against real servers: a device's life, work that a revoke stops, many callers, and an authority that is lost.
func TestGoClient(t *testing.T) {
	t.Parallel()
	tiers := startTiers(t, "--lease", "1s")
	ctx := t.Context()
	base := "http://" + tiers.edge.http
	org, err := sdk.OrgCreate(ctx, sdk.Config{BaseURL: base}, sdk.NewOrg{Name: "go"})
	if err != nil {
		t.Fatal(err)
	}
	client := goClient(t, base, org["orgApiKey"])
	agent := goClient(t, base, org["agentKey"])
	goDeviceLives(t, client, agent)
	goRefusals(t, goClient(t, base, org["orgApiKey"]), agent)
	goWorkStops(t, client, agent)
	goManyCallers(t, client, agent)
	goBatches(t, client, agent)
	goKeyRotates(t, base, client)

	tiers.authority.kill()
	eventually(t, patient, "the lease runs out", func() bool { return agent.Validate(ctx, "agent-0").Code == sdk.CodeSystemUnavailable })
	if d := agent.Validate(ctx, "agent-0"); d.Allowed || d.Err == nil {
		t.Errorf("without an authority: %+v", d)
	}
	_, err = client.Revoke(ctx, "agent-0")
	if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Refused || e.Outcome == sdk.Committed {
		t.Errorf("revoke without an authority: %v", err)
	}
	tiers.edge.kill()
	if d := agent.Validate(ctx, "agent-0"); d.Allowed || d.Code != sdk.CodeSystemUnavailable {
		t.Errorf("without an edge: %+v", d)
	}
}

func goClient(t *testing.T, base string, key any) *sdk.Client {
	t.Helper()
	c, err := sdk.New(sdk.Config{OrgKey: fmt.Sprint(key), BaseURL: base})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func goDeviceLives(t *testing.T, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	is := func(id, want string) {
		t.Helper()
		if d := agent.Validate(ctx, id); d.Code != want || d.Allowed != (want == codeAllow) || d.Err != nil {
			t.Errorf("validate %s: %+v, want %s", id, d, want)
		}
	}
	must := func(_ sdk.Object, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	is("worker/α", "DEVICE_NOT_FOUND")
	must(agent.Register(ctx, "worker/α", sdk.RegisterOptions{Name: "n", Metadata: sdk.Object{"x": 1}, TTLSeconds: 60}))
	// What an agent may write nobody may stumble over who lists: the longest numbers and the deepest nesting that the server takes.
	long := json.RawMessage(`{"whole":` + strings.Repeat("9", 300) + `,"part":0.` + strings.Repeat("3", 3000) + `,"deep":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + "}")
	must(agent.Register(ctx, "long", sdk.RegisterOptions{Metadata: sdk.Object{"x": long}}))
	must(client.ListDevices(ctx, 0, ""))
	must(client.GetDevice(ctx, "long"))
	must(client.Remove(ctx, "long"))
	is("\u3000worker/α\x1f", codeAllow)
	must(client.GetDevice(ctx, "worker/α"))
	must(client.Revoke(ctx, "worker/α"))
	is("worker/α", codeRevoked)
	must(client.Restore(ctx, "worker/α"))
	is("worker/α", codeAllow)
	must(client.OrgExecution(ctx, false))
	is("worker/α", "ORG_DISABLED")
	must(client.OrgExecution(ctx, true))
	must(client.Usage(ctx))
	must(client.Org(ctx))
	n := 0
	for _, err := range client.Devices(ctx, 1) {
		must(nil, err)
		n++
	}
	if n != 1 {
		t.Errorf("%d devices", n)
	}
	must(client.Remove(ctx, "worker/α"))
	is("worker/α", "DEVICE_NOT_FOUND")
}

func goRefusals(t *testing.T, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	_, scope := agent.Revoke(ctx, "x")
	_, unknown := client.Revoke(ctx, "x")
	for want, err := range map[string]error{"insufficient_scope": scope, "device_not_found": unknown} {
		if e, ok := errors.AsType[*sdk.Error](err); !ok || !e.Refused || e.Code != want || e.Outcome != sdk.NotDone {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := client.ReplaceKey("org_nonsense"); err != nil {
		t.Fatal(err)
	}
	_, err := client.Usage(ctx)
	if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Code != "invalid_org_key" {
		t.Errorf("%v", err)
	}
	if d := client.Validate(ctx, "x"); d.Code != "INVALID_ORG_KEY" || d.Allowed {
		t.Errorf("%+v", d)
	}
}

func goWorkStops(t *testing.T, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	if _, err := agent.Register(ctx, "agent-0", sdk.RegisterOptions{}); err != nil {
		t.Fatal(err)
	}
	err := agent.Guard(ctx, "agent-0", 20*time.Millisecond, func(ctx context.Context) error {
		if _, err := client.Revoke(ctx, "agent-0"); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if denied, ok := errors.AsType[*sdk.DeniedError](err); !ok || denied.Decision.Code != codeRevoked {
		t.Errorf("guarded work ended with %v", err)
	}
	if _, err := client.Unrevoke(ctx, "agent-0"); err != nil {
		t.Error(err)
	}
}

func goManyCallers(t *testing.T, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	if _, err := client.Register(ctx, "agent-1", sdk.RegisterOptions{}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 50 {
				id, want := fmt.Sprint("agent-", (g+i)%4), (g+i)%4 < 2
				if d := agent.Validate(ctx, id); d.Allowed != want || d.DeviceID != id || d.Err != nil {
					t.Errorf("validate %s: %+v", id, d)
				}
			}
		})
	}
	all.Wait()
}

func goBatches(t *testing.T, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	ids := []string{"agent-0", " agent-1", "nobody"}
	codes := func(want ...string) {
		t.Helper()
		for i, d := range agent.ValidateBatch(ctx, ids) {
			if d.Code != want[i] || d.Allowed != (want[i] == codeAllow) || d.Err != nil {
				t.Errorf("decision %d: %+v, want %s", i, d, want[i])
			}
		}
	}
	codes(codeAllow, codeAllow, "DEVICE_NOT_FOUND")
	if a, err := client.RevokeBatch(ctx, sdk.Batch{DeviceIDs: ids}); err != nil || fmt.Sprint(a["revokedCount"]) != "2" {
		t.Error(a, err)
	}
	codes(codeRevoked, codeRevoked, "DEVICE_NOT_FOUND")
	if a, err := client.UnrevokeBatch(ctx, sdk.Batch{Scope: "all_revoked"}); err != nil || fmt.Sprint(a["unrevokedCount"]) != "2" {
		t.Error(a, err)
	}
	codes(codeAllow, codeAllow, "DEVICE_NOT_FOUND")
}

// goKeyRotates takes the key away from under a client, and gives it the next.
func goKeyRotates(t *testing.T, base string, client *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	made, err := client.OrgKeysCreate(ctx, "worker", "validate", "")
	if err != nil {
		t.Fatal(err)
	}
	worker := goClient(t, base, made["orgApiKey"])
	if d := worker.Validate(ctx, "agent-0"); !d.Allowed {
		t.Errorf("%+v", d)
	}
	next, err := client.OrgKeysRotate(ctx, fmt.Sprint(made["keyId"]), 0)
	if err != nil {
		t.Fatal(err)
	}
	if d := worker.Validate(ctx, "agent-0"); d.Allowed || d.Code != "ORG_NOT_FOUND" {
		t.Errorf("with a key that was rotated: %+v", d)
	}
	if err := worker.ReplaceKey(fmt.Sprint(next["orgApiKey"])); err != nil {
		t.Fatal(err)
	}
	if d := worker.Validate(ctx, "agent-0"); !d.Allowed {
		t.Errorf("%+v", d)
	}
	if _, err := client.OrgKeysRevoke(ctx, fmt.Sprint(next["keyId"])); err != nil {
		t.Error(err)
	}
	if d := worker.Validate(ctx, "agent-0"); d.Allowed {
		t.Errorf("with a key that was revoked: %+v", d)
	}
}
