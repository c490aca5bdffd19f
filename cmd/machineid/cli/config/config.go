// Package config fills the flags of a cobra command tree from the command line, the environment and a file.
//
// Every flag of every command is a setting. Its value comes from the first of these that gives one:
//
//  1. the flag itself, --max-wait 250ms
//  2. the environment, MACHINEID_MAX_WAIT=250ms (an empty variable gives none)
//  3. the file that --config or MACHINEID_CONFIG names, max-wait = 250ms
//  4. the flag's default
//
// It guarantees that a command runs only if all of it was understood: what cannot be parsed, names that no command of the tree
// has, and what the command's own validation finds are reported together, each with the place where it was written. One file and
// one environment may serve several commands: what is a setting of another command only is left alone.
package config

import (
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// prefix is what the environment's variables begin with.
const prefix = "MACHINEID_"

// configFlag is the one setting that cannot stand in the file.
const configFlag = "config"

// Settings knows where values come from and which names exist. It is used while a program starts, by one goroutine.
type Settings struct {
	environ []string
	foreign []string

	// known holds the names of all settings, each with the paths of the commands that have it.
	known     map[string][]string
	validate  map[*cobra.Command]func() error
	flagsOnly map[*cobra.Command]bool
}

// New takes the environment (os.Environ) and the variables in it that begin with MACHINEID_ without being a setting: those of
// clients and tests, say. One that ends with * stands for all that begin so.
func New(environ []string, foreign ...string) *Settings {
	return &Settings{
		environ:   environ,
		foreign:   foreign,
		known:     map[string][]string{},
		validate:  map[*cobra.Command]func() error{},
		flagsOnly: map[*cobra.Command]bool{},
	}
}

// Validate has f judge the values of cmd once they are set. f may join several errors; one that begins with a flag of the command
// ("--lease: must be ...") is reported with the place where that value was written, and not at all if the value could not be
// parsed in the first place. The last call for a command counts.
func (s *Settings) Validate(cmd *cobra.Command, f func() error) {
	s.validate[cmd] = f
}

// FlagsOnly lets cmd take its values from the command line alone: for commands that must work however broken the rest is.
func (s *Settings) FlagsOnly(cmd *cobra.Command) {
	s.flagsOnly[cmd] = true
}

// typedOnly marks flags that are no settings.
const typedOnly = "machineid_typed_only"

// TypedOnly lets some flags of cmd be given on the command line alone: those that say how much a command does, which nobody means for whatever comes next.
func TypedOnly(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.Flags().SetAnnotation(name, typedOnly, nil); err != nil {
			panic(err) // it is none of its flags
		}
	}
}

// Attach adds --config to root and makes every command below it load its values before its PreRun and Run. Call it once, when all
// commands and flags are there: later flags are no settings. Until a command's PreRun its flags have their defaults, so persistent
// PreRuns must not read them.
func (s *Settings) Attach(root *cobra.Command) {
	root.PersistentFlags().String(configFlag, "", "read settings from `FILE`, lines of name = value")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return s.load(cmd, err)
	})
	s.attach(root)
}

func (s *Settings) attach(cmd *cobra.Command) {
	register := func(f *pflag.Flag) {
		if _, again := f.Value.(*deferred); again {
			return
		}
		f.Value = &deferred{Value: f.Value}
		if f.DefValue == "[]" {
			f.DefValue = "" // pflag's help leaves out empty lists only of its own types
		}
		s.known[f.Name] = append(s.known[f.Name], cmd.CommandPath())
	}
	cmd.PersistentFlags().VisitAll(register)
	cmd.Flags().VisitAll(register)

	if cmd.Runnable() {
		preRunE, preRun := cmd.PreRunE, cmd.PreRun
		cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
			if err := s.load(cmd, nil); err != nil {
				return err
			}
			switch {
			case preRunE != nil:
				return preRunE(cmd, args)
			case preRun != nil:
				preRun(cmd, args)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		s.attach(sub)
	}
}

// deferred keeps what the command line gives to a flag until all sources are known: pflag would stop at the first value that it
// cannot parse, and a list would collect those of every source.
type deferred struct {
	pflag.Value // the real one

	given []string
}

func (d *deferred) Set(value string) error {
	d.given = append(d.given, value)
	return nil
}

// Given returns what the command line gave to some flags of cmd, to be typed again in a shell: "--name value". What the environment or the file gives is not
// among it. Flags that cmd lacks are left out.
func Given(cmd *cobra.Command, names ...string) (list []string) {
	for _, name := range names {
		f := cmd.Flag(name)
		if f == nil {
			continue
		}
		if d, ok := f.Value.(*deferred); ok && len(d.given) > 0 {
			list = append(list, "--"+name+" "+Word(strings.Join(d.given, ",")))
		}
	}
	return list
}

// Word is a word for a shell.
func Word(word string) string {
	plain := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:,=@%+[]", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(word) + `"`
}

// load sets the flags of cmd and validates them. parseError is what the command line was refused for, or nil. The result is nil
// or an *Error.
func (s *Settings) load(cmd *cobra.Command, parseError error) error {
	l := loader{settings: s, cmd: cmd, origins: map[string]string{}, broken: map[string]bool{}}
	if parseError != nil {
		l.commandLine(parseError)
	}
	if !s.flagsOnly[cmd] {
		l.environment()
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == configFlag {
			l.set(f) // before the others: it says where they come from
		}
	})
	if path := cmd.Flag(configFlag); path != nil && !s.flagsOnly[cmd] {
		l.file(path.Value.String())
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != configFlag {
			l.set(f)
		}
	})
	if f := s.validate[cmd]; f != nil && parseError == nil {
		l.invalid(f())
	}
	if len(l.faults) == 0 {
		return nil
	}
	return &Error{Command: cmd.CommandPath(), faults: l.faults}
}

// variable is the name of a setting in the environment.
func variable(name string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// isForeign reports whether a variable that begins with MACHINEID_ is known to be meant for somebody else.
func (s *Settings) isForeign(name, value string) bool {
	return isServiceLink(name, value) || slices.ContainsFunc(s.foreign, func(foreign string) bool {
		start, all := strings.CutSuffix(foreign, "*")
		return name == foreign || all && strings.HasPrefix(name, start)
	})
}
