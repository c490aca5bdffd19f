package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// raftLogger carries hashicorp/raft's log into slog. Its messages become the attribute "event", so that ours stay static, and
// its info messages are debug here: what an operator must know about leadership, lead.go says itself.
type raftLogger struct {
	out  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*raftLogger)(nil)

func newRaftLogger(out *slog.Logger) hclog.Logger { return &raftLogger{out: out, name: "raft"} }

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	to := slogLevel(level)
	if closedByUs(args) {
		to = slog.LevelDebug
	}
	if !l.out.Enabled(context.Background(), to) {
		return
	}
	attrs := make([]slog.Attr, 0, 2+len(args)/2+len(l.args)/2)
	attrs = append(attrs, slog.String("event", msg))
	attrs = appendAttrs(attrs, l.args)
	attrs = appendAttrs(attrs, args)
	l.out.LogAttrs(context.Background(), to, "raft", attrs...)
}

// closedByUs recognises what raft says of connections that this node itself has ended, as it does with all of them at the end.
func closedByUs(args []any) bool {
	for _, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, net.ErrClosed) {
			return true
		}
	}
	return false
}

func appendAttrs(attrs []slog.Attr, args []any) []slog.Attr {
	for i := 0; i+1 < len(args); i += 2 {
		key := strings.ReplaceAll(fmt.Sprint(args[i]), "-", "_")
		value := args[i+1]
		if f, ok := value.(hclog.Format); ok && len(f) > 0 {
			value = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		attrs = append(attrs, slog.Any(key, value))
	}
	return attrs
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) enabled(level hclog.Level) bool {
	return l.out.Enabled(context.Background(), slogLevel(level))
}

func (l *raftLogger) IsTrace() bool        { return false }
func (l *raftLogger) IsDebug() bool        { return l.enabled(hclog.Debug) }
func (l *raftLogger) IsInfo() bool         { return l.enabled(hclog.Info) }
func (l *raftLogger) IsWarn() bool         { return l.enabled(hclog.Warn) }
func (l *raftLogger) IsError() bool        { return l.enabled(hclog.Error) }
func (l *raftLogger) ImpliedArgs() []any   { return l.args }
func (l *raftLogger) Name() string         { return l.name }
func (l *raftLogger) SetLevel(hclog.Level) {}

func (l *raftLogger) GetLevel() hclog.Level {
	if l.IsDebug() {
		return hclog.Debug
	}
	return hclog.Warn
}

func (l *raftLogger) With(args ...any) hclog.Logger {
	all := make([]any, 0, len(l.args)+len(args))
	all = append(append(all, l.args...), args...)
	return &raftLogger{out: l.out, name: l.name, args: all}
}

func (l *raftLogger) Named(name string) hclog.Logger {
	return &raftLogger{out: l.out, name: l.name + "." + name, args: l.args}
}

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	return &raftLogger{out: l.out, name: name, args: l.args}
}

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return writerFunc(func(p []byte) { l.Warn(strings.TrimSpace(string(p))) })
}

type writerFunc func(p []byte)

func (w writerFunc) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
