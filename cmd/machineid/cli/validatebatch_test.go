//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

type decisionsView struct {
	Decisions []struct {
		DeviceID *string
		Index    *int
		Allowed  bool
		Code     string
	}
}

// decisions asks about several devices and tells, in one line each, what was said.
func (c *client) decisions(tb testing.TB, key string, ids ...any) (said []string, cache string) {
	tb.Helper()
	body, err := json.Marshal(map[string]any{"deviceIds": ids})
	if err != nil {
		tb.Fatal(err)
	}
	var a *reply
	eventually(tb, patient, "every question is decided", func() bool { // a busy machine may be late with some
		a = c.must(tb, "devices/validate_batch", key, string(body))
		return !strings.Contains(a.raw, codeUnsure)
	})
	var v decisionsView
	if err := json.Unmarshal([]byte(a.raw), &v); err != nil || a.body["allowed"] != nil {
		tb.Fatalf("%v: %s", err, a.raw)
	}
	for _, d := range v.Decisions {
		name := "?"
		switch {
		case d.DeviceID != nil:
			name = *d.DeviceID
		case d.Index != nil:
			name = fmt.Sprintf("#%d", *d.Index)
		}
		if d.Allowed != (d.Code == codeAllow) {
			tb.Errorf("allowed %t with %s", d.Allowed, d.Code)
		}
		said = append(said, name+" "+d.Code)
	}
	return said, a.Header.Get("X-Cache")
}

// TestValidateBatch: both tiers decide alike, in the order of the questions, and each change is in force in the next batch.
func TestValidateBatch(t *testing.T) {
	t.Parallel()
	w := newHostileWorld(t)
	for tier, addr := range w.tiers() {
		t.Run(tier, func(t *testing.T) {
			c := newClient(t, addr)
			want := []string{"d1 ALLOW", "nobody DEVICE_NOT_FOUND", "d0 DEVICE_REVOKED", "d1 ALLOW", "#4 INVALID_DEVICE_ID", " INVALID_DEVICE_ID", "d2 ALLOW"}
			ask := func() (string, string) {
				said, cache := c.decisions(t, w.full.agent, "d1", " nobody\n", "d0", "d1", 7, "", "d2")
				return fmt.Sprint(said), cache
			}
			if said, cache := ask(); said != fmt.Sprint(want) || cache != "miss" {
				t.Errorf("%s %s, want %q", cache, said, want)
			}
			if tier == "edge" {
				eventually(t, patient, "the edge holds all of them", func() bool {
					said, cache := ask()
					if said != fmt.Sprint(want) {
						t.Fatalf("%s, want %q", said, want)
					}
					return cache == "hit"
				})
			}
			if said, _ := c.decisions(t, w.disabled.agent, "a", nil, "b"); fmt.Sprint(said) != "[a ORG_DISABLED #1 INVALID_DEVICE_ID b ORG_DISABLED]" {
				t.Errorf("disabled: %q", said)
			}
			if said, _ := c.decisions(t, w.nobody, "a", "b"); fmt.Sprint(said) != "[a ORG_NOT_FOUND b ORG_NOT_FOUND]" {
				t.Errorf("nobody's key: %q", said)
			}
			many := make([]any, 500)
			for i := range many {
				many[i] = fmt.Sprintf("%s-%d", tier, i)
			}
			many[499] = "d2"
			said, _ := c.decisions(t, w.full.agent, many...)
			for i, s := range said {
				if i < 499 && s != fmt.Sprintf("%s-%d DEVICE_NOT_FOUND", tier, i) || i == 499 && s != "d2 ALLOW" {
					t.Errorf("%d: %s", i, s)
				}
			}
			if a, err := c.post("devices/validate_batch", w.full.agent, `{"deviceIds":[`+string(manyOnes(501))+`]}`); err != nil || a.StatusCode != http.StatusBadRequest {
				t.Errorf("501 questions: %v %v", a, err)
			}
			// What has changed is told in the next one.
			admin := newClient(t, w.authority)
			admin.must(t, "devices/revoke", w.full.admin, naming("d2"))
			if said, _ := c.decisions(t, w.full.agent, "d1", "d2"); fmt.Sprint(said) != "[d1 ALLOW d2 DEVICE_REVOKED]" {
				t.Errorf("after the revoke: %q", said)
			}
			admin.must(t, "devices/unrevoke", w.full.admin, naming("d2"))
			if said, _ := c.decisions(t, w.full.agent, "d2"); fmt.Sprint(said) != "[d2 ALLOW]" {
				t.Errorf("after the unrevoke: %q", said)
			}
		})
	}
}

// manyOnes is a list of n ones.
func manyOnes(n int) []byte {
	b := make([]byte, 0, 2*n)
	for range n {
		b = append(b, '1', ',')
	}
	return b[:len(b)-1]
}
