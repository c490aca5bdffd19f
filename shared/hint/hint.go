// Package hint completes the commands that messages tell people to type. Whoever writes a message puts the command between apostrophes, 'machineid cluster
// remove a3'; whoever shows it knows how the cluster is reached from there, and has the command say so: what is shown works as it is typed.
package hint

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

// Callers are the commands that call a cluster, each by its first words.
var Callers = []string{"audit", "billing", "cluster", "device", "edges", "key", "operator", "org", "plan", "snapshot save"}

// A command ends at the next apostrophe that is not between quotation marks.
const rest = `(?:[^'"\n]|"(?:[^"\\\n]|\\.)*")*'`

var (
	command  = regexp.MustCompile(`'machineid (?:` + strings.Join(Callers, "|") + `)\b` + rest)
	commands = regexp.MustCompile(`'machineid ` + rest)
)

// Each changes each command in text.
func Each(text string, change func(string) string) string {
	return commands.ReplaceAllStringFunc(text, change)
}

// URL is the flag that says where a cluster is called. The command that begins one names one node, by a flag of its own.
const (
	URL    = "--operator-url"
	begins = "'machineid cluster init"
)

// Complete gives each command in text those of some flags that it lacks. A flag comes with its value, as it is typed.
func Complete(text string, flags ...string) string {
	if len(flags) == 0 || !strings.Contains(text, "'machineid ") {
		return text
	}
	return command.ReplaceAllStringFunc(text, func(c string) string {
		has := strings.Fields(strings.Trim(c, "'"))
		if slices.Contains(has, "--help") {
			return c // it calls nobody
		}
		for _, flag := range flags {
			name, _, _ := strings.Cut(flag, " ")
			if !slices.Contains(has, name) && (name != URL || !strings.HasPrefix(c, begins)) {
				c = strings.TrimSuffix(c, "'") + " " + flag + "'"
			}
		}
		return c
	})
}

// Logger completes what is logged.
func Logger(log *slog.Logger, flags ...string) *slog.Logger {
	if len(flags) == 0 {
		return log
	}
	return slog.New(handler{log.Handler(), flags})
}

type handler struct {
	slog.Handler

	flags []string
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	whole := slog.NewRecord(r.Time, r.Level, Complete(r.Message, h.flags...), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		whole.AddAttrs(h.complete(a))
		return true
	})
	return h.Handler.Handle(ctx, whole)
}

func (h handler) complete(a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() { //nolint:exhaustive // others hold no text
	case slog.KindString:
		return slog.String(a.Key, Complete(v.String(), h.flags...))
	case slog.KindAny:
		if err, ok := v.Any().(error); ok && err != nil && strings.Contains(err.Error(), "'machineid ") {
			return slog.String(a.Key, Complete(err.Error(), h.flags...))
		}
	}
	return a
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.flags}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.flags}
}
