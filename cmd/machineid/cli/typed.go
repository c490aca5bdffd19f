package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/hint"
)

// defaultNode is where operators' commands call if nothing else is said.
const defaultNode = "http://127.0.0.1:7070"

// reaching is how commands are typed that reach a node: nothing where they find it by themselves.
func reaching(http string) []string {
	if "http://"+http == defaultNode {
		return nil
	}
	return []string{hint.URL + " http://" + http}
}

// speakAs has what a command says name the flags that it was given: commands to type reach the same cluster, and addresses go by the flag that gave them. What the
// environment or a file says holds for the next command too.
func speakAs(cmd *cobra.Command) {
	typed := config.Given(cmd, "config", "operator-url", "operator-token-file")
	own := func(text string) string { return text }
	if at := cmd.Flag("at"); at != nil && at.Value.String() != "" {
		if node, err := nodeURL(at.Value.String()); err == nil {
			typed = append(reaching(strings.TrimPrefix(node, "http://")), config.Given(cmd, "config", "operator-token-file")...)
		}
		own = func(text string) string { return strings.ReplaceAll(text, hint.URL, "--at") }
	}
	words := func(text string) string { return asTyped(hint.Complete(own(text), typed...)) }
	for _, w := range []any{cmd.OutOrStdout(), cmd.ErrOrStderr()} {
		if d, ok := w.(*door); ok {
			d.words = words
		}
	}
}

// typedAs is how this program is called: `go run` leaves none behind that could be.
func typedAs() string {
	if self, err := os.Executable(); err == nil && isGoRun(self) {
		return "go run ./cmd/machineid"
	}
	return "machineid"
}

// isGoRun reports whether go run has made a program: in a folder exe of its own for building.
func isGoRun(path string) bool {
	return strings.Contains(path, "go-build") && filepath.Base(filepath.Dir(path)) == "exe"
}

// asTyped has the commands in a text call this program as it was called.
func asTyped(text string) string {
	name := typedAs()
	return hint.Each(text, func(c string) string { return "'" + name + strings.TrimPrefix(c, "'machineid") })
}
