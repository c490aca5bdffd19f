package state

import (
	"bytes"
	"cmp"
	"slices"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// model is the state as plain maps: no counters, no indexes, no sweeps, no cache.
type model struct {
	now    int64
	orgs   map[OrgID]*modelOrg
	keys   map[[32]byte]OrgID
	audits int
	once   map[onceName]*onceResult
}

type onceName struct {
	org OrgID
	id  string
}

type onceResult struct {
	at      int64
	request string
	result  result
	plan    Plan // what the first was told, filled in by whom it was told to
}

type modelOrg struct {
	disabled, held bool
	limit          uint32
	grace, access  int64
	devices        map[string]*modelDevice
}

type modelDevice struct {
	id, name         string
	metadata         []byte
	created, revoked int64
	ends             int64
}

func newModel() *model {
	return &model{orgs: map[OrgID]*modelOrg{}, keys: map[[32]byte]OrgID{}, once: map[onceName]*onceResult{}}
}

// device returns one that stands at the model's time: a revoked one stays after
// its end.
func (m *model) device(o *modelOrg, id string) *modelDevice {
	if o == nil || o.devices[id] == nil || o.devices[id].revoked == 0 && m.ended(o.devices[id]) {
		return nil
	}
	return o.devices[id]
}

func (m *model) ended(d *modelDevice) bool { return d.ends != 0 && d.ends <= m.now }

func (m *model) used(o *modelOrg) (n uint32) {
	for id := range o.devices {
		if d := m.device(o, id); d != nil && d.revoked == 0 {
			n++
		}
	}
	return n
}

// room is what a new active device meets.
func (m *model) room(o *modelOrg) Refusal {
	switch {
	case o.held || o.grace != 0 && o.grace <= m.now:
		return PlanFrozen
	case o.access != 0 && o.access <= m.now:
		return EntitlementExpired
	case m.used(o) >= o.limit:
		return LimitReached
	}
	return Granted
}

// result is what a command must come to.
type result struct {
	refusal          Refusal
	changed, existed bool
	device           *modelDevice
	once             *onceResult // what is remembered of it
	replayed         bool
}

// apply runs a command and counts its audit entry.
func (m *model) apply(c *statepb.Command) result {
	m.now = max(m.now, c.GetTimeMs())
	org, _ := deviceOf(c)
	if e := c.GetSetExecution(); e != nil {
		org = OrgID(e.GetOrgId())
	}
	if by := c.GetCaller(); by != nil {
		of, known := m.keys[[32]byte(by.GetKeyHash())]
		switch {
		case !known || of != org:
			return result{refusal: OrgNotFound}
		case !slices.Contains(by.GetScopes(), statepb.Key_ADMIN): // as all keys here
			return result{refusal: InsufficientScope}
		}
	}
	name := onceName{org, string(c.GetOnce().GetId())}
	if before := m.once[name]; c.GetOnce() != nil && before != nil && before.at > m.now-day {
		if before.request != string(c.GetOnce().GetRequest()) {
			return result{refusal: IdempotencyMismatch}
		}
		again := before.result
		again.once, again.replayed = before, true
		return again
	}
	r := m.change(c)
	if r.changed {
		m.audits++
	}
	if c.GetOnce() != nil && r.refusal != OrgNotFound {
		r.once = &onceResult{at: m.now, request: string(c.GetOnce().GetRequest()), result: r}
		if r.device != nil {
			device := *r.device
			r.once.result.device = &device
		}
		m.once[name] = r.once
	}
	return r
}

func (m *model) change(cmd *statepb.Command) result {
	switch c := cmd.GetChange().(type) {
	case *statepb.Command_CreateOrg:
		id := OrgID(c.CreateOrg.GetOrgId())
		if m.orgs[id] != nil {
			return result{}
		}
		m.orgs[id] = &modelOrg{limit: freeLimit, devices: map[string]*modelDevice{}}
		for _, k := range c.CreateOrg.GetKeys() {
			m.keys[[32]byte(k.GetHash())] = id
		}
		return result{changed: true}
	case *statepb.Command_SetExecution:
		o := m.orgs[OrgID(c.SetExecution.GetOrgId())]
		if o == nil {
			return result{refusal: OrgNotFound}
		}
		was := o.disabled
		o.disabled = !c.SetExecution.GetEnabled()
		return result{changed: was != o.disabled}
	case *statepb.Command_Register:
		return m.register(c.Register)
	}
	org, id := deviceOf(cmd)
	o := m.orgs[org]
	d := m.device(o, id)
	switch {
	case o == nil:
		return result{refusal: OrgNotFound}
	case d == nil:
		return result{refusal: DeviceNotFound}
	}
	was := d.revoked
	switch cmd.GetChange().(type) {
	case *statepb.Command_Remove:
		delete(o.devices, id)
		return result{changed: true}
	case *statepb.Command_Revoke:
		if was == 0 {
			d.revoked = m.now
		}
	case *statepb.Command_Unrevoke:
		if was != 0 {
			if m.ended(d) {
				return result{refusal: DeviceNotFound, device: d}
			}
			if r := m.room(o); r != Granted {
				return result{refusal: r, device: d}
			}
		}
		d.revoked = 0
	}
	return result{changed: was != d.revoked, device: d}
}

func (m *model) register(c *statepb.Register) result {
	o := m.orgs[OrgID(c.GetOrgId())]
	if o == nil {
		return result{refusal: OrgNotFound}
	}
	d := m.device(o, c.GetDeviceId())
	r := result{existed: d != nil, device: d}
	switch {
	case d == nil:
		if r.refusal = m.room(o); r.refusal != Granted {
			return r
		}
		d = &modelDevice{id: c.GetDeviceId(), created: m.now}
		o.devices[d.id], r.changed, r.device = d, true, d
	case d.revoked != 0:
		return result{refusal: DeviceRevoked, device: d}
	}
	was := *d
	if c.Name != nil {
		d.name = c.GetName()
	}
	if c.Metadata != nil {
		d.metadata = c.GetMetadata()
	}
	if c.TtlSeconds != nil {
		d.ends = m.now + 1000*c.GetTtlSeconds()
	}
	r.changed = r.changed || was.name != d.name || was.ends != d.ends || !bytes.Equal(was.metadata, d.metadata)
	return r
}

// deviceOf names the device that a command is about; no id if it is about none.
func deviceOf(cmd *statepb.Command) (OrgID, string) {
	switch c := cmd.GetChange().(type) {
	case *statepb.Command_Register:
		return OrgID(c.Register.GetOrgId()), c.Register.GetDeviceId()
	case *statepb.Command_Revoke:
		return OrgID(c.Revoke.GetOrgId()), c.Revoke.GetDeviceId()
	case *statepb.Command_Unrevoke:
		return OrgID(c.Unrevoke.GetOrgId()), c.Unrevoke.GetDeviceId()
	case *statepb.Command_Remove:
		return OrgID(c.Remove.GetOrgId()), c.Remove.GetDeviceId()
	}
	return OrgID{}, ""
}

func (m *model) decide(key [32]byte, id string) decision.Code {
	org, known := m.keys[key]
	o := m.orgs[org]
	d := m.device(o, id)
	switch {
	case !known:
		return decision.OrgNotFound
	case o.disabled:
		return decision.OrgDisabled
	case o.held || o.grace != 0 && o.grace <= m.now:
		return decision.PlanFrozen
	case o.access != 0 && o.access <= m.now:
		return decision.EntitlementExpired
	case d == nil || m.ended(d):
		return decision.DeviceNotFound
	case d.revoked != 0:
		return decision.DeviceRevoked
	}
	return decision.Allow
}

// list is what List must give out in all.
func (m *model) list(o *modelOrg) (list []*modelDevice) {
	for id := range o.devices {
		if d := m.device(o, id); d != nil {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *modelDevice) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.id, b.id))
	})
	return list
}
