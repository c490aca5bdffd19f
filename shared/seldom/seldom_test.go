package seldom

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestALineAMinute: the first is told at once, the next a minute later, with how many there were in between.
func TestALineAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, line := slog.New(slog.NewTextHandler(&out, nil)), Line{}
		for range 1000 {
			line.Say(t.Context(), log, slog.LevelWarn, "trouble")
		}
		time.Sleep(time.Minute - 1)
		line.Say(t.Context(), log, slog.LevelWarn, "trouble")
		time.Sleep(time.Nanosecond)
		line.Say(t.Context(), log, slog.LevelWarn, "trouble", slog.Int("n", 7))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || strings.Contains(lines[0], "left_out") || !strings.Contains(lines[1], "n=7 lines_left_out=1000") {
			t.Errorf("%q", lines)
		}
	})
}

// TestAFewAMinute: of lines that may be several a minute the first come at once, and what is beyond is counted.
func TestAFewAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, line := slog.New(slog.NewTextHandler(&out, nil)), Line{Most: 3}
		for range 10 {
			line.Say(t.Context(), log, slog.LevelDebug, "of no interest, and not counted")
			line.Say(t.Context(), log, slog.LevelWarn, "trouble")
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		for range 10 {
			line.Say(t.Context(), log, slog.LevelWarn, "trouble")
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 6 || !strings.Contains(lines[3], "lines_left_out=7") || strings.Contains(lines[4], "left_out") {
			t.Errorf("%q", lines)
		}
	})
}

// TestABoundedLogger: each message, and each event, has its own few lines a minute; debug has no bound, and no number of kinds takes more than there is room for.
func TestABoundedLogger(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := Logger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		for range 24 {
			log.Warn("trouble")
			log.With(slog.Int("n", 1)).Warn("library", slog.String("event", "x"))
			log.WithGroup("g").Warn("library", slog.Int("n", 1), slog.String("event", "y"))
			log.Warn("library", slog.Int("n", 1), slog.String("event", "z"))
			log.Debug("detail")
		}
		for what, want := range map[string]int{"msg=trouble": 8, "event=x": 8, "event=y": 8, "event=z": 8, "msg=detail": 24, "left_out": 0} {
			if n := strings.Count(out.String(), what); n != want {
				t.Errorf("%d lines of %s, want %d", n, what, want)
			}
		}
		time.Sleep(time.Minute)
		log.Warn("trouble")
		if !strings.Contains(out.String(), "lines_left_out=16") {
			t.Errorf("what was left out is not told: %s", &out)
		}
		out.Reset()
		log = Logger(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 6_000 {
			log.Warn("kind", slog.Int("event", i))
		}
		if n := strings.Count(out.String(), "\n"); n != 512+8 {
			t.Errorf("%d lines of ever new kinds", n)
		}
	})
}
