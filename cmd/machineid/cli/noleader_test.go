//go:build linux

package cli

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTheReasonIsTheLastWord: what a node said of itself is not lost because the last attempt, which the end of the time cuts off, says nothing.
func TestTheReasonIsTheLastWord(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"org", "list"}, {"edges"}, {"audit", "tail"}, {"device", "revoke", anOrg, "a"}, {"org", "create"}, {"operator", "token", "rotate", "--new-token-file", t.TempDir() + "/new"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			for within := 2 * time.Second; ; within *= 2 { // longer only where the machine is slow
				url, _ := answering(t, saying(http.StatusServiceUnavailable, sayNotDone), func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // without it nobody sees that the caller has gone
					<-r.Context().Done()
				})
				code, _, errs := operateAt([]string{url}, append(slices.Clip(args), "--timeout", within.String())...)
				lines := strings.Split(strings.TrimSpace(errs), "\n")
				i := max(0, slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "machineid ") }))
				told := strings.Contains(lines[i], "no node leads") && strings.Contains(lines[i], "'machineid cluster status --operator-url "+url)
				if told && code == exitUnavailable {
					return
				}
				if within >= patient {
					t.Fatalf("exit code %d: %s", code, errs)
				}
			}
		})
	}
}
