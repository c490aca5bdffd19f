package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// raftLogger carries hashicorp/raft's log into slog. Its messages become the attribute "event", so that ours stay static, and
// its info messages are debug here: what an operator must know about leadership, tidings.go says itself, and so is what raft warns of
// with each attempt, several times a second for as long as a member is away.
type raftLogger struct {
	out  *slog.Logger
	name string
	args []any
	// peer is told of each attempt to reach a member that failed; nil: nobody is.
	peer func(address string, err error)
}

var _ hclog.Logger = (*raftLogger)(nil)

func newRaftLogger(out *slog.Logger) *raftLogger {
	return &raftLogger{out: out, name: "raft"}
}

// told are the events of states that this node tells of by itself, when they begin and when they end: no leader, a member that does not answer. And those of
// every election and every node that joins.
var told = []string{
	"failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries", "failed to start pipeline replication to", "failed to make requestVote RPC",
	"failed to contact", "failed to contact quorum of nodes, stepping down", "new leader elected, stepping down", "peer has newer term, stopping replication",
	"heartbeat timeout reached, ", "Election timeout reached, ", "no known peers, ", "not part of stable configuration, ",
	"rejecting vote request since ", "rejecting pre-vote request since ", "duplicate requestVote from", "unable to get address for server, ",
	"appendEntries rejected, ", "failed to get previous log", "previous log term mis-match", "clearing log suffix", "installSnapshot rejected to",
}

func isTold(event string) bool {
	return slices.ContainsFunc(told, func(start string) bool {
		return event == start || strings.HasSuffix(start, " ") && strings.HasPrefix(event, start)
	})
}

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	to := slogLevel(level)
	if l.peer != nil && msg == "failed to heartbeat to" {
		l.failed(args)
	}
	if closedByUs(args) || isTold(msg) {
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

// failed passes on which member could not be reached, and why.
func (l *raftLogger) failed(args []any) {
	var at string
	var why error
	for i := 0; i+1 < len(args); i += 2 {
		switch v := args[i+1].(type) {
		case raft.ServerAddress:
			at = string(v)
		case error:
			why = v
		}
	}
	if at != "" && why != nil && !closedByUs(args) {
		l.peer(at, why)
	}
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
	with := *l
	with.args = all
	return &with
}

func (l *raftLogger) Named(name string) hclog.Logger {
	return l.ResetNamed(l.name + "." + name)
}

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	named := *l
	named.name = name
	return &named
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
