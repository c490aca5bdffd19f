// Package cli is the command line of machineid: the servers, and what their operators type. There is no logic of the product here: flags,
// environment and file become the packages' configurations.
package cli

import (
	"context"
	"io"
	"log"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
)

// OwnProcess sets what a process has only one of, for one that is machineid and nothing else.
func OwnProcess() {
	log.SetOutput(io.Discard)      // net/http's words about strangers; servers say where theirs go
	signal.Ignore(syscall.SIGPIPE) // a reader that went away is told, not died of: a key may be lost with it
}

// Run runs one command line and returns its exit code. The first SIGINT or SIGTERM ends the command cleanly, a second one ends the process. A
// server's streams never make it wait, also for what is said here.
func Run(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	std := &standard{}
	root := newRootCommand(environ, std)
	server := serves(root, args)
	ctx, stop := signal.NotifyContext(context.Background(), endSignals(server)...)
	defer stop()
	context.AfterFunc(ctx, stop)
	shown := stdout
	if server != "" {
		std.open(stdout, stderr)
		stdout, stderr = std.out, std.err
		defer std.flush()
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	out, said := newDoor(stdout), newDoor(stderr)
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		out.to = shown // a server that only says what it takes runs nothing that could wait, and must know whether it was read
		help(cmd, args)
	})
	root.SetOut(out)
	root.SetErr(said)
	strict(root) // after SetOut: cobra's completion keeps what it finds
	cmd, err := root.ExecuteContextC(ctx)
	return conclude(cmd.CommandPath(), err, out, said)
}

func newRootCommand(environ []string, std *standard) *cobra.Command {
	root := &cobra.Command{
		Use:   "machineid",
		Short: "The off switch for fleets of AI agents, workers and devices",
		Long: `The off switch for fleets of AI agents, workers and devices.

Before an agent works it asks the nearest edge "may I?". When a revoke returns,
no edge answers ALLOW any more; an edge that cannot prove that its memory is
current answers SYSTEM_UNAVAILABLE.

` + exitHelp(),
		Args:          cobra.ArbitraryArgs, // strict sees to them
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
		newPlanCommand(settings, env), newSnapshotCommand(settings, env), newRecoverCommand(settings), newDebugCommand(settings), newBenchCommand(settings, env),
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
