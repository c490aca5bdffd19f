package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"machineid/authority"
	"machineid/cmd/machineid/cli/config"
	"machineid/shared/place"
)

const tokenPath = "operator/token/rotate"

// newOperatorCommand has what is about the operator.
func newOperatorCommand(settings *config.Settings, env environment) *cobra.Command {
	parent := &cobra.Command{Use: "operator", Short: "Look after the operator's token", Args: cobra.NoArgs}
	token, sub := commandsOf(settings, env, "token", "Look after the operator's token")
	var file string
	rotate := sub("rotate", "Put a new operator's token in the place of the old, which is good no more", cobra.NoArgs,
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
			return rotateToken(ctx, cmd, f, file)
		})
	rotate.Flags().StringVar(&file, "new-token-file", "", "the `FILE` that gets the new token, or has it already; without it the new one takes its place in --operator-token-file")
	parent.AddCommand(token)
	return parent
}

// rotateToken writes the new token down before it asks, so that no lost answer can lock the operator out: the next run finds the file, and
// whichever token is good.
func rotateToken(ctx context.Context, cmd *cobra.Command, f *operatorFlags, file string) error {
	kept, at := file, ""
	if file == "" {
		if f.tokenFile == "" {
			return usageError{errors.New("--new-token-file: give the file for the new token: without --operator-token-file there is none that it could replace")}
		}
		var err error
		if at, err = place.Of(f.tokenFile); err != nil {
			return usageError{fmt.Errorf("--operator-token-file: %w", unwritable(err))}
		}
		file, kept = at+".new", f.tokenFile
	}
	token, made, err := newToken(file)
	if err != nil {
		return err
	}
	client := f.client()
	var answer struct{ Changed bool }
	ask := func() error {
		return client.call(ctx, http.MethodPost, tokenPath, map[string]string{"token": token}, &answer)
	}
	if err = ask(); err != nil && ctx.Err() == nil {
		// An earlier run may have done it, and not heard of it, or an attempt of this one.
		client.token = token
		again := ask()
		switch {
		case again == nil:
			err = nil
		case nobodyTook(err) && nobodyTook(again):
			return tokenRefused(err, file, made)
		}
	}
	if err != nil {
		return fmt.Errorf("%w\nThe new token is in %s: run the same again, which finds out which of the two is good", err, file)
	}
	if at != "" {
		if err := place.Take(file, at, place.Secret); err != nil {
			return fmt.Errorf("the token is changed, and the new one is in %s: %w", file, err)
		}
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printJSON(w, map[string]any{"changed": answer.Changed, "file": kept})
	}
	printf(w, "The operator's token is changed. The new one is in %s.\n", kept)
	return nil
}

// nobodyTook reports whether a token was refused, or nobody was there who could take it.
func nobodyTook(err error) bool {
	refused, ok := errors.AsType[*refusedError](err)
	_, strange := errors.AsType[strangerError](err)
	return strange || ok && refused.status == http.StatusUnauthorized
}

// tokenRefused is what is said when neither token is good: the change was never made, and what this run has made for it is taken away.
func tokenRefused(err error, file string, made bool) error {
	if !made {
		return fmt.Errorf("%w\nNothing was changed, and the token in %s is not taken there either", err, file)
	}
	if gone := os.Remove(file); gone != nil {
		return fmt.Errorf("%w\nNothing was changed; the new token is good for nothing: %w", err, gone)
	}
	return fmt.Errorf("%w\nNothing was changed", err)
}

// newToken makes a token in a file of its user's own, or takes the one that is there.
func newToken(file string) (token string, made bool, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		token, err := readSecret(file)
		if err == nil && len(token) < authority.MinOperatorToken {
			err = fmt.Errorf("it has %d characters; a token needs at least %d", len(token), authority.MinOperatorToken)
		}
		if err != nil {
			return "", false, usageError{fmt.Errorf("take the new token from %s: %w", file, err)}
		}
		return token, false, nil
	}
	if err != nil {
		return "", false, usageError{fmt.Errorf("%s is for the new token, and %w", file, unwritable(err))}
	}
	token = rand.Text() + rand.Text()
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", false, usageError{fmt.Errorf("%s is for the new token, and %w", file, unwritable(errors.Join(err, os.Remove(file))))}
	}
	return token, true, place.SyncFolder(filepath.Dir(file))
}
