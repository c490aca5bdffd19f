package state

import "machineid/authority/state/statepb"

// createOrg makes an org with its keys, or finds that it is there. It emits the
// keys also then: its caller goes on to use them.
func (t *tx) createOrg(c *statepb.CreateOrg) Outcome {
	id := idOf(c.GetOrgId())
	sound := id != OrgID{}
	version := uint32(2)
	if c.GetVersion() == 1 {
		version = 1
	}
	tier := c.GetPlanTier()
	if tier == "" {
		tier = FreeTier
	}
	known := tier == FreeTier || hasTier(t.m.plans, tier)
	for _, k := range c.GetKeys() {
		sound = sound && len(k.GetHash()) == len([32]byte{})
	}
	full := false
	org, made := t.changeOrg(id, func(old *statepb.Org) *statepb.Org {
		if old != nil || !sound || !known {
			return nil
		}
		if most := c.GetSignUp().GetMaxOrgs(); most > 0 && t.countOrgs() >= uint64(most) {
			full = true
			return nil
		}
		return &statepb.Org{
			Id: id[:], Name: c.GetName(), ExternalId: c.GetExternalId(), CreatedAtMs: t.now, PlanTier: tier, Version: version,
		}
	})
	if !sound {
		return Outcome{Refusal: OrgNotFound} // there can be no such org
	}
	if full {
		return Outcome{Refusal: OrgLimit}
	}
	if org == nil {
		return Outcome{Refusal: TierUnknown}
	}
	for _, k := range c.GetKeys() {
		t.changeKey(id, [32]byte(k.GetHash()), func(old *statepb.Key) *statepb.Key {
			if !made || old != nil { // a key never goes to another org
				return nil
			}
			k.OrgId, k.CreatedAtMs = id[:], t.now
			return k
		})
	}
	if made {
		if c.GetSignUp() != nil {
			t.signedUp(id)
		}
		t.audit(id, "org.created", id.String(), orgSettings(nil, org)...)
		for _, k := range c.GetKeys() {
			if t.detailed() {
				t.audit(id, "key.created", k.GetKeyId(), keySettings(nil, k)...)
			}
		}
	}
	return Outcome{Changed: made, Org: org, Plan: t.plan(t.seated(id, org))}
}

func (t *tx) setExecution(c *statepb.SetExecution) Outcome {
	action := "org.disabled"
	if c.GetEnabled() {
		action = "org.enabled"
	}
	return t.editOrg(idOf(c.GetOrgId()), action, func(org *statepb.Org) { org.ExecutionDisabled = !c.GetEnabled() })
}

// updateOrg changes what the command names of an org's settings and of its plan.
func (t *tx) updateOrg(c *statepb.UpdateOrg) Outcome {
	id := idOf(c.GetOrgId())
	if c.PlanTier != nil && !hasTier(t.m.plans, c.GetPlanTier()) {
		if org, _ := t.changeOrg(id, func(*statepb.Org) *statepb.Org { return nil }); org == nil {
			return Outcome{Refusal: OrgNotFound}
		}
		return Outcome{Refusal: TierUnknown}
	}
	return t.editOrg(id, "org.updated", func(org *statepb.Org) {
		if v := c.GetVersion(); v == 1 || v == 2 {
			org.Version = v
		}
		if c.PlanTier != nil {
			org.PlanTier = c.GetPlanTier()
		}
		if c.Held != nil {
			org.Held = c.GetHeld()
		}
		if c.AccessUntilMs != nil {
			org.AccessUntilMs = max(c.GetAccessUntilMs(), 0)
		}
		switch {
		case c.Limit != nil:
			org.Limit = c.Limit
		case c.GetNoLimit():
			org.Limit = nil
		}
	})
}

// editOrg changes an org that must be there, and writes its audit entry.
func (t *tx) editOrg(id OrgID, action string, edit func(*statepb.Org)) Outcome {
	before := t.org(id)
	org, changed := t.changeOrg(id, func(org *statepb.Org) *statepb.Org {
		if org != nil {
			edit(org)
		}
		return org
	})
	if org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	switch {
	case !changed:
	case t.detailed():
		t.auditOrg(id, before, org)
	default:
		t.audit(id, action, id.String())
	}
	return Outcome{Changed: changed, Org: org, Plan: t.plan(t.seated(id, org))}
}

// auditOrg records each thing that was set of an org in an entry of its own: who looks for holds finds them by their name.
func (t *tx) auditOrg(id OrgID, old, org *statepb.Org) {
	for _, s := range differing(orgSettings(old, org)) {
		switch action := orgActions[s.GetName()]; {
		case s.GetName() == "version":
			t.auditSome(versions, id, action, id.String(), s)
		case s.GetName() == "hold" && !org.GetHeld():
			t.audit(id, "org.unfrozen", id.String(), s)
		case s.GetName() == "executionEnabled" && !org.GetExecutionDisabled():
			t.audit(id, "org.enabled", id.String(), s)
		default:
			t.audit(id, action, id.String(), s)
		}
	}
}

// orgActions name what is done to an org by what is set of it.
var orgActions = map[string]string{
	"executionEnabled": "org.disabled", "hold": "org.frozen", "planTier": "org.plan_changed", "limit": "org.limit_changed",
	"accessUntil": "org.access_changed", "version": "org.version_changed",
}
