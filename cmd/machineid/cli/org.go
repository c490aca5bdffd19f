package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/timestamp"
)

// orgView is an org as operators see it.
type orgView struct {
	OrgID            string  `json:"orgId"`
	Name             *string `json:"name"`
	ExternalID       *string `json:"externalId"`
	Version          int     `json:"version"`
	CreatedAt        *string `json:"createdAt"`
	PlanTier         string  `json:"planTier"`
	PlanState        string  `json:"planState"`
	AccessUntil      *string `json:"accessUntil"`
	Limit            int     `json:"limit"`
	DevicesUsed      int     `json:"devicesUsed"`
	OverLimit        bool    `json:"overLimit"`
	Hold             bool    `json:"hold"`
	ExecutionEnabled bool    `json:"executionEnabled"`
}

// ended reports whether access has ended: every validate says ENTITLEMENT_EXPIRED, whatever else is said of the org.
func (o *orgView) ended() bool {
	if o.AccessUntil == nil {
		return false
	}
	ms, err := timestamp.Parse(*o.AccessUntil)
	return err == nil && ms <= time.Now().UnixMilli()
}

// state is the plan's for people: an org whose access has ended is not active.
func (o *orgView) state() string {
	if o.ended() {
		return "access ended"
	}
	return o.PlanState
}

// propagationView tells how a change reached the edges.
type propagationView struct {
	Edges, Confirmed, Expired int
	ElapsedMs                 float64
}

// changeView is what answers to changes have in common.
type changeView struct {
	Changed     bool            `json:"changed"`
	Propagation propagationView `json:"propagation"`
}

// operatorCommand makes a command that calls as the operator. run gets the arguments of the command line, and of a command about an ORG its id as the first.
type operatorCommand func(use, short string, args cobra.PositionalArgs, run orgRun) *cobra.Command

// commandsOf makes a command with such commands below it.
func commandsOf(settings *config.Settings, env environment, use, short string) (*cobra.Command, operatorCommand) {
	parent := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	return parent, func(use, short string, args cobra.PositionalArgs, run orgRun) *cobra.Command {
		cmd := &cobra.Command{Use: use, Short: short, Args: args}
		if _, rest, _ := strings.Cut(use, " "); rest == "ORG" || strings.HasPrefix(rest, "ORG ") {
			run = byOrg(cmd, args, run)
		}
		addOperatorFlags(cmd, settings.Validate, env, run)
		parent.AddCommand(cmd)
		return cmd
	}
}

// orgCreate are the flags of org create, orgPlan those of org plan.
type (
	orgCreate struct {
		name, externalID, plan string
		version                int
	}
	orgPlan struct{ limit, accessUntil string }
)

func newOrgCommand(settings *config.Settings, env environment) *cobra.Command {
	parent, sub := commandsOf(settings, env, "org", "Look at orgs, and change what they may")
	sub("list", "List all orgs", cobra.NoArgs, orgList)
	sub("show ORG", "Show one org", cobra.ExactArgs(1), func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
		return tellOrg(ctx, cmd, f, http.MethodGet, args[0], nil)
	})
	var c orgCreate
	create := sub("create", "Make an org; its keys are shown this once", cobra.NoArgs, func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
		return createOrg(ctx, cmd, f, &c)
	})
	create.Flags().StringVar(&c.name, "name", "", "the org's `NAME`, for people")
	create.Flags().StringVar(&c.externalID, "external-id", "", "the org's `ID` in another system")
	create.Flags().StringVar(&c.plan, "plan", "", "the `TIER` to begin with; free if not given")
	create.Flags().IntVar(&c.version, "version", 0, "the API generation, 1 or 2; the cluster's default if not given (in 1, register with an admin key undoes a revoke)")
	var p orgPlan
	plan := sub("plan ORG [TIER]", "Put an org in another plan, give it a limit of its own, or an end of access", cobra.RangeArgs(1, 2),
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			body, err := p.body(args[1:])
			if err != nil {
				return err
			}
			return planRefused(ctx, f, strings.Join(args[1:], ""), tellOrg(ctx, cmd, f, http.MethodPatch, args[0], body))
		})
	plan.Flags().StringVar(&p.limit, "limit", "", "how many devices: a `NUMBER`, or plan for what the plan gives")
	plan.Flags().StringVar(&p.accessUntil, "access-until", "", "when access ends: a `TIME` like 2030-01-02T15:04:05Z, or never")
	config.TypedOnly(plan, "limit", "access-until")
	for use, held := range map[string]bool{"freeze": true, "unfreeze": false} {
		short := "Hold an org: every validate says PLAN_FROZEN"
		if !held {
			short = "End the hold"
		}
		sub(use+" ORG", short, cobra.ExactArgs(1), func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			return tellOrg(ctx, cmd, f, http.MethodPatch, args[0], map[string]any{"hold": held})
		})
	}
	for use, enabled := range map[string]bool{"disable": false, "enable": true} {
		short := "Switch a whole org off: every validate says ORG_DISABLED"
		if enabled {
			short = "Switch an org on again"
		}
		sub(use+" ORG", short, cobra.ExactArgs(1), func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			return changeFor(ctx, cmd, f, args[0], "org/execution", map[string]any{"enabled": enabled}, "org "+args[0]+" is "+use+"d")
		})
	}
	var confirm, subscription string
	del := sub("delete ORG", "Delete an org with its devices, keys and audit trail, for good", cobra.ExactArgs(1),
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			if confirm == "" || confirm != args[0] && !f.rehearses { // whose id it is, is not known by then
				return usageError{fmt.Errorf("--confirm must repeat the org's id, %s: there is no way back", args[0])}
			}
			body := map[string]any{"confirm": confirm}
			if subscription != "" {
				body["subscription"] = subscription
			}
			return changeFor(ctx, cmd, f, args[0], "org/delete", body, "org "+args[0]+" is deleted")
		})
	del.Flags().StringVar(&subscription, "subscription", "", "what becomes of a subscription that it pays for: `WAY` is cancel (at once, without a refund) or leave; unsaid, such an org is not deleted")
	del.Flags().StringVar(&confirm, "confirm", "", "the org's `ID` once more")
	config.TypedOnly(del, "subscription", "confirm")
	return parent
}

func (p *orgPlan) body(tier []string) (map[string]any, error) {
	body := map[string]any{}
	if len(tier) > 0 {
		body["planTier"] = tier[0]
	}
	switch n, err := config.Whole(p.limit, maxPlanLimit); {
	case p.limit == "":
	case p.limit == "plan":
		body["limit"] = nil
	case err != nil:
		return nil, usageError{fmt.Errorf("--limit: %q is no number of devices; give one from 0 to %d, without zeros in front, or plan", p.limit, maxPlanLimit)}
	default:
		body["limit"] = n
	}
	switch p.accessUntil {
	case "":
	case "never":
		body["accessUntil"] = nil
	default:
		if err := checkMoment("access-until", p.accessUntil); err != nil {
			return nil, err
		}
		body["accessUntil"] = p.accessUntil
	}
	if len(body) == 0 {
		return nil, usageError{errors.New("there is nothing to change: give a TIER, --limit or --access-until")}
	}
	return body, nil
}

func orgList(ctx context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
	all := []json.RawMessage{}
	if err := eachOrg(ctx, f.client(), func(raw json.RawMessage) error { all = append(all, raw); return nil }); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printJSON(w, all)
	}
	return table(w, "ORG NAME PLAN STATE DEVICES LIMIT EXECUTION", all, func(raw json.RawMessage) ([]string, error) {
		var o orgView
		err := json.Unmarshal(raw, &o)
		return []string{
			shown(o.OrgID), text(o.Name), shown(o.PlanTier), cell(o.state()), strconv.Itoa(o.DevicesUsed), strconv.Itoa(o.Limit), onOff(o.ExecutionEnabled),
		}, err
	})
}

// orgsPath is where operators' calls about an org begin.
const orgsPath = "operator/orgs/"

// tellOrg makes a call whose answer is an org, and shows it.
func tellOrg(ctx context.Context, cmd *cobra.Command, f *operatorFlags, method, id string, body any) error {
	var raw json.RawMessage
	late, err := f.client().change(ctx, method, orgsPath+url.PathEscape(id), body, &raw)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printChange(w, raw, late)
	}
	var o orgView
	var c changeView
	if err := errors.Join(json.Unmarshal(raw, &o), json.Unmarshal(raw, &c)); err != nil {
		return unreadable(err)
	}
	printf(w, "org           %s\nname          %s\nexternal id   %s\ngeneration    %d\nmade          %s\nplan          %s, %s\nhold          %t\naccess until  %s\ndevices       %d of %d%s\nexecution     %s\n",
		shown(o.OrgID), text(o.Name), text(o.ExternalID), o.Version, text(o.CreatedAt), shown(o.PlanTier), o.state(), o.Hold, text(o.AccessUntil),
		o.DevicesUsed, o.Limit, map[bool]string{true: ", over the limit"}[o.OverLimit], onOff(o.ExecutionEnabled))
	if o.ended() {
		printf(w, "\nnote: access has ended, so every validate says ENTITLEMENT_EXPIRED; 'machineid org plan %s --access-until never' ends that, or a time to come in the place of never\n", o.OrgID)
	}
	if method != http.MethodGet {
		printf(w, "\n%s\n", inForce(c, late))
	}
	return nil
}

// changeFor makes a change for an org and says what came of it.
func changeFor(ctx context.Context, cmd *cobra.Command, f *operatorFlags, org, path string, body any, said string) error {
	client := f.client()
	client.org = org
	var raw json.RawMessage
	late, err := client.change(ctx, http.MethodPost, path, body, &raw)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printChange(w, raw, late)
	}
	c := changeView{Changed: true} // for answers that do not say
	if err := json.Unmarshal(raw, &c); err != nil {
		return unreadable(err)
	}
	printf(w, "%s; %s\n", said, inForce(c, late))
	return nil
}

func inForce(c changeView, late []string) string {
	if c.Changed {
		return c.Propagation.told(late)
	}
	return "it was so before; " + c.Propagation.told(late)
}

func createOrg(ctx context.Context, cmd *cobra.Command, f *operatorFlags, c *orgCreate) error {
	body := map[string]any{"name": c.name, "externalId": c.externalID}
	if c.plan != "" {
		body["planTier"] = c.plan
	}
	if cmd.Flags().Changed("version") {
		if c.version != 1 && c.version != 2 {
			return usageError{fmt.Errorf("--version: %d is no generation of the API; choose 1 or 2", c.version)}
		}
		body["version"] = c.version
	}
	var raw json.RawMessage
	if err := f.client().call(ctx, http.MethodPost, "operator/orgs", body, &raw); err != nil {
		return planRefused(ctx, f, c.plan, err)
	}
	var made struct{ OrgID, OrgAPIKey, AgentKey string }
	if err := json.Unmarshal(raw, &made); err != nil {
		return unreadable(err)
	}
	w := cmd.OutOrStdout()
	shows(w, "org %s is made, and its keys were shown to nobody: 'machineid key list %[1]s' names them, 'machineid key revoke %[1]s KEY_ID' ends one, "+
		"'machineid key create %[1]s --scope admin' makes another", plain(made.OrgID))
	if f.output == "json" {
		return printJSON(w, raw)
	}
	printf(w, "org        %s\nadmin key  %s\nagent key  %s\n\nThe keys are not shown again.\n", made.OrgID, made.OrgAPIKey, made.AgentKey)
	return nil
}

// table writes a line for each of what was listed.
func table(w io.Writer, head string, list []json.RawMessage, line func(json.RawMessage) ([]string, error)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = io.WriteString(t, strings.ReplaceAll(head, " ", "\t")+"\n")
	for _, raw := range list {
		cells, err := line(raw)
		if err != nil {
			return unreadable(err)
		}
		for i, cell := range cells {
			cells[i] = plain(cell)
		}
		_, _ = io.WriteString(t, strings.Join(cells, "\t")+"\n")
	}
	return t.Flush()
}

// text is an optional name, id or time for people.
func text(s *string) string {
	if s == nil {
		return "-"
	}
	return shown(*s)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
