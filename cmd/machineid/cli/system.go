package cli

import (
	"context"
	"io"
	"log/slog"

	"machineid/shared/system"
)

// startOn lets a server start on a system or refuses it, and says what the system lacks.
func startOn(ctx context.Context, s system.System, server string, logger *slog.Logger) error {
	if err := s.Refuse(server); err != nil {
		return usageError{err}
	}
	if why := s.Why(); why != "" {
		logger.LogAttrs(ctx, slog.LevelWarn, "this system is for trying things only: serve on Linux, on amd64 or arm64",
			slog.String("system", s.Name), slog.String("lacks", why))
	}
	return nil
}

// measureOn says, before a load test, what a system lacks that figures depend on.
func measureOn(s system.System, w io.Writer) {
	if why := s.Why(system.Timers, system.Tests); why != "" {
		printf(w, "warning: %s is for trying things only, and its figures are worth little (%s)\n", s.Name, why)
	}
}
