//go:build linux

package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestTheReasonIsTheLastWord: what a node said of itself is not lost because the last attempt, which the end of the time cuts off, says nothing.
func TestTheReasonIsTheLastWord(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"org", "list"}, {"edges"}, {"audit", "tail"}, {"device", "revoke", anOrg, "a"}, {"org", "create"}, {"operator", "token", "rotate", "--new-token-file", t.TempDir() + "/new"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			url, _ := answering(t, saying(http.StatusServiceUnavailable, sayNotDone), func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // without it nobody sees that the caller has gone
				<-r.Context().Done()
			})
			code, _, errs := operateAt([]string{url}, append(args, "--timeout", "2s")...)
			lines := strings.Split(strings.TrimSpace(errs), "\n")
			for len(lines) > 1 && !strings.HasPrefix(lines[len(lines)-1], "machineid ") {
				lines = lines[:len(lines)-1]
			}
			if last := lines[len(lines)-1]; code != exitUnavailable || !strings.Contains(last, "no node leads") || !strings.Contains(last, "'machineid cluster status --operator-url "+url) {
				t.Errorf("%v: exit code %d: %s", args, code, errs)
			}
		})
	}
}
