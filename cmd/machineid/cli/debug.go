package cli

import (
	"errors"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"machineid/authority"
	"machineid/cmd/machineid/cli/config"
)

func newDebugCommand(settings *config.Settings) *cobra.Command {
	debug := &cobra.Command{Use: "debug", Short: "Look into a data folder while no node uses it", Args: cobra.NoArgs}
	var data, output string
	var from, to uint64
	var limit int
	log := &cobra.Command{
		Use: "log --data DIR", Short: "Print what the folder's log holds; changes nothing in it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := authority.ReadLog(data, from, to, limit)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), v)
			}
			w := cmd.OutOrStdout()
			printf(w, "node     %s of cluster %s\nlog      %d to %d (boundary %d), term %d\nstate    index %d of term %d\n\n",
				v.Node, v.Cluster, v.First, v.Last, v.Boundary.Index, v.Term, v.Applied.Index, v.Applied.Term)
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			printf(t, "INDEX\tTERM\tTIME\tBYTES\tWHAT\n")
			for _, e := range v.Entries {
				at := "-"
				if !e.Time.IsZero() {
					at = e.Time.UTC().Format(time.RFC3339)
				}
				printf(t, "%d\t%d\t%s\t%d\t%s\n", e.Index, e.Term, at, e.Bytes, e.What)
			}
			return t.Flush()
		},
	}
	fs := log.Flags()
	fs.StringVar(&data, "data", "", "the data folder `DIR` of a node that is stopped (required)")
	fs.Uint64Var(&from, "from", 0, "the first `INDEX`; 0: as --limit allows, counted from the end")
	fs.Uint64Var(&to, "to", 0, "the last `INDEX`; 0: the newest")
	fs.IntVar(&limit, "limit", 100, "at most so `MANY` entries")
	fs.StringVarP(&output, "output", "o", "table", "`FORM` of the output: table or json")
	settings.Validate(log, func() error {
		faults := checkOutput(output)
		if data == "" {
			faults = errors.Join(faults, errors.New("--data: is required; name the data folder"))
		}
		return faults
	})
	debug.AddCommand(log)
	return debug
}
