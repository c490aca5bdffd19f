package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"machineid/authority"
	"machineid/shared/dial"
)

// operatorFlags are the flags of every command that speaks to a running cluster.
type operatorFlags struct {
	urls      []string
	tokenFile string
	token     authority.Secret
	timeout   time.Duration
	output    string

	share time.Duration // how long a backup may take to begin; 0: timeout
	notes io.Writer     // where it is said that a call takes its time; nil: nowhere

	rehearses bool // no call is made: see byOrg
}

func (f *operatorFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.urls, "operator-url", []string{defaultNode}, "`URLS` of authority nodes, tried in turn; any node will do")
	fs.StringVar(&f.tokenFile, "operator-token-file", "", "the `FILE` of the operator's token; or give the token in MACHINEID_OPERATOR_TOKEN")
	fs.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to try")
	fs.StringVarP(&f.output, "output", "o", "table", "`FORM` of the output: table or json")
}

func (f *operatorFlags) validate(env environment) error {
	var faults []error
	for i, u := range f.urls {
		parsed, err := dial.BaseURL(u)
		if err != nil || parsed.Path != "" {
			faults = append(faults, fmt.Errorf("--operator-url: %q is no URL such as http://127.0.0.1:7070, of a scheme, a host and a port alone", u))
			continue
		}
		f.urls[i] = parsed.String()
	}
	if f.output != "table" && f.output != "json" {
		faults = append(faults, fmt.Errorf("--output: %q is no form of output; choose table or json", f.output))
	}
	if f.timeout <= 0 {
		faults = append(faults, fmt.Errorf("--timeout: %v is no time to try for", f.timeout))
	}
	token, err := operatorToken(f.tokenFile, env)
	if err != nil {
		faults = append(faults, err)
	}
	if f.token = authority.Secret(token); token == "" && err == nil {
		faults = append(faults, fmt.Errorf("--operator-token-file: there is no operator's token; it is in the file operator-token of the first node's data folder, "+
			"unless one was given at bootstrap: name that file, or set %s", operatorTokenEnv))
	}
	return errors.Join(faults...)
}

// operatorToken reads the operator's token from a file or from the environment.
func operatorToken(file string, env environment) (string, error) {
	source := operatorTokenEnv
	token, err := cleanSecret(env.get(operatorTokenEnv))
	if err != nil {
		return "", fmt.Errorf("--operator-token-file: %s %w", operatorTokenEnv, err)
	}
	if file != "" {
		if token != "" {
			return "", fmt.Errorf("--operator-token-file: %s is set too; give the token in one place", operatorTokenEnv)
		}
		if token, err = readSecret(file); err != nil {
			return "", fmt.Errorf("--operator-token-file: %w", err)
		}
		source = file
	}
	if (token != "" || file != "") && len(token) < authority.MinOperatorToken {
		return "", fmt.Errorf("--operator-token-file: the token in %s has %d characters; it needs at least %d",
			source, len(token), authority.MinOperatorToken)
	}
	return token, nil
}

// addOperatorFlags gives a command the flags, checks them, and runs f within --timeout.
func addOperatorFlags(cmd *cobra.Command, set func(*cobra.Command, func() error), env environment, f func(context.Context, *cobra.Command, *operatorFlags, []string) error) {
	flags := &operatorFlags{}
	flags.register(cmd.Flags())
	set(cmd, func() error { return errors.Join(flags.validate(env), emptyFlags(cmd)) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		speakAs(cmd)
		flags.notes = cmd.ErrOrStderr()
		warnReadable(flags.notes, flags.tokenFile)
		ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
		defer cancel()
		return f(ctx, cmd, flags, args)
	}
}

// emptyFlags refuses flags that are given without a value, as of a variable of the shell that is not set: what they narrow down would be everything.
func emptyFlags(cmd *cobra.Command) error {
	var faults []error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if v := f.Value.String(); v == "" || v == "[]" {
			faults = append(faults, fmt.Errorf("--%s: is empty; give a value, or leave it out", f.Name))
		}
	})
	return errors.Join(faults...)
}

// printJSON writes a value for scripts.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
