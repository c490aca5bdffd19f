package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
	"machineid/raftstore"
)

// clusterView is the answer of GET operator/cluster.
type clusterView struct {
	ClusterID string       `json:"clusterId"`
	Node      string       `json:"node"`
	Store     string       `json:"store"`
	Phase     string       `json:"phase"`
	Leader    *string      `json:"leader"`
	Term      uint64       `json:"term"`
	Format    int          `json:"format"`
	Members   []memberView `json:"members"`
	NotReady  []string     `json:"notReady"`
	Debris    struct {
		Orgs    uint64 `json:"orgs"`
		Devices uint64 `json:"devices"`
	} `json:"debris"`
}

type memberView struct {
	ID           string  `json:"id"`
	Store        string  `json:"store"`
	Raft         string  `json:"raft"`
	Advertised   *string `json:"advertised"`
	HTTP         string  `json:"http"`
	Link         string  `json:"link"`
	Voter        bool    `json:"voter"`
	Leader       bool    `json:"leader"`
	Reachable    bool    `json:"reachable"`
	Error        *string `json:"error"`
	State        string  `json:"state"`
	Term         uint64  `json:"term"`
	Applied      uint64  `json:"applied"`
	LastIndex    uint64  `json:"lastIndex"`
	Version      string  `json:"version"`
	Format       int     `json:"format"`
	NewestFormat int     `json:"newestFormat"`
	DiskFull     bool    `json:"diskFull"`
	DiskLeft     *uint64 `json:"diskLeftBytes"`
	DiskReserve  *uint64 `json:"diskReserveBytes"`
	TimeOffsetMs int64   `json:"timeOffsetMs"`
	Unfit        *string `json:"unfit"`
	LastContact  *string `json:"lastContact"`
}

func newClusterCommand(settings *config.Settings, env environment) *cobra.Command {
	cluster := &cobra.Command{
		Use: "cluster", Short: "Look at the authority nodes, and change who they are",
		Args: cobra.NoArgs,
	}
	sub := func(use, short string, args cobra.PositionalArgs, run func(context.Context, *cobra.Command, *operatorFlags, []string) error) *cobra.Command {
		cmd := &cobra.Command{Use: use, Short: short, Args: args}
		addOperatorFlags(cmd, settings.Validate, env, run)
		cluster.AddCommand(cmd)
		return cmd
	}
	sub("status", "Who leads, who is reachable, and what is wrong", cobra.NoArgs, clusterStatus)
	sub("members", "List the nodes", cobra.NoArgs, clusterMembers)
	newClusterInit(cluster, settings, env)
	var nonvoter, replaceLost bool
	add := sub("add ID RAFT_ADDRESS", "Take in a running node that waits for it, and give it a vote when it has caught up", cobra.ExactArgs(2),
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			return clusterAdd(ctx, cmd, f, args[0], args[1], !nonvoter, replaceLost)
		})
	add.Flags().BoolVar(&replaceLost, "replace-lost", false, "take it in the place of the member of its name, whose disk is lost and which does not answer")
	add.Flags().BoolVar(&nonvoter, "nonvoter", false, "give it no vote: it only receives, until cluster promote")
	sub("promote ID", "Give a node a vote, once it has caught up", cobra.ExactArgs(1), func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
		return clusterPromote(ctx, cmd, f, args[0])
	})
	sub("demote ID", "Take a node's vote; it goes on receiving", cobra.ExactArgs(1), onMember(http.MethodPost, "/demote", "has no vote any more"))
	sub("remove ID", "Take a node out, dead or alive; stop it before, and wipe its data folder before it comes back", cobra.ExactArgs(1),
		onMember(http.MethodDelete, "", "is no member any more"))
	sub("readdress ID RAFT_ADDRESS", "Tell the members the address at which a node is reached for Raft since its last start", cobra.ExactArgs(2), clusterReaddress)
	sub("transfer [ID]", "Hand the leadership over, to a node or to the one that is furthest", cobra.MaximumNArgs(1), clusterTransfer)
	var force bool
	raise := sub("raise-format [FORMAT]", "Use what is new in the nodes' program, for good; without FORMAT the newest that every node knows", cobra.MaximumNArgs(1),
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			return clusterRaiseFormat(ctx, cmd, f, args, force)
		})
	raise.Flags().BoolVar(&force, "force", false, "also where edges do not understand the format: they deny everything until they are upgraded")
	return cluster
}

const clusterPath = "operator/cluster"

func memberPath(id string) string { return clusterPath + "/members/" + url.PathEscape(id) }

func clusterStatus(ctx context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
	view, raw, err := look(ctx, f)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		if err := printJSON(w, raw); err != nil {
			return err
		}
	} else {
		leader := "none known"
		if view.Leader != nil {
			leader = *view.Leader
		}
		if view.outside() {
			printf(w, "cluster none yet\nasked   %s\n", view.Node)
		} else {
			printf(w, "cluster %s\nleader  %s\nterm    %d\nformat  %d\nasked   %s\n\n", view.ClusterID, leader, view.Term, view.Format, view.Node)
			if err := view.table(w); err != nil {
				return err
			}
		}
		for _, note := range view.notes() {
			printf(w, "\nnote: %s\n", note)
		}
	}
	if view.outside() {
		return unavailableError{fmt.Errorf("%s is in no cluster yet", view.Node)}
	}
	if view.Leader == nil {
		return unavailableError{errors.New("no leader is known: changes and leases wait until a majority of the voters can reach each other")}
	}
	if view.rank() > 0 {
		return unavailableError{fmt.Errorf("%s reaches too few of the voters to know how the cluster is: ask another node (--operator-url)", view.Node)}
	}
	return nil
}

func clusterMembers(ctx context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
	view, raw, err := look(ctx, f)
	if err != nil {
		return err
	}
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), raw["members"])
	}
	return view.table(cmd.OutOrStdout())
}

// look asks how the cluster is, as this program knows it and as it was said.
func look(ctx context.Context, f *operatorFlags) (view clusterView, raw map[string]any, err error) {
	var answer json.RawMessage
	rank := func(raw []byte) int {
		var v clusterView
		if json.Unmarshal(raw, &v) != nil {
			return 0
		}
		return v.rank()
	}
	if err := f.client().try(ctx, &attempts{method: http.MethodGet, path: clusterPath, out: &answer, rank: rank}); err != nil {
		return view, nil, err
	}
	if err := errors.Join(json.Unmarshal(answer, &view), json.Unmarshal(answer, &raw)); err != nil {
		return view, nil, unreadable(err)
	}
	delete(raw, "request_id")
	delete(raw, "status")
	return view, raw, nil
}

func (v *clusterView) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printf(t, "ID\tROLE\tSTATE\tAPPLIED\tBEHIND\tDISK\tRAFT\tHTTP\tLINK\tVERSION\n")
	newest := uint64(0)
	for _, m := range v.Members {
		newest = max(newest, m.LastIndex)
	}
	for _, m := range v.Members {
		role := "non-voter"
		if m.Voter {
			role = "voter"
		}
		if m.Leader {
			role = "leader"
		}
		if !m.Reachable {
			printf(t, "%s\t%s\tunreachable\t-\t-\t-\t%s\t-\t-\t-\n", shown(m.ID), role, cell(m.Raft))
			continue
		}
		disk := "-"
		if m.DiskLeft != nil {
			disk = raftstore.Size(*m.DiskLeft)
		}
		printf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", shown(m.ID), role, cell(m.State), m.Applied, newest-min(newest, m.Applied), disk, cell(m.Raft), cell(m.HTTP), cell(m.Link), cell(m.Version))
	}
	return t.Flush()
}

// rank is how little an answer says of the cluster, 0 if it is good. A node that was removed, or waits, answers as well as it can. For a moment a removed one still knows a leader, but the
// others turn it away.
func (v *clusterView) rank() int {
	voters, reachable := v.reached()
	switch {
	case v.outside():
		return 3
	case v.Leader == nil:
		return 2
	case reachable < quorum(voters):
		return 1
	}
	return 0
}

// reached counts the voters there are, and those that the asked node reaches.
func (v *clusterView) reached() (all, reachable int) {
	for _, m := range v.Members {
		if m.Voter {
			all++
			if m.Reachable {
				reachable++
			}
		}
	}
	return all, reachable
}

// quorum is how many of so many voters are needed, 0 if none is known.
func quorum(voters int) int {
	if voters == 0 {
		return 0
	}
	return voters/2 + 1
}

// outside reports whether the asked node is in no cluster.
func (v *clusterView) outside() bool { return v.Phase == "waiting" || v.Phase == "beginning" }

// offsetWarn is how far a node's wall clock may be off before it is said.
const offsetWarn = 2 * time.Second

// notes is what an operator should do something about.
func (v *clusterView) notes() (notes []string) {
	defer func() {
		for _, why := range v.NotReady {
			notes = append(notes, fmt.Sprintf("%s is not ready: %s", v.Node, why))
		}
	}()
	if v.outside() {
		return nil
	}
	turnedAway := false
	voters, reachable := v.reached()
	for _, m := range v.Members {
		if !m.Reachable && m.Error != nil {
			turnedAway = turnedAway || strings.Contains(*m.Error, "wipe ") // what a node is told that is a member no more, or an older copy
			note := fmt.Sprintf("%s cannot be reached: %s", m.ID, *m.Error)
			if strings.Contains(*m.Error, "dial ") { // nobody is there; who is there and refuses says what to do
				note += fmt.Sprintf("; if it runs elsewhere now: 'machineid cluster readdress %s RAFT_ADDRESS'", m.ID)
			}
			notes = append(notes, note)
		}
		if m.Advertised != nil && *m.Advertised != m.Raft {
			notes = append(notes, fmt.Sprintf("%s is reached at %s, as it was started, and the members look for it at %s: start it with the old address, or 'machineid cluster readdress %s %s'",
				m.ID, *m.Advertised, m.Raft, m.ID, *m.Advertised))
		}
		if note := m.diskNote(); note != "" {
			notes = append(notes, note)
		}
		if m.Unfit != nil {
			notes = append(notes, fmt.Sprintf("%s should not lead: %s", m.ID, *m.Unfit))
		} else if off := time.Duration(m.TimeOffsetMs) * time.Millisecond; off.Abs() > offsetWarn {
			notes = append(notes, fmt.Sprintf("the clock of %s is %v off: look at its time synchronisation", m.ID, off))
		}
	}
	switch quorum := quorum(voters); {
	case turnedAway: // what this node takes for the cluster is none: the others have said so, and go on
		notes = append(notes, "the others are there and turn this node away, so they may well serve: ask one of them (--operator-url) before anything else is done")
	case reachable < quorum:
		notes = append(notes, fmt.Sprintf("%d of %d voters can be reached, %d are needed: bring the others back with their folders; if those are lost for good, 'machineid recover' makes a new cluster of one that is left",
			reachable, voters, quorum))
	case reachable == quorum && voters > 1:
		notes = append(notes, "one more voter that fails stops all changes")
	}
	if voters%2 == 0 {
		notes = append(notes, fmt.Sprintf("%d voters tolerate no more failures than %d: add one, or demote one", voters, voters-1))
	}
	if v.Debris.Orgs > 0 {
		notes = append(notes, fmt.Sprintf("%d deleted orgs are not cleared away yet, with at most %d devices: that goes on with each change", v.Debris.Orgs, v.Debris.Devices))
	}
	if newest := v.newestFormat(); newest > v.Format && v.Format > 0 {
		notes = append(notes, fmt.Sprintf("every node knows format %d: when none is to go back to the older program, 'machineid cluster raise-format', which is for good", newest))
	}
	return notes
}

// diskNote says what is wrong with the room on a node's disk, "" if nothing is.
func (m *memberView) diskNote() string {
	known := m.DiskLeft != nil && m.DiskReserve != nil
	switch {
	case m.DiskFull && known:
		return fmt.Sprintf("the disk of %s is nearly full, only what takes rights away is done there: %s", m.ID, raftstore.Shortage(*m.DiskLeft, *m.DiskReserve))
	case m.DiskFull:
		return fmt.Sprintf("the disk of %s is nearly full, only what takes rights away is done there: make room", m.ID)
	case known && *m.DiskLeft < 2**m.DiskReserve:
		return fmt.Sprintf("the disk of %s fills up: %s are left, below %s (--disk-reserve) only what takes rights away is done; make room", m.ID, raftstore.Size(*m.DiskLeft), raftstore.Size(*m.DiskReserve))
	}
	return ""
}

func clusterAdd(ctx context.Context, cmd *cobra.Command, f *operatorFlags, id, addr string, voter, replaceLost bool) error {
	body := map[string]any{"id": id, "address": addr}
	if replaceLost {
		body["replaceLost"] = true
	}
	if err := f.client().call(ctx, http.MethodPost, clusterPath+"/members", body, nil); err != nil {
		return err
	}
	if voter {
		return clusterPromote(ctx, cmd, f, id)
	}
	return done(cmd, f, id, "is a member without a vote")
}

// clusterPromote asks until the node has caught up.
func clusterPromote(ctx context.Context, cmd *cobra.Command, f *operatorFlags, id string) error {
	for {
		err := f.client().call(ctx, http.MethodPost, memberPath(id)+"/promote", nil, nil)
		var refused *refusedError
		if err == nil {
			return done(cmd, f, id, "has a vote")
		}
		if !errors.As(err, &refused) || refused.status != http.StatusConflict {
			return err
		}
		if f.output == "table" {
			if view, _, lerr := look(ctx, f); lerr == nil {
				for _, m := range view.Members {
					if m.ID == id {
						printf(cmd.ErrOrStderr(), "%s is at %d: %s\n", id, m.Applied, refused.Message)
					}
				}
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

func onMember(method, suffix, said string) func(context.Context, *cobra.Command, *operatorFlags, []string) error {
	return func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
		if err := f.client().call(ctx, method, memberPath(args[0])+suffix, nil, nil); err != nil {
			return err
		}
		return done(cmd, f, args[0], said)
	}
}

// newestFormat is the newest that every node knows, 0 if one does not answer.
func (v *clusterView) newestFormat() int {
	if len(v.Members) == 0 {
		return 0
	}
	return slices.MinFunc(v.Members, func(a, b memberView) int { return a.NewestFormat - b.NewestFormat }).NewestFormat
}

func clusterRaiseFormat(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string, force bool) error {
	body := map[string]any{}
	if force {
		body["force"] = true
	}
	if len(args) > 0 {
		to, err := config.Whole(args[0], math.MaxInt32)
		if err != nil || to < 1 {
			return usageError{fmt.Errorf("FORMAT: %q is no positive number", args[0])}
		}
		body["to"] = to
	}
	var answer struct {
		Format int `json:"format"`
	}
	if err := f.client().call(ctx, http.MethodPost, clusterPath+"/format", body, &answer); err != nil {
		return err
	}
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	newest := ""
	if len(args) == 0 { // it may have been there before: then nothing was raised
		newest = ", the newest that every node knows"
	}
	printf(cmd.OutOrStdout(), "the format is %d%s\n", answer.Format, newest)
	return nil
}

func clusterTransfer(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
	body := map[string]any{}
	if len(args) > 0 {
		body["to"] = args[0]
	}
	if err := f.client().call(ctx, http.MethodPost, clusterPath+"/transfer", body, nil); err != nil {
		return err
	}
	for {
		view, _, err := look(ctx, f)
		switch {
		case err == nil && view.Leader != nil:
			return done(cmd, f, *view.Leader, "leads")
		case ctx.Err() != nil:
			return unavailableError{errors.New("the leadership was given away, and nobody is known to have it")}
		}
		time.Sleep(operatorPause)
	}
}

// done says what was done.
func done(cmd *cobra.Command, f *operatorFlags, id, said string) error {
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]string{"id": id, "done": said})
	}
	printf(cmd.OutOrStdout(), "%s %s\n", id, said)
	return nil
}
