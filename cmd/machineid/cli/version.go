package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"machineid/shared/release"
)

// build says what this binary is and was built from. What the Go command did not record (it needs a git checkout, and does not when
// -buildvcs=false) is "unknown".
type build struct {
	Version  string `json:"version"` // v0.1.0 in a release, v0.2.0-dev on the way to one
	Revision string `json:"revision"`
	Modified bool   `json:"modified"` // the checkout had changes that the revision does not
	Time     string `json:"time"`     // the revision's, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild reads the build information that the Go command put into the running binary.
func thisBuild() build {
	info, _ := debug.ReadBuildInfo()
	return describe(info)
}

// describe picks what people ask for. info may be nil.
func describe(info *debug.BuildInfo) build {
	const unknown = "unknown"
	b := build{
		Version:  Version(),
		Revision: unknown,
		Time:     unknown,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if info == nil {
		return b
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.time":
			b.Time = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

func (b build) writeText(w io.Writer) error {
	revision := b.Revision
	if b.Modified {
		revision += " (modified)"
	}
	_, err := fmt.Fprintf(w, "machineid %s\nrevision  %s\ntime      %s\ngo        %s %s\n", b.Version, revision, b.Time, b.Go, b.Platform)
	return err
}

// Version is this program's release: for start-up lines, metrics and user agents.
func Version() string {
	return release.Version()
}

func newVersionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print what this binary was built from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			switch output {
			case "text":
				return b.writeText(cmd.OutOrStdout())
			case "json":
				return printJSON(cmd.OutOrStdout(), b)
			}
			return usageError{fmt.Errorf("--output: %q is no form of output; choose text or json", output)}
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORM` of the output: text or json")
	return cmd
}
