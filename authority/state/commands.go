package state

import (
	"fmt"

	"machineid/authority/state/statepb"
)

// apply runs the command. A command of a newer version than this binary knows
// ends the process: to skip it would let the nodes' states part for ever.
func (t *tx) apply() Outcome {
	switch c := t.cmd.Change.(type) {
	case *statepb.Command_Seed:
		return t.seed(c.Seed)
	case *statepb.Command_SetLink:
		return t.setLink(c.SetLink)
	case *statepb.Command_CreateOrg:
		return t.createOrg(c.CreateOrg)
	case *statepb.Command_SetExecution:
		return t.setExecution(c.SetExecution)
	case *statepb.Command_Register:
		return t.register(c.Register)
	case *statepb.Command_Revoke:
		return t.revoke(c.Revoke)
	case *statepb.Command_Unrevoke:
		return t.unrevoke(c.Unrevoke)
	case *statepb.Command_Remove:
		return t.remove(c.Remove)
	}
	panic(fmt.Errorf("the command at index %d is of a kind that this version does not know: install the version of the other nodes", t.at.Index))
}

func (t *tx) seed(c *statepb.Seed) Outcome {
	if t.m.Cluster() != nil {
		return Outcome{}
	}
	t.putCluster(c.Cluster)
	t.put(plansKey, c.Plans)
	t.m.plans = c.Plans
	return Outcome{Changed: true}
}

func (t *tx) setLink(c *statepb.SetLink) Outcome {
	cluster := clone(t.m.Cluster())
	// A record from a deposed leader says nothing about this term's leases.
	if cluster == nil || c.Term != t.at.Term {
		return Outcome{}
	}
	cluster.Link = c.Record
	t.putCluster(cluster)
	return Outcome{Changed: true}
}

func (t *tx) putCluster(c *statepb.Cluster) {
	t.put(clusterKey, c)
	t.m.cluster.Store(c)
}

func (t *tx) createOrg(c *statepb.CreateOrg) Outcome {
	id := OrgID(c.OrgId)
	org, changed := t.changeOrg(id, func(old *statepb.Org) *statepb.Org {
		if old != nil {
			return old
		}
		return &statepb.Org{
			Id: c.OrgId, Name: c.Name, ExternalId: c.ExternalId, CreatedAtMs: t.now, PlanTier: "free", Version: 2,
		}
	})
	if !changed {
		return Outcome{Org: org}
	}
	for _, k := range c.Keys {
		t.changeKey([32]byte(k.Hash), func(*statepb.Key) *statepb.Key {
			k.OrgId, k.CreatedAtMs = c.OrgId, t.now
			return k
		})
	}
	t.audit(id, "org.created", id.String())
	return Outcome{Changed: true, Org: org, Plan: t.plan(org)}
}

func (t *tx) setExecution(c *statepb.SetExecution) Outcome {
	id := OrgID(c.OrgId)
	org, changed := t.changeOrg(id, func(org *statepb.Org) *statepb.Org {
		if org != nil {
			org.ExecutionDisabled = !c.Enabled
		}
		return org
	})
	if org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	if changed {
		t.audit(id, map[bool]string{true: "org.enabled", false: "org.disabled"}[c.Enabled], id.String())
	}
	return Outcome{Changed: changed, Org: org}
}

func (t *tx) register(c *statepb.Register) Outcome {
	id := OrgID(c.OrgId)
	org := t.org(id)
	if org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	t.sweep(id)
	out := Outcome{Org: org}
	plan := t.plan(org)
	action := "device.registered"
	out.Device, out.Changed = t.changeOccupant(id, c.DeviceId, func(d *statepb.Occupant) *statepb.Occupant {
		if OccupantOf(d).Present(t.now) {
			if d.RevokedAtMs != 0 {
				out.Refusal = DeviceRevoked
				return d
			}
			out.Existed, action = true, "device.updated"
			setMeta(d, c, t.now)
			return d
		}
		if out.Refusal = t.closed(org, plan); out.Refusal != Granted {
			return d
		}
		next := &statepb.Occupant{Id: c.DeviceId, CreatedAtMs: t.now}
		setMeta(next, c, t.now)
		return next
	})
	return t.done(out, org, action, c.DeviceId)
}

func (t *tx) revoke(c *statepb.Revoke) Outcome {
	return t.onDevice(c.OrgId, c.DeviceId, "device.revoked", func(d *statepb.Occupant, _ *statepb.Org) Refusal {
		if d.RevokedAtMs == 0 {
			d.RevokedAtMs = t.now
		}
		return Granted
	})
}

func (t *tx) unrevoke(c *statepb.Unrevoke) Outcome {
	return t.onDevice(c.OrgId, c.DeviceId, "device.restored", func(d *statepb.Occupant, org *statepb.Org) Refusal {
		if d.RevokedAtMs == 0 {
			return Granted
		}
		if r := t.closed(org, t.plan(org)); r != Granted {
			return r
		}
		d.RevokedAtMs = 0
		return Granted
	})
}

func (t *tx) remove(c *statepb.Remove) Outcome {
	return t.onDevice(c.OrgId, c.DeviceId, "device.removed", nil)
}

// onDevice edits a device that must be there; a nil edit removes it.
func (t *tx) onDevice(orgID []byte, device, action string, edit func(*statepb.Occupant, *statepb.Org) Refusal) Outcome {
	id := OrgID(orgID)
	org := t.org(id)
	if org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	out := Outcome{Org: org}
	out.Device, out.Changed = t.changeOccupant(id, device, func(d *statepb.Occupant) *statepb.Occupant {
		switch {
		case !OccupantOf(d).Present(t.now):
			out.Refusal = DeviceNotFound
			return d
		case edit == nil:
			return nil
		}
		was := clone(d)
		if out.Refusal = edit(d, org); out.Refusal != Granted {
			return was
		}
		return d
	})
	return t.done(out, org, action, device)
}

// done completes the outcome of a command on a device.
func (t *tx) done(out Outcome, org *statepb.Org, action, device string) Outcome {
	if out.Changed {
		t.audit(OrgID(org.Id), action, device)
	}
	out.Plan = t.plan(org)
	return out
}

// closed says why an org takes no further active device.
func (t *tx) closed(org *statepb.Org, plan Plan) Refusal {
	h := HolderOf(org)
	switch {
	case h.PlanFrozen(t.now):
		return PlanFrozen
	case h.Expired(t.now):
		return EntitlementExpired
	case plan.Used >= plan.Limit:
		return LimitReached
	}
	return Granted
}
