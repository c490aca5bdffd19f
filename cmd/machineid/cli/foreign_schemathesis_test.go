//go:build foreign

package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"machineid/authority/billing/stripetest"
)

// TestForeignSchemathesis has schemathesis, which knows nothing but /openapi.json, try each tier with what the document allows and with what it does not.
// What it finds and we do not agree with stands with its reason in shared/openapi/schemathesis/schemathesis.toml.
// MACHINEID_TEST_SCHEMATHESIS is the folder of its virtual environment, MACHINEID_TEST_SCHEMATHESIS_FLAGS what it is told beside.
func TestForeignSchemathesis(t *testing.T) {
	venv, err := filepath.Abs(os.Getenv("MACHINEID_TEST_SCHEMATHESIS"))
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Abs("../../../shared/openapi/schemathesis")
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(clusterToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := startTiers(t, append(stripeFlags(t, stripetest.New(t)), "--operator-token-file", token)...)
	full := startEdge(t, w.authority.link, "--proxy-operator")
	full.ready()
	for tier, addr := range map[string]string{"authority": w.authority.http, "edge": full.http} {
		t.Run(tier, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			args := []string{"--config-file", filepath.Join(folder, "schemathesis.toml"), "--no-color", "run", "http://" + addr + "/openapi.json"}
			cmd := exec.CommandContext(ctx, filepath.Join(venv, "bin/schemathesis"), append(args, strings.Fields(os.Getenv("MACHINEID_TEST_SCHEMATHESIS_FLAGS"))...)...)
			cmd.Dir = t.TempDir()
			cmd.Env = append(bareEnviron(), "SCHEMATHESIS_HOOKS=hooks", "PYTHONPATH="+folder, "PYTHONDONTWRITEBYTECODE=1",
				"MACHINEID_TEST_AUTHORITY="+w.authority.http, "MACHINEID_TEST_OPERATOR_TOKEN="+clusterToken)
			said, err := cmd.CombinedOutput()
			t.Logf("%s", said)
			if err != nil {
				t.Error(err)
			}
		})
	}
}
