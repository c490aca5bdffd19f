package state

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// FreeTier is what orgs begin with; nobody pays for it.
const FreeTier = "free"

func hasTier(plans *statepb.Plans, tier string) bool {
	return slices.ContainsFunc(plans.GetPlans(), func(p *statepb.Plan) bool { return p.GetTier() == tier })
}

// setPlans replaces the tiers. Orgs are in them, so none may go; a cap that falls below what is
// in use takes nothing away, it only gives no more. No edge holds a plan.
func (t *tx) setPlans(c *statepb.SetPlans) Outcome {
	next := c.GetPlans()
	seen := map[string]bool{}
	for _, p := range next.GetPlans() {
		if p.GetTier() == "" || seen[p.GetTier()] {
			return Outcome{Refusal: TierMissing}
		}
		seen[p.GetTier()] = true
	}
	for _, p := range t.m.plans.GetPlans() {
		if !seen[p.GetTier()] {
			return Outcome{Refusal: TierMissing}
		}
	}
	if !seen[FreeTier] {
		return Outcome{Refusal: TierMissing}
	}
	if proto.Equal(t.m.plans, next) {
		return Outcome{}
	}
	set := planSettings(t.m.plans, next)
	t.putPlans(next)
	t.audit(OrgID{}, "plans.changed", t.named("plans"), set...)
	return Outcome{Changed: true}
}

func (t *tx) putPlans(p *statepb.Plans) {
	t.put(plansKey, p)
	t.m.plans = p
}
