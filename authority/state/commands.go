package state

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// Stops reports whether a command takes rights away, or keeps the link's record.
// Such a command is let through on a full disk for as long as it can be: an off
// switch that needs room is none.
func Stops(cmd *statepb.Command) bool {
	switch c := cmd.GetChange().(type) {
	case *statepb.Command_Revoke, *statepb.Command_Remove, *statepb.Command_SetLink:
		return true
	case *statepb.Command_SetExecution:
		return !c.SetExecution.GetEnabled()
	}
	return false
}

// apply runs the command, if its caller still may, and if it has not been run
// before under the name that the caller gave it.
func (t *tx) apply() Outcome {
	if refusal := t.authorize(); refusal != Granted {
		return Outcome{Refusal: refusal}
	}
	return t.once(t.run)
}

func (t *tx) run() Outcome {
	switch c := t.cmd.GetChange().(type) {
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
	case *statepb.Command_SetSeen:
		return t.setSeen(c.SetSeen)
	}
	panic(fmt.Errorf("the command at index %d, a %T, has no code in this version", t.at.Index, t.cmd.GetChange()))
}

func (t *tx) seed(c *statepb.Seed) Outcome {
	if t.m.Cluster() != nil || c.GetCluster() == nil {
		return Outcome{}
	}
	t.putCluster(c.GetCluster())
	t.put(plansKey, c.GetPlans())
	t.m.plans = c.GetPlans()
	return Outcome{Changed: true}
}

func (t *tx) setLink(c *statepb.SetLink) Outcome {
	old := t.m.Cluster()
	// A record from a deposed leader says nothing about this term's leases.
	if old == nil || c.GetTerm() != t.at.Term || proto.Equal(old.GetLink(), c.GetRecord()) {
		return Outcome{}
	}
	next := clone(old) // others read the old one
	next.Link = c.GetRecord()
	t.putCluster(next)
	return Outcome{Changed: true}
}

func (t *tx) putCluster(c *statepb.Cluster) {
	t.put(clusterKey, c)
	t.m.cluster.Store(c)
}

// createOrg makes an org with its keys, or finds that it is there. It emits the
// keys also then: its caller goes on to use them.
func (t *tx) createOrg(c *statepb.CreateOrg) Outcome {
	id := idOf(c.GetOrgId())
	sound := id != OrgID{}
	for _, k := range c.GetKeys() {
		sound = sound && len(k.GetHash()) == len([32]byte{})
	}
	org, made := t.changeOrg(id, func(old *statepb.Org) *statepb.Org {
		if old != nil || !sound {
			return nil
		}
		return &statepb.Org{
			Id: id[:], Name: c.GetName(), ExternalId: c.GetExternalId(), CreatedAtMs: t.now, PlanTier: "free", Version: 2,
		}
	})
	if !sound {
		return Outcome{Refusal: OrgNotFound} // there can be no such org
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
		t.audit(id, "org.created", id.String())
	}
	return Outcome{Changed: made, Org: org, Plan: t.plan(t.seated(id, org))}
}

func (t *tx) setExecution(c *statepb.SetExecution) Outcome {
	id := idOf(c.GetOrgId())
	org, changed := t.changeOrg(id, func(org *statepb.Org) *statepb.Org {
		if org != nil {
			org.ExecutionDisabled = !c.GetEnabled()
		}
		return org
	})
	if org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	if changed {
		action := "org.disabled"
		if c.GetEnabled() {
			action = "org.enabled"
		}
		t.audit(id, action, id.String())
	}
	return Outcome{Changed: changed, Org: org, Plan: t.plan(t.seated(id, org))}
}

// register takes a seat, or finds that the device has one. It never restores a
// revoked device.
func (t *tx) register(c *statepb.Register) Outcome {
	h := t.holder(c.GetOrgId())
	t.sweep(h)
	action, existed := "device.registered", false
	out := t.changeOccupant(h, c.GetDeviceId(), func(d *statepb.Occupant) (*statepb.Occupant, Refusal) {
		if d != nil {
			if d.GetRevokedAtMs() != 0 {
				return d, DeviceRevoked
			}
			action, existed = "device.updated", true
			t.describe(d, c)
			return d, Granted
		}
		d = &statepb.Occupant{Id: c.GetDeviceId(), CreatedAtMs: t.now}
		t.describe(d, c)
		return d, t.closed(h)
	})
	out.Existed = existed
	if out.Changed {
		t.audit(h.id, action, c.GetDeviceId())
	}
	return out
}

// describe replaces what the caller gave and leaves the rest.
func (t *tx) describe(d *statepb.Occupant, c *statepb.Register) {
	if c.Name != nil {
		d.Name = c.GetName()
	}
	if c.Metadata != nil {
		d.Metadata = c.GetMetadata()
	}
	if c.TtlSeconds != nil {
		d.ExpiresAtMs = endOf(t.now, c.GetTtlSeconds())
	}
}

// endOf is when a time to live that begins now ends. The API has checked it; no
// value may lead to a time that the keys cannot hold.
func endOf(now, ttlSeconds int64) int64 {
	return now + 1000*min(max(ttlSeconds, 0), (math.MaxInt64-now)/1000)
}

func (t *tx) revoke(c *statepb.Revoke) Outcome {
	return t.onDevice(c.GetOrgId(), c.GetDeviceId(), "device.revoked", func(_ *holder, d *statepb.Occupant) (*statepb.Occupant, Refusal) {
		if d.GetRevokedAtMs() == 0 {
			d.RevokedAtMs = t.now
		}
		return d, Granted
	})
}

func (t *tx) unrevoke(c *statepb.Unrevoke) Outcome {
	return t.onDevice(c.GetOrgId(), c.GetDeviceId(), "device.restored", func(h *holder, d *statepb.Occupant) (*statepb.Occupant, Refusal) {
		if d.GetRevokedAtMs() == 0 {
			return d, Granted
		}
		if !OccupantOf(d).Present(t.now) {
			return d, DeviceNotFound // there is nothing left to restore
		}
		d.RevokedAtMs = 0
		return d, t.closed(h)
	})
}

func (t *tx) remove(c *statepb.Remove) Outcome {
	return t.onDevice(c.GetOrgId(), c.GetDeviceId(), "device.removed", func(*holder, *statepb.Occupant) (*statepb.Occupant, Refusal) {
		return nil, Granted
	})
}

// onDevice changes a device that must be there.
func (t *tx) onDevice(org []byte, id, action string, change func(*holder, *statepb.Occupant) (*statepb.Occupant, Refusal)) Outcome {
	h := t.holder(org)
	out := t.changeOccupant(h, id, func(d *statepb.Occupant) (*statepb.Occupant, Refusal) {
		if d == nil {
			return nil, DeviceNotFound
		}
		return change(h, d)
	})
	if out.Changed {
		t.audit(h.id, action, id)
	}
	return out
}

// closed says why an org gives away no further seat, Granted if it does.
func (t *tx) closed(h *holder) Refusal {
	org := HolderOf(h.org)
	switch plan := t.plan(h); {
	case org.PlanFrozen(t.now):
		return PlanFrozen
	case org.Expired(t.now):
		return EntitlementExpired
	case plan.Used >= plan.Limit:
		return LimitReached
	}
	return Granted
}
