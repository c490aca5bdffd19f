//go:build unix

package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAChangeNamesTheEdgesThatItWaitedFor, for people and for scripts, of every command that changes something of an org. One that waited for nobody does not.
func TestAChangeNamesTheEdgesThatItWaitedFor(t *testing.T) {
	t.Parallel()
	answer := func(t *testing.T, waits bool) string {
		t.Helper()
		asked := make(chan struct{}, 64)
		s := httptest.NewServer(asNode(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "operator/edges"):
				asked <- struct{}{}
				_, _ = io.WriteString(w, `{"status":"ok","node":"a1","edges":[{"id":"e\"2","behind":1},{"id":"e1","behind":0}]}`)
			case waits:
				for range 2 { // who asks again has read the first answer
					select {
					case <-asked:
					case <-r.Context().Done():
					}
				}
				_, _ = io.WriteString(w, `{"status":"ok","changed":true,"propagation":{"edges":2,"confirmed":1,"expired":1,"elapsedMs":3000}}`+"\n")
			default:
				_, _ = io.WriteString(w, `{"status":"ok","changed":true,"propagation":{"edges":2,"confirmed":2,"elapsedMs":1}}`)
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(strings.Repeat("t", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, waits := range []bool{true, false} {
		for _, args := range [][]string{
			{"device", "revoke", anOrg, "d"},
			{"device", "restore", anOrg, "d"},
			{"device", "remove", anOrg, "d"},
			{"key", "create", anOrg},
			{"key", "rotate", anOrg, "k"},
			{"key", "revoke", anOrg, "k"},
			{"org", "freeze", anOrg},
			{"org", "plan", anOrg, "pro"},
			{"org", "disable", anOrg},
			{"org", "delete", anOrg, "--confirm", anOrg},
		} {
			t.Run(strings.Join(args[:2], " "), func(t *testing.T) {
				t.Parallel()
				reach := func(more ...string) []string { // a server for each call: what it was asked is of that call
					return slices.Concat(args, []string{"--operator-url", answer(t, waits), "--operator-token-file", token, "--timeout", patient.String()}, more)
				}
				code, out, errs := commandLine(reach("-o", "json")...)
				var got struct {
					Changed   bool
					WaitedFor []string
				}
				if err := json.Unmarshal([]byte(out), &got); code != exitDone || err != nil || !got.Changed || (len(got.WaitedFor) == 1 && got.WaitedFor[0] == `e"2`) != waits || strings.Contains(out, "waitedFor") != waits {
					t.Errorf("waits: %t: exit code %d, %v\n%s%s", waits, code, err, out, errs)
				}
				if _, out, _ := commandLine(reach()...); strings.Contains(out, `e"2`) != waits {
					t.Errorf("waits: %t:\n%s", waits, out)
				}
			})
		}
	}
}
