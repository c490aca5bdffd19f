package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
)

// edgesView is the answer of GET operator/edges.
type edgesView struct {
	Node  string     `json:"node"`
	Edges []edgeView `json:"edges"`
}

type edgeView struct {
	ID          string    `json:"id"`
	Address     string    `json:"address"`
	Version     string    `json:"version"`
	State       string    `json:"state"`
	Since       time.Time `json:"since"`
	LeaseLeftMs int64     `json:"leaseLeftMs"`
	Behind      int       `json:"behind"`
	BehindMs    float64   `json:"behindMs"`
	AckMs       *float64  `json:"ackMs"`
	HitRate     *float64  `json:"hitRate"`
	Entries     *int64    `json:"entries"`
}

func newEdgesCommand(settings *config.Settings, env environment) *cobra.Command {
	cmd := &cobra.Command{Use: "edges", Short: "List the edges: their leases, how far they are, what they remember", Args: cobra.NoArgs}
	addOperatorFlags(cmd, settings.Validate, env, listEdges)
	return cmd
}

func listEdges(ctx context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
	var answer json.RawMessage
	if err := f.client().call(ctx, http.MethodGet, "operator/edges", nil, &answer); err != nil {
		return err
	}
	var view edgesView
	var raw map[string]any
	if err := errors.Join(json.Unmarshal(answer, &view), json.Unmarshal(answer, &raw)); err != nil {
		return unreadable(err)
	}
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), raw["edges"])
	}
	return view.table(cmd.OutOrStdout())
}

func (v *edgesView) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printf(t, "ID\tADDRESS\tVERSION\tSTATE\tLEASE\tBEHIND\tACK\tHITS\tENTRIES\tSINCE\n")
	for _, e := range v.Edges {
		behind, ack, hits, entries := "-", "-", "-", "-"
		if e.Behind > 0 {
			behind = fmt.Sprintf("%d for %.1fs", e.Behind, e.BehindMs/1000)
		}
		if e.AckMs != nil {
			ack = fmt.Sprintf("%.1fms", *e.AckMs)
		}
		if e.HitRate != nil {
			hits = fmt.Sprintf("%.1f%%", 100**e.HitRate)
		}
		if e.Entries != nil {
			entries = strconv.FormatInt(*e.Entries, 10)
		}
		printf(t, "%s\t%s\t%s\t%s\t%.1fs\t%s\t%s\t%s\t%s\t%s\n", shown(e.ID), cell(e.Address), cell(e.Version), cell(e.State),
			float64(e.LeaseLeftMs)/1000, behind, ack, hits, entries, e.Since.Format(time.RFC3339))
	}
	return t.Flush()
}
