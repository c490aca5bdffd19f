package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"machineid/bench/report"
)

// Screen shows a run while it is under way: on a terminal a picture that is drawn anew each second, elsewhere one line a second. Its
// methods are for one goroutine.
type Screen struct {
	w        io.Writer
	terminal bool
	title    string

	lines int       // of the picture that stands there
	rates []float64 // of the last seconds
	what  string    // what is being prepared
	said  time.Time // when that was last said
	began time.Time
}

// NewScreen writes to w, which may be a terminal.
func NewScreen(w io.Writer, terminal bool, title string) *Screen {
	return &Screen{w: w, terminal: terminal, title: title}
}

const (
	barWidth  = 30
	history   = 60              // seconds in the sparkline
	sayEvery  = 5 * time.Second // of progress without a terminal
	clearLine = "\r\x1b[K"
)

// Progress shows how far a preparation is.
func (s *Screen) Progress(what string, done, total int) {
	now := time.Now()
	if what != s.what {
		s.wipe()
		s.what, s.began, s.said = what, now, now
	}
	full := done >= total
	if s.terminal {
		filled := barWidth * done / max(total, 1)
		fmt.Fprintf(s.w, "%s%-40s [%s%s] %d/%d  %s", clearLine, what, strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done, total, now.Sub(s.began).Round(time.Second))
		if full {
			fmt.Fprintln(s.w)
		}
	} else if full || now.Sub(s.said) >= sayEvery {
		s.said = now
		fmt.Fprintf(s.w, "%s: %d of %d\n", what, done, total)
	}
	if full {
		s.what = ""
	}
}

// Watch shows one second.
func (s *Screen) Watch(sec Second) {
	if !s.terminal {
		fmt.Fprintln(s.w, sec.line())
		return
	}
	rate := sec.Rate()
	if sec.warming() {
		rate = float64(sec.Warm)
	}
	if s.rates = append(s.rates, rate); len(s.rates) > history {
		s.rates = s.rates[1:]
	}
	phase := fmt.Sprintf("%.0f s left", sec.Left.Seconds())
	if sec.warming() {
		phase = "warming up, " + phase
	}
	picture := []string{
		fmt.Sprintf("%s  %s", s.title, phase),
		fmt.Sprintf("rate %10.0f/s   p50 %8s   p99 %8s   p99.9 %8s", rate, report.Duration(sec.P50), report.Duration(sec.P99), report.Duration(sec.P999)),
		"     " + sparkline(s.rates),
		fmt.Sprintf("errors %s   violations %d", sec.failures(), sec.Violations),
	}
	for _, op := range sec.Ops {
		picture = append(picture, fmt.Sprintf("%-12s %8d   errors %d   p50 %s   p99 %s", op.Name, op.Count, op.Errors,
			report.Duration(op.LatencyMs.P50), report.Duration(op.LatencyMs.P99)))
	}
	s.wipe()
	for _, line := range picture {
		fmt.Fprintln(s.w, line)
	}
	s.lines = len(picture)
}

// wipe takes the picture away.
func (s *Screen) wipe() {
	if s.lines > 0 {
		fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", s.lines)
		s.lines = 0
	}
}

// warming reports whether a second is of the warm-up, but for a moment of it.
func (s *Second) warming() bool { return s.At <= 0 || (s.Count == 0 && s.Warm > 0) }

// line is a second as one line.
func (s *Second) line() string {
	if s.warming() {
		return fmt.Sprintf("warm-up: %d requests", s.Warm)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%6.1fs rate %.0f/s p50 %s p99 %s p99.9 %s errors %s violations %d", s.At, s.Rate(),
		report.Duration(s.P50), report.Duration(s.P99), report.Duration(s.P999), s.failures(), s.Violations)
	for _, op := range s.Ops {
		fmt.Fprintf(&b, " %s %d", op.Name, op.Count)
		if op.Errors > 0 {
			fmt.Fprintf(&b, " (%d errors)", op.Errors)
		}
	}
	return b.String()
}

// failures are the errors of a second, by code.
func (s *Second) failures() string {
	if s.Errors == 0 {
		return "0"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Codes)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, s.Codes[name]))
	}
	return fmt.Sprintf("%d (%s)", s.Errors, strings.Join(parts, ", "))
}

// sparkline draws values as bars from 0 to the highest.
func sparkline(values []float64) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	highest := 0.0
	for _, v := range values {
		highest = max(highest, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if highest > 0 {
			i = int(v / highest * float64(len(bars)-1))
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}
