package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"machineid/cmd/machineid/cli/config"
)

// Exit codes. The table below is all of them, for --help and for docs/configuration.md.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitMissed      = 3
	exitUnavailable = 4
	exitStuck       = 5
	exitUnshown     = 6
	exitDisk        = 70 // raftstore ends the process with it
)

var exitCodes = []struct {
	code  int
	means string
}{
	{exitDone, "done"},
	{exitFailed, "refused or failed: the message says which, and what to do"},
	{exitUsage, "usage or configuration: nothing was tried"},
	{exitMissed, "`bench`: a condition of `--slo` was missed"},
	{exitUnavailable, "commands that call a cluster: unavailable, or the outcome is unknown"},
	{exitStuck, "`dev`, `authority`, `edge`: a stop did not come to its end within `--stop-timeout`"},
	{exitUnshown, "it was done, but standard output did not take all that was to be shown"},
	{exitDisk, "the authority's disk failed or its state is damaged: nothing may be answered any more"},
}

// exitHelp is the table for --help.
func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %-3d %s\n", e.code, strings.ReplaceAll(e.means, "`", ""))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// usageError is a fault of how a command was called.
type usageError struct{ error }

// missedError says which thresholds were missed.
type missedError struct{ error }

// unavailableError says that nobody could serve a command, or that what became of it is not known.
type unavailableError struct{ error }

// unreadable is an answer to what was done that cannot be read: what it says is not known.
func unreadable(err error) error {
	if err == nil {
		return nil
	}
	return unavailableError{fmt.Errorf("the answer cannot be read, by this version (machineid version) at least: look what became of it: %w", err)}
}

// conclude says on stderr why a command did not do all that it should, and returns its exit code.
func conclude(path string, err error, out *door, stderr io.Writer) int {
	err = butShown(err)
	code := exitCode(err)
	var fault *config.Error
	var usage usageError
	switch {
	case err == nil:
	case errors.As(err, &fault):
		announcef(stderr, "%v\n", err)
	case errors.As(err, &usage):
		announcef(stderr, "%s: %v\nRun '%s --help' for what it takes.\n", path, err, path)
	default:
		announcef(stderr, "%s: %v\n", path, err)
	}
	if lost := out.end(); lost != nil {
		announcef(stderr, "%s: standard output did not take what was to be shown: %v\n", path, lost)
		if out.secret != "" {
			announcef(stderr, "%s: %s\n", path, out.secret)
		}
		if code == exitDone {
			return exitUnshown
		}
	}
	return code
}

func exitCode(err error) int {
	var fault *config.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &fault):
		return fault.ExitCode()
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[unavailableError](err); ok {
		return exitUnavailable
	}
	if _, ok := errors.AsType[missedError](err); ok {
		return exitMissed
	}
	return exitFailed
}
