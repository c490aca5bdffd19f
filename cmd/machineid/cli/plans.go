package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"machineid/authority"
	"machineid/cmd/machineid/cli/config"
)

// planFlags are the plans that a new cluster begins with.
type planFlags struct {
	given []string

	plans []authority.Plan // filled in by validate
}

// Bounds of plans, as PUT operator/plans has them.
const (
	maxPlans     = 50
	maxPlanLimit = 10_000_000
	maxPlanName  = 256
	freePlan     = "free"
)

func (f *planFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.given, "plans", []string{"free=3", "pro=25", "scale=250", "max=1000"},
		"the `PLANS` and how many devices each may have; free must be among them; read by a new cluster only")
}

func (f *planFlags) validate() error {
	faults := []error{f.each("--plans: ")}
	if !slices.ContainsFunc(f.plans, func(p authority.Plan) bool { return p.Tier == freePlan }) && faults[0] == nil {
		faults = append(faults, errors.New("--plans: free is missing; new orgs begin with it, so add for example free=3"))
	}
	return errors.Join(faults...)
}

// each reads the plans that are given. What it says begins with where they were.
func (f *planFlags) each(where string) error {
	var faults []error
	f.plans = nil
	seen := map[string]bool{}
	for _, text := range f.given {
		name, limit, ok := strings.Cut(text, "=")
		n, err := config.Whole(limit, maxPlanLimit)
		switch {
		case !ok || err != nil || name == "" || len(name) > maxPlanName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }):
			faults = append(faults, fmt.Errorf("%s%q is no plan; write a name and a number of devices up to %d, for example pro=25", where, text, maxPlanLimit))
			continue
		case seen[name]:
			faults = append(faults, fmt.Errorf("%s%s is named twice; give each plan once", where, name))
		}
		seen[name] = true
		f.plans = append(f.plans, authority.Plan{Tier: name, Limit: uint32(n)})
	}
	if len(f.given) > maxPlans {
		faults = append(faults, fmt.Errorf("%s%d plans are too many; give at most %d", where, len(f.given), maxPlans))
	}
	return errors.Join(faults...)
}
