package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// everyCommand calls f with each command of the tree, as it runs.
func everyCommand(f func(*cobra.Command)) {
	root := newRootCommand(bareEnviron(), &standard{})
	root.SetOut(io.Discard)
	strict(root)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		f(cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// pathOf is what is typed for a command, after machineid.
func pathOf(cmd *cobra.Command) []string { return strings.Fields(cmd.CommandPath())[1:] }

// TestWhatIsMistypedIsRefused walks the command tree: what names no command is refused at every place, with what was meant.
func TestWhatIsMistypedIsRefused(t *testing.T) {
	t.Parallel()
	refused := func(args []string, want ...string) {
		t.Helper()
		code, out, errs := commandLine(args...)
		if code != exitUsage || out != "" {
			t.Errorf("%q: exit code %d\n%s%s", args, code, out, errs)
		}
		for _, w := range want {
			if !strings.Contains(errs, w) {
				t.Errorf("%q says nothing of %q: %s", args, w, errs)
			}
		}
	}
	parents, leaves := 0, 0
	everyCommand(func(cmd *cobra.Command) {
		path := pathOf(cmd)
		with := func(more ...string) []string { return append(append([]string{}, path...), more...) }
		refused(with(""), "is empty", "is called so")
		if !cmd.HasSubCommands() {
			leaves++
			if many := strings.Fields(strings.Repeat("x ", 20)); cmd.Args != nil && cmd.Args(cmd, many) != nil {
				refused(with(many...), "is called so")
			}
			return
		}
		parents++
		for _, sub := range cmd.Commands() {
			name := sub.Name()
			typo := name[:len(name)-1] + "qq"
			for _, args := range [][]string{with(typo), with(typo, "ORG", "--all"), with("--operator-url", "http://x", typo), with(typo, "--help"), append([]string{"help"}, with(typo)...)} {
				refused(args, "unknown command \""+typo+"\"", "machineid")
			}
			if typo := name[1:2] + name[:1] + name[2:]; sub.IsAvailableCommand() && typo != name && len(name) > 4 {
				refused(with(typo), sub.CommandPath())
			}
		}
		refused(with("--nonsense"), "--nonsense")
		if code, out, errs := commandLine(path...); code != exitDone || !strings.Contains(out, "Commands:") {
			t.Errorf("%q: exit code %d\n%s%s", path, code, out, errs)
		}
	})
	if parents < 10 || leaves < 40 {
		t.Errorf("walked over %d parents and %d commands", parents, leaves)
	}
	refused([]string{"rotate"}, "machineid key rotate", "machineid operator token rotate")
	refused([]string{"help", "version", "now"}, `no command "now"`)
}
