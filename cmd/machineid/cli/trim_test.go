//go:build unix

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"
	"unicode/utf8"

	"machineid/internal/testkit/program"
	sdk "machineid/sdk/go"
	"machineid/shared/wire"
)

// TestIDsAreTrimmedAlike holds both tiers' rule and the Go client's to Python's str.strip, which the public package machineid-io sends its ids through: by
// each character that there is. (The Python client's own tests hold that one.)
func TestIDsAreTrimmedAlike(t *testing.T) {
	t.Parallel()
	python := program.Find(t, "python3", "python3")
	const list = `print([c for c in range(0x110000) if not 0xd800 <= c < 0xe000 and chr(c).strip() == ""])`
	said, err := exec.CommandContext(t.Context(), python, "-c", list).Output()
	if err != nil {
		t.Fatal(err)
	}
	var white []rune
	if err := json.Unmarshal(said, &white); err != nil || len(white) == 0 {
		t.Fatal(err, string(said))
	}
	trimmed := map[rune]bool{}
	for _, r := range white {
		trimmed[r] = true
	}
	var ids []string
	var want []string
	for r := range rune(utf8.MaxRune + 1) {
		if !utf8.ValidRune(r) {
			continue
		}
		c := string(r)
		ids = append(ids, c+"a"+c+"a"+c)
		want = append(want, ids[len(ids)-1])
		if trimmed[r] {
			want[len(want)-1] = "a" + c + "a"
		}
		if got := string(wire.Trim([]byte(ids[len(ids)-1]))); got != want[len(want)-1] {
			t.Errorf("wire.Trim, %U: %q", r, got)
		}
	}
	client, err := sdk.New(sdk.Config{OrgKey: "org_x"})
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel() // nobody is asked: the decisions name the ids all the same
	for i, d := range client.ValidateBatch(over, ids) {
		if d.DeviceID != want[i] {
			t.Errorf("the client, %q: %q", ids[i], d.DeviceID)
		}
	}
}

// TestIDsAreTrimmedAtEachTier: what is registered with white space around it is what a revoke without it switches off, and the other way, whoever is asked.
func TestIDsAreTrimmedAtEachTier(t *testing.T) {
	t.Parallel()
	tiers := startTiers(t)
	at := map[string]*client{"edge": newClient(t, tiers.edge.http), "authority": newClient(t, tiers.authority.http)}
	admin := at["edge"].createOrg(t).admin
	ways := []string{"", " ", "\t", "\v", "\x1c", "\x1f", "\u0085", "\u00a0", "\u2007", "\u2028", "\u3000"}
	for i, white := range ways {
		id := fmt.Sprint("agent-", i)
		for name, c := range at {
			around := white + id + white
			if a := c.must(t, "devices/register", admin, naming(around)); a.text("deviceId") != id {
				t.Errorf("%s registers %q as %q", name, around, a.text("deviceId"))
			}
			if code := c.validate(t, admin, around); code != codeAllow {
				t.Errorf("%s, validate %q: %s", name, around, code)
			}
			if a, err := c.post("devices/validate_batch", admin, `{"deviceIds":[`+quoted(around)+`]}`); err != nil || a.body["decisions"].([]any)[0].(map[string]any)["deviceId"] != id { //nolint:errcheck // panics, and so fails the test
				t.Errorf("%s, validate_batch %q: %v, %v", name, around, a, err)
			}
			c.must(t, "devices/revoke_batch", admin, `{"deviceIds":[`+quoted(around)+`]}`)
			for other, c := range at {
				if code := c.validate(t, admin, id); code != codeRevoked {
					t.Errorf("%q was revoked at %s, and %s says %s of %q", around, name, other, code, id)
				}
				if code := c.validate(t, admin, around); code != codeRevoked {
					t.Errorf("%q was revoked at %s, and %s says %s", around, name, other, code)
				}
			}
			c.must(t, "devices/unrevoke", admin, naming(id))
			c.must(t, "devices/remove", admin, naming(around))
		}
	}
}

func quoted(text string) string {
	raw, _ := json.Marshal(text)
	return string(raw)
}
