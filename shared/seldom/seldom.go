// Package seldom logs what can come as often as it likes, because strangers cause it or because a fault lasts: a line a minute, or a few, the next of which
// tells how many were left out.
package seldom

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Every is how often one kind of line is logged.
const Every = time.Minute

// Changes is Line.Most for lines that tell of a change of state, once each: what comes and goes all the time must not fill the log either.
const Changes = 8

// Line is one kind of line. It is safe for concurrent use, and its zero value is ready.
type Line struct {
	// Most is how many are logged within Every, counted from the first of them; 0 is one.
	Most int

	mu    sync.Mutex
	first time.Time // of those that count
	said  int
	left  int64
}

// Say logs, unless so many of this kind were logged within Every. The message must be static.
func (l *Line) Say(ctx context.Context, log *slog.Logger, level slog.Level, message string, attrs ...slog.Attr) {
	if !log.Enabled(ctx, level) {
		return
	}
	left, ok := l.take()
	if !ok {
		return
	}
	if left > 0 {
		attrs = append(attrs, slog.Int64("lines_left_out", left))
	}
	log.LogAttrs(ctx, level, message, attrs...)
}

// take reports whether a line may be logged now, and how many were left out before it.
func (l *Line) take() (left int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.first.IsZero() || now.Sub(l.first) >= Every {
		l.first, l.said = now, 0
	}
	if l.said >= max(l.Most, 1) {
		l.left++
		return 0, false
	}
	left = l.left
	l.said, l.left = l.said+1, 0
	return left, true
}

// linesMost is how many kinds of lines Logger tells apart; those beyond are one kind.
const linesMost = 512

// Logger bounds what a part of the program logs, each message, and each value of its attribute "event", to Changes lines. Messages must be static.
func Logger(log *slog.Logger) *slog.Logger {
	return slog.New(bounded{log.Handler(), &kinds{lines: map[string]*Line{}}})
}

type kinds struct {
	mu    sync.Mutex
	lines map[string]*Line
}

func (k *kinds) of(r *slog.Record) *Line {
	kind := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" {
			kind += "\x00" + a.Value.String()
		}
		return true
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.lines) >= linesMost && k.lines[kind] == nil {
		kind = ""
	}
	if k.lines[kind] == nil {
		k.lines[kind] = &Line{Most: Changes}
	}
	return k.lines[kind]
}

type bounded struct {
	slog.Handler

	kinds *kinds
}

// Handle implements slog.Handler. What is only logged to debug has no bound.
func (b bounded) Handle(ctx context.Context, r slog.Record) error {
	if r.Level > slog.LevelDebug {
		left, ok := b.kinds.of(&r).take()
		if !ok {
			return nil
		}
		if left > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int64("lines_left_out", left))
		}
	}
	return b.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (b bounded) WithAttrs(attrs []slog.Attr) slog.Handler {
	return bounded{b.Handler.WithAttrs(attrs), b.kinds}
}

// WithGroup implements slog.Handler.
func (b bounded) WithGroup(name string) slog.Handler {
	return bounded{b.Handler.WithGroup(name), b.kinds}
}
