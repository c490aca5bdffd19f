package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/dial"
)

// newClusterInit adds cluster init, which names the one node that is to do it: --operator-url means any of several.
func newClusterInit(cluster *cobra.Command, settings *config.Settings, env environment) {
	f := &operatorFlags{}
	var at string
	var ignoreUnreachable bool
	cmd := &cobra.Command{
		Use: "init --at ADDRESS", Short: "Begin a cluster with a node that waits; the others join it by their --join", Args: cobra.NoArgs,
		Long: `Begin a cluster with a node that was started with --join and waits. Once: it is refused where that node is in a cluster
already, or a node that its --join names knows one. The others join by themselves.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			speakAs(cmd)
			f.notes = cmd.ErrOrStderr()
			warnReadable(f.notes, f.tokenFile)
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			return clusterInit(ctx, cmd, f, ignoreUnreachable)
		},
	}
	fs := cmd.Flags()
	f.register(fs)
	if err := fs.MarkHidden("operator-url"); err != nil {
		panic(err) // it is registered
	}
	fs.StringVar(&at, "at", "", "the HTTP `ADDRESS` of the node that begins it (required)")
	fs.BoolVar(&ignoreUnreachable, "ignore-unreachable", false, "begin though a node that --join names does not answer; if it knows a cluster, there are two then")
	settings.Validate(cmd, func() error {
		base, err := nodeURL(at)
		f.urls = []string{base}
		if err != nil {
			f.urls = nil
		}
		return errors.Join(err, f.validate(env))
	})
	cluster.AddCommand(cmd)
}

// nodeURL is the URL of one node, whose address may lack the scheme.
func nodeURL(at string) (string, error) {
	if at == "" {
		return "", errors.New("--at: is required; name the node that is to begin the cluster by its HTTP address")
	}
	if !strings.Contains(at, "://") {
		at = "http://" + at
	}
	u, err := dial.BaseURL(at)
	if err != nil || u.Path != "" || u.Port() == "" {
		return "", fmt.Errorf("--at: %q is no address such as 127.0.0.1:7070", at)
	}
	return u.String(), nil
}

func clusterInit(ctx context.Context, cmd *cobra.Command, f *operatorFlags, ignoreUnreachable bool) error {
	body := map[string]any{}
	if ignoreUnreachable {
		body["ignoreUnreachable"] = true
	}
	var answer struct {
		ClusterID string `json:"clusterId"`
	}
	if err := f.client().call(ctx, http.MethodPost, clusterPath+"/init", body, &answer); err != nil {
		return err
	}
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	printf(cmd.OutOrStdout(), "cluster %s has begun; the other nodes join it by themselves: 'machineid cluster status'\n", answer.ClusterID)
	return nil
}

// clusterReaddress has the members look for a node elsewhere, and tells if it is left without a vote: what was cut off half way lacks that.
func clusterReaddress(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
	id, addr := args[0], args[1]
	if err := f.client().call(ctx, http.MethodPost, memberPath(id)+"/address", map[string]any{"address": addr}, nil); err != nil {
		return err
	}
	if view, _, err := look(ctx, f); err == nil && f.output == "table" {
		for _, m := range view.Members {
			if m.ID == id && !m.Voter {
				printf(cmd.ErrOrStderr(), "%s has no vote; if it is to have one: 'machineid cluster promote %s'\n", id, id)
			}
		}
	}
	return done(cmd, f, id, "is reached at "+addr)
}
