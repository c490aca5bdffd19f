package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"machineid/authority"
	"machineid/cmd/machineid/cli/config"
)

// newRecoverCommand is for a cluster that has lost its majority for good.
func newRecoverCommand(settings *config.Settings) *cobra.Command {
	f := &offlineFlags{}
	var yes, again bool
	cmd := &cobra.Command{
		Use: "recover --data DIR --id ID --raft ADDRESS --yes", Short: "Begin another cluster from one node's folder, when a majority is lost for good",
		Long: `Begin another cluster from one node's data folder, when a majority is lost for good.

Stop every node that is left, and run this on the one whose log is longest (see
machineid debug log). All of its log counts as committed, so a change whose caller
was told "unknown" may come to be, and one that only lost nodes had is lost. The
old folder stays beside the new one. If it is cut, run it again: it begins anew.
A folder that was recovered already is not, but with --again.

The new cluster has another name and this node alone. Wipe the folders of the other
nodes and let them join. One that comes back as it was goes on with the old cluster,
if there are enough of them, and the new one has nothing to do with it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				printf(cmd.OutOrStdout(), "this would make a new cluster of %s at %s, alone\n", f.id, f.raft)
				return usageError{errors.New("this cannot be undone for the cluster: stop every other node for good, then add --yes")}
			}
			if kept := authority.Recovered(f.data); kept != "" && !again {
				return fmt.Errorf("%s was recovered already: what it was before is %s. Start the node (without --bootstrap), which is the new cluster's; "+
					"to make one more cluster of it, with which that one has nothing to do, add --again", f.data, kept)
			}
			begun, err := authority.RecoverCluster(f.data, f.id, f.raft)
			if err != nil {
				return err
			}
			printf(cmd.OutOrStdout(), "recovered up to index %d of term %d: cluster %s, which replaces %s; the old folder is kept as %s\n"+
				"Next: start this node without --bootstrap, and let the others join with empty folders.\n",
				begun.Index, begun.Term, begun.Cluster, begun.Replaces, begun.Kept)
			if begun.Damaged != "" {
				printf(cmd.ErrOrStderr(), "machineid recover: WARNING: what stood behind the damage is lost, acknowledged changes among it, revokes too: %s\n", begun.Damaged)
			}
			return nil
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&again, "again", false, "do it though the folder was recovered before: one more cluster begins")
	settings.Validate(cmd, f.validate)
	return cmd
}
