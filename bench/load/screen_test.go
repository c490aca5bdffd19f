package load

import (
	"strings"
	"testing"
	"time"

	"machineid/bench/report"
)

func TestScreen(t *testing.T) {
	t.Parallel()
	warm := Second{Point: report.Point{At: -1}, Warm: 7, Left: 3 * time.Second}
	good := Second{Point: report.Point{At: 1, Length: 1, Count: 1000, P50: 0.1, P99: 2, P999: 30}, Left: 2 * time.Second, Ops: []report.Op{{Name: "revoke", Count: 5, Errors: 1}}}
	bad := Second{Point: report.Point{At: 2, Length: 1, Count: 500, Errors: 3, Codes: map[string]int64{"timeout": 1, "connection_lost": 2}}, Violations: 4}

	var lines strings.Builder
	s := NewScreen(&lines, false, "mixed")
	s.Progress("making orgs", 1, 2)
	s.Progress("making orgs", 2, 2)
	for _, sec := range []Second{warm, good, bad} {
		s.Watch(sec)
	}
	want := `making orgs: 2 of 2
warm-up: 7 requests
   1.0s rate 1000/s p50 100µs p99 2.00ms p99.9 30.00ms errors 0 violations 0 revoke 5 (1 errors)
   2.0s rate 500/s p50 0 p99 0 p99.9 0 errors 3 (connection_lost 2, timeout 1) violations 4
`
	if lines.String() != want {
		t.Errorf("got\n%s\nwant\n%s", lines.String(), want)
	}

	var picture strings.Builder
	s = NewScreen(&picture, true, "mixed")
	s.Progress("making orgs", 1, 2)
	s.Progress("making orgs", 2, 2)
	for _, sec := range []Second{warm, good, bad} {
		s.Watch(sec)
	}
	s.Progress("deleting orgs", 1, 1)
	text := picture.String()
	for _, want := range []string{
		"\r\x1b[Kmaking orgs                              [###############...............] 1/2", "warming up, 3 s left", "▁█▄\n", "errors 3 (connection_lost 2, timeout 1)   violations 4",
		"revoke              5   errors 1", "\x1b[4A\x1b[J", "\x1b[5A\x1b[J", // the picture before is taken away, whole
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}
