// Command machineid is the off switch for fleets of agents: one binary for the
// authority, the edge, and both in one process for development. There is no
// logic here: flags, environment and file become the packages' configurations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/config"
)

// Exit codes (docs/configuration.md).
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitStuck  = 5
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// run runs one command line and returns its exit code. The first SIGINT or
// SIGTERM ends the command cleanly, a second one ends the process. A server's
// streams never make it wait, also for what is said here.
func run(args, environ []string, stdout, stderr io.Writer) int {
	std := &standard{}
	root := newRootCommand(environ, std)
	server := serves(root, args)
	ctx, stop := signal.NotifyContext(context.Background(), endSignals(server)...)
	defer stop()
	context.AfterFunc(ctx, stop)
	if server != "" {
		std.open(stdout, stderr)
		stdout, stderr = std.out, std.err
		defer std.flush()
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var fault *config.Error
	var usage usageError
	switch {
	case errors.As(err, &fault):
		fmt.Fprintln(stderr, err)
		return fault.ExitCode()
	case errors.As(err, &usage), isCobraUsage(err):
		fmt.Fprintf(stderr, "%s: %v\nRun '%s --help' for what it takes.\n", cmd.CommandPath(), err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(stderr, "%s: %v\n", cmd.CommandPath(), err)
	if _, unavailable := errors.AsType[unavailableError](err); unavailable {
		return exitUnavailable
	}
	if _, missed := errors.AsType[missedError](err); missed {
		return exitMissed
	}
	return exitFailed
}

// usageError is a fault of how a command was called.
type usageError struct{ error }

// isCobraUsage recognises cobra's own complaints, which have no type.
func isCobraUsage(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command") || strings.HasPrefix(err.Error(), "accepts ")
}

func newRootCommand(environ []string, std *standard) *cobra.Command {
	root := &cobra.Command{
		Use:   "machineid",
		Short: "The off switch for fleets of AI agents, workers and devices",
		Long: `The off switch for fleets of AI agents, workers and devices.

Before an agent works it asks the nearest edge "may I?". When a revoke returns,
no edge answers ALLOW any more; an edge that cannot prove that its memory is
current answers SYSTEM_UNAVAILABLE.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	settings := config.New(environ, operatorTokenEnv, stripeKeyEnv, stripeWebhookEnv, smtpPasswordEnv, "MACHINEID_ORG_KEY", "MACHINEID_BASE_URL", "MACHINEID_TEST_*")
	version := newVersionCommand()
	settings.FlagsOnly(version)
	env := environment(environ)
	root.AddCommand(newDevCommand(settings, env, std), newAuthorityCommand(settings, env, std), newEdgeCommand(settings, std), newClusterCommand(settings, env),
		newEdgesCommand(settings, env), newOrgCommand(settings, env), newDeviceCommand(settings, env), newKeyCommand(settings, env), newAuditCommand(settings, env), newOperatorCommand(settings, env),
		newSnapshotCommand(settings, env), newRecoverCommand(settings), newDebugCommand(settings), newBenchCommand(settings, env),
		newBillingCommand(settings, env), newConfigCommand(settings, env), version)
	settings.Attach(root)
	return root
}

// environment looks a variable up in what the process was given.
type environment []string

func (e environment) get(name string) string {
	for _, kv := range e {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}
