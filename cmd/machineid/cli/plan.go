package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
)

// plansView is the answer of GET operator/plans, and what PUT takes.
type plansView struct {
	Plans     []planView `json:"plans"`
	GraceDays uint32     `json:"graceDays"`
}

type planView struct {
	Tier  string `json:"planTier"`
	Limit uint32 `json:"limit"`
}

const plansPath = "operator/plans"

func newPlanCommand(settings *config.Settings, env environment) *cobra.Command {
	parent, sub := commandsOf(settings, env, "plan", "Look at the plans that orgs can be in, and change them")
	sub("list", "List the plans, with how many devices each may have", cobra.NoArgs, func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
		return tellPlans(ctx, cmd, f, http.MethodGet, nil)
	})
	var days string
	var add bool
	set := sub("set [TIER=LIMIT]...", "Give plans other limits, or with --add make plans; the others stay. Orgs that are over the limit keep their devices, and get no more", cobra.ArbitraryArgs,
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			return setPlans(ctx, cmd, f, args, days, add)
		})
	set.Flags().StringVar(&days, "grace-days", "", "how many `DAYS` an org goes on to work after a payment failed, 0 to 90; as it is if not given")
	set.Flags().BoolVar(&add, "add", false, "make the plans that there are not; a plan cannot be taken away again")
	return parent
}

// setPlans puts what is named in the place of what there is. Of two at the same moment the later counts.
func setPlans(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string, days string, add bool) error {
	given := planFlags{given: args}
	if err := given.each(""); err != nil {
		return usageError{err}
	}
	grace, err := config.Whole(days, 90)
	switch {
	case days == "" && len(args) == 0:
		return usageError{errors.New("there is nothing to change: give TIER=LIMIT, or --grace-days")}
	case days != "" && err != nil:
		return usageError{fmt.Errorf("--grace-days: %q is out of range; choose 0 to 90", days)}
	}
	var all plansView
	if err := f.client().call(ctx, http.MethodGet, plansPath, nil, &all); err != nil {
		return err
	}
	for _, p := range given.plans {
		i := slices.IndexFunc(all.Plans, func(old planView) bool { return old.Tier == p.Tier })
		if i < 0 && !add {
			return noPlan(p.Tier, &all)
		}
		if i < 0 {
			i, all.Plans = len(all.Plans), append(all.Plans, planView{})
		}
		all.Plans[i] = planView{p.Tier, p.Limit}
	}
	if days != "" {
		all.GraceDays = uint32(grace)
	}
	return tellPlans(ctx, cmd, f, http.MethodPut, all)
}

// noPlan refuses a plan that there is not, and says which may have been meant.
func noPlan(name string, all *plansView) error {
	return usageError{fmt.Errorf("there is no plan %q%s; --add makes a new one, for good", name, meantPlan(name, all.names()))}
}

// planRefused says of a plan that a node does not know which may have been meant. Another error stays as it is.
func planRefused(ctx context.Context, f *operatorFlags, name string, err error) error {
	refused, ok := errors.AsType[*refusedError](err)
	var all plansView
	if !ok || refused.Param != "planTier" || f.client().call(ctx, http.MethodGet, plansPath, nil, &all) != nil {
		return err
	}
	return fmt.Errorf("there is no plan %q%s", name, meantPlan(name, all.names()))
}

func (v *plansView) names() []string {
	names := make([]string, len(v.Plans))
	for i, p := range v.Plans {
		names[i] = p.Tier
	}
	return names
}

// meantPlan says which plan may have been meant, or which there are.
func meantPlan(name string, names []string) string {
	meant := config.Nearest(name, names)
	if i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name) }); i >= 0 {
		meant = names[i]
	}
	if meant != "" {
		return ": did you mean " + meant + "?"
	}
	return ": there are " + strings.Join(names, ", ")
}

func tellPlans(ctx context.Context, cmd *cobra.Command, f *operatorFlags, method string, body any) error {
	var raw json.RawMessage
	if err := f.client().call(ctx, method, plansPath, body, &raw); err != nil {
		return err
	}
	var all struct {
		Plans     []json.RawMessage
		GraceDays uint32
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return unreadable(err)
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printJSON(w, raw)
	}
	err := table(w, "PLAN DEVICES", all.Plans, func(raw json.RawMessage) ([]string, error) {
		var p planView
		err := json.Unmarshal(raw, &p)
		return []string{shown(p.Tier), strconv.FormatUint(uint64(p.Limit), 10)}, err
	})
	printf(w, "\ndays of grace after a payment failed: %d\n", all.GraceDays)
	return err
}
