package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
)

// strict has every command of the tree refuse what it does not know, cobra's own too: nothing that was mistyped ends as if it had been done.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strictBelow(root)
}

func strictBelow(cmd *cobra.Command) {
	switch {
	case cmd.Name() == "help" && cmd.Parent() == cmd.Root():
		cmd.Run, cmd.RunE = nil, help
	case cmd.HasSubCommands():
		cmd.Args, cmd.Run, cmd.RunE = cobra.ArbitraryArgs, nil, stray
		cmd.PreRun, cmd.PreRunE = nil, nil // settings are of what it does not do
		cmd.DisableFlagParsing = true      // flags are of the command that was meant
	default:
		takes := cmd.Args
		cmd.Args = func(cmd *cobra.Command, args []string) error { return checkArgs(cmd, takes, args) }
	}
	for _, sub := range cmd.Commands() {
		strictBelow(sub)
	}
}

// checkArgs judges what is given to a command that does something.
func checkArgs(cmd *cobra.Command, takes cobra.PositionalArgs, args []string) error {
	if err := errors.Join(checkEmpty(cmd, args), checkText(cmd, args)); err != nil || takes == nil {
		return err
	}
	if err := takes(cmd, args); err != nil {
		return usageError{fmt.Errorf("%w; it is called so: %s", err, cmd.UseLine())}
	}
	return nil
}

func checkEmpty(cmd *cobra.Command, args []string) error {
	if i := slices.Index(args, ""); i >= 0 {
		return usageError{fmt.Errorf("argument %d is empty, as of a variable of the shell that is not set; it is called so: %s", i+1, cmd.UseLine())}
	}
	return nil
}

// checkText refuses what is no text: it would name something else where it is sent, or nothing. Names of files are any bytes.
func checkText(cmd *cobra.Command, args []string) error {
	i := slices.IndexFunc(args, func(arg string) bool { return !utf8.ValidString(arg) })
	if i < 0 || strings.Contains(cmd.Use, " FILE") {
		return nil
	}
	return usageError{fmt.Errorf("argument %d, %q, is no text in UTF-8: %s", i+1, args[i], config.NoText)}
}

// stray tells what is below cmd if no more is typed, and refuses what names no command there.
func stray(cmd *cobra.Command, given []string) error {
	args := words(given)
	if err := checkEmpty(cmd, args); err != nil {
		return err
	}
	switch {
	case len(args) == 0 && (len(given) == 0 || slices.ContainsFunc(given, isHelp)):
		return cmd.Help()
	case len(args) == 0 && given[0] == "--version" && !cmd.HasParent():
		return usageError{fmt.Errorf("there is no --version here: '%s version' tells what this binary is", cmd.Name())}
	case len(args) == 0:
		return usageError{fmt.Errorf("%s does nothing without a command: put one of %s before it", given[0], strings.Join(below(cmd), ", "))}
	}
	said := fmt.Sprintf("unknown command %q", args[0])
	near := meantBy(cmd, args[0])
	for i, path := range near {
		near[i] = cmd.Root().Name() + " " + path
	}
	if len(near) > 0 {
		return usageError{errors.New(said + ": did you mean " + strings.Join(near, ", or ") + "?")}
	}
	return usageError{errors.New(said + ": there are " + strings.Join(below(cmd), ", "))}
}

// words are the arguments that are no flags, nor values of flags, as cobra looks for a command among them.
func words(given []string) (list []string) {
	for i := 0; i < len(given); i++ {
		switch a := given[i]; {
		case strings.HasPrefix(a, "-") && a != "-":
			if !strings.Contains(a, "=") && !isHelp(a) {
				i++
			}
		default:
			list = append(list, a)
		}
	}
	return list
}

func isHelp(arg string) bool { return arg == "-h" || arg == "--help" }

// below lists what can be typed after cmd.
func below(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// help is the command help: cobra's own tells of what does not exist as if all were well.
func help(cmd *cobra.Command, args []string) error {
	at := cmd.Root()
	if err := checkEmpty(cmd, args); err != nil {
		return err
	}
	for _, name := range args {
		i := slices.IndexFunc(at.Commands(), func(sub *cobra.Command) bool { return sub.Name() == name || sub.HasAlias(name) })
		if i < 0 && at.HasSubCommands() {
			return stray(at, []string{name}) // it names what there is
		}
		if i < 0 {
			return usageError{fmt.Errorf("%s has no command %q below it", at.CommandPath(), name)}
		}
		at = at.Commands()[i]
	}
	at.InitDefaultHelpFlag()
	return at.Help()
}
