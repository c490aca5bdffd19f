package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"machineid/authority"
	"machineid/cmd/machineid/config"
	"machineid/raftstore"
)

// newRecoverCommand is for a cluster that has lost its majority for good.
func newRecoverCommand(settings *config.Settings) *cobra.Command {
	var data, id, raft, peers string
	var yes bool
	cmd := &cobra.Command{
		Use: "recover --data DIR --id ID (--raft ADDRESS | --peers FILE) --yes", Short: "Begin a new cluster from one node's folder, when a majority is lost for good",
		Long: `Begin a new cluster from one node's data folder, when a majority is lost for good.

Stop every node that is left, and run this on the one whose log is longest (see
machineid debug log). All of its log counts as committed, so a change whose caller
was told "unknown" may come to be, and one that only lost nodes had is lost. The
old folder stays beside the new one. Wipe the folders of the other nodes and let
them join. --peers names a file in the form of hashicorp/raft's peers.json.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			members := []raftstore.Peer{{ID: id, Address: raft}}
			if peers != "" {
				raw, err := os.ReadFile(peers)
				if err != nil {
					return err //nolint:wrapcheck // names the file
				}
				if err := json.Unmarshal(raw, &members); err != nil {
					return fmt.Errorf(`%s: %w; write [{"id":"a1","address":"10.0.0.1:7072","non_voter":false}]`, peers, err)
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "new members: %+v\n", members)
			if !yes {
				return usageError{errors.New("this cannot be undone for the cluster: stop every other node for good, then add --yes")}
			}
			at, err := authority.RecoverCluster(data, id, members)
			if err != nil {
				return err //nolint:wrapcheck // says what
			}
			fmt.Fprintf(cmd.OutOrStdout(), "recovered up to index %d of term %d; the old folder is kept beside the new one in %s\n"+
				"Next: start this node without --bootstrap, and let the others join with empty folders.\n", at.Index, at.Term, data)
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&data, "data", "", "the data folder `DIR` of the node (required)")
	fs.StringVar(&id, "id", "", "the node's `NAME` (required)")
	fs.StringVar(&raft, "raft", "127.0.0.1:7072", "the `ADDRESS` at which other nodes will reach its Raft")
	fs.StringVar(&peers, "peers", "", "a `FILE` that names the new members, in place of this node alone")
	fs.BoolVar(&yes, "yes", false, "do it")
	settings.Validate(cmd, func() error { return checkOffline(data, id, raft) })
	return cmd
}
