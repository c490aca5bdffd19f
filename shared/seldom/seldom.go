// Package seldom logs what strangers can cause as often as they like: a line a minute, which tells how many were left out.
package seldom

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Every is how often one kind of line is logged.
const Every = time.Minute

// Line is one kind of line. It is safe for concurrent use, and its zero value is ready.
type Line struct {
	mu   sync.Mutex
	last time.Time
	left int64
}

// Say logs, unless this kind of line was logged within the last minute. The message must be static.
func (l *Line) Say(ctx context.Context, log *slog.Logger, level slog.Level, message string, attrs ...slog.Attr) {
	l.mu.Lock()
	now := time.Now()
	if !l.last.IsZero() && now.Sub(l.last) < Every {
		l.left++
		l.mu.Unlock()
		return
	}
	left := l.left
	l.last, l.left = now, 0
	l.mu.Unlock()
	if left > 0 {
		attrs = append(attrs, slog.Int64("lines_left_out", left))
	}
	log.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // messages are static where it is called
}
