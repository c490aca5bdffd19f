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
		time.Sleep(Every)
		line.Say(t.Context(), log, slog.LevelWarn, "trouble", slog.Int("n", 7))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || strings.Contains(lines[0], "left_out") || !strings.Contains(lines[1], "n=7 lines_left_out=999") {
			t.Errorf("%q", lines)
		}
	})
}
