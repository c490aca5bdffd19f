package state

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// model is the state as plain maps: no counters, no indexes, no sweeps, no cache.
type model struct {
	now   int64
	orgs  map[OrgID]*modelOrg
	keys  map[[32]byte]*modelKey
	plans map[string]uint32
	gone  []goneOrg
	order string // of the plans, as they were last given

	graceDays uint32
	once      map[onceName]*onceResult
}

// goneOrg is an org that was deleted, and when.
type goneOrg struct {
	org OrgID
	at  int64
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
	version        uint32
	tier           string
	own            *uint32
	grace, access  int64
	devices        map[string]*modelDevice

	unpaid   bool
	paid     string
	paidEnd  int64
	customer string
	sub      string // the subscription, as text
	subID    string
	subEnded bool
	revision uint64
	events   []string
}

type modelKey struct {
	org           OrgID
	id            string
	scope         statepb.Key_Scope
	ends, revoked int64
}

func (m *model) alive(k *modelKey) bool {
	return k != nil && k.revoked == 0 && (k.ends == 0 || m.now < k.ends)
}

// key is the one of an org with an id, and with which hash.
func (m *model) key(org OrgID, id string) *modelKey {
	for _, k := range m.keys {
		if k.org == org && k.id == id {
			return k
		}
	}
	return nil
}

// giveKey adds a key, in the place of another if there is one.
func (m *model) giveKey(org OrgID, k *statepb.Key, old *modelKey, end int64) result {
	if m.key(org, k.GetKeyId()) != nil || m.keys[[32]byte(k.GetHash())] != nil {
		return result{refusal: KeyTaken}
	}
	next := &modelKey{org: org, id: k.GetKeyId(), scope: k.GetScope(), ends: k.GetExpiresAtMs()}
	if old != nil {
		next.scope = old.scope
		if old.ends == 0 || end < old.ends {
			old.ends = end
		}
	}
	m.keys[[32]byte(k.GetHash())] = next
	return result{changed: true, key: next.id}
}

func (m *model) delete(org OrgID) result {
	if m.orgs[org] == nil {
		return result{refusal: OrgNotFound}
	}
	delete(m.orgs, org)
	maps.DeleteFunc(m.once, func(name onceName, _ *onceResult) bool { return name.org == org })
	for _, k := range m.keys {
		if k.org == org && k.revoked == 0 {
			k.revoked = m.now
		}
	}
	m.gone = append(m.gone, goneOrg{org, m.now})
	return result{changed: true}
}

func (m *model) onKey(cmd *statepb.Command) result {
	org := orgOf(cmd)
	if m.orgs[org] == nil {
		return result{refusal: OrgNotFound}
	}
	if c := cmd.GetAddKey(); c != nil {
		return m.giveKey(org, c.GetKey(), nil, 0)
	}
	if c := cmd.GetRotateKey(); c != nil {
		old := m.key(org, c.GetKeyId())
		if !m.alive(old) {
			return result{refusal: KeyNotFound}
		}
		return m.giveKey(org, c.GetKey(), old, m.now+1000*c.GetGraceSeconds())
	}
	k := m.key(org, cmd.GetRevokeKey().GetKeyId())
	admins := 0
	for _, other := range m.keys {
		if other.org == org && other != k && other.scope == statepb.Key_ADMIN && m.alive(other) {
			admins++
		}
	}
	switch {
	case k == nil:
		return result{refusal: KeyNotFound}
	case m.alive(k) && k.scope == statepb.Key_ADMIN && admins == 0:
		return result{refusal: LastAdminKey}
	case k.revoked != 0:
		return result{key: k.id}
	}
	k.revoked = m.now
	return result{changed: true, key: k.id}
}

type modelDevice struct {
	id, name         string
	metadata         []byte
	created, revoked int64
	ends             int64
}

func newModel() *model {
	return &model{orgs: map[OrgID]*modelOrg{}, keys: map[[32]byte]*modelKey{}, plans: map[string]uint32{"free": freeLimit, "pro": 25}, once: map[onceName]*onceResult{}}
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

func (m *model) limit(o *modelOrg) uint32 {
	if o.own != nil {
		return *o.own
	}
	if o.paid != "" && (o.paidEnd == 0 || m.now < o.paidEnd) {
		return m.plans[o.paid]
	}
	return m.plans[o.tier]
}

// setPlans takes plans that have every tier there is, each once.
func (m *model) setPlans(c *statepb.SetPlans) result {
	next := map[string]uint32{}
	for _, p := range c.GetPlans().GetPlans() {
		next[p.GetTier()] = p.GetLimit()
	}
	for tier := range m.plans {
		if _, ok := next[tier]; !ok || len(next) != len(c.GetPlans().GetPlans()) {
			return result{refusal: TierMissing}
		}
	}
	order := fmt.Sprint(c.GetPlans())
	changed := order != m.order
	m.plans, m.order, m.graceDays = next, order, c.GetPlans().GetGraceDays()
	return result{changed: changed}
}

func (m *model) update(c *statepb.UpdateOrg) result {
	o := m.orgs[OrgID(c.GetOrgId())]
	if o == nil {
		return result{refusal: OrgNotFound}
	}
	if _, known := m.plans[c.GetPlanTier()]; c.PlanTier != nil && !known {
		return result{refusal: TierUnknown}
	}
	was := *o
	if v := c.GetVersion(); v == 1 || v == 2 {
		o.version = v
	}
	if c.PlanTier != nil {
		o.tier = c.GetPlanTier()
	}
	if c.Held != nil {
		o.held = c.GetHeld()
	}
	if c.AccessUntilMs != nil {
		o.access = c.GetAccessUntilMs()
	}
	if c.Limit != nil || c.GetNoLimit() {
		o.own = c.Limit
	}
	same := was.version == o.version && was.tier == o.tier && was.held == o.held && was.access == o.access &&
		(was.own == nil) == (o.own == nil) && (was.own == nil || *was.own == *o.own)
	return result{changed: !same}
}

// room is what a new active device meets.
func (m *model) room(o *modelOrg) Refusal {
	switch {
	case o.held || o.unpaid || o.grace != 0 && o.grace <= m.now:
		return PlanFrozen
	case o.access != 0 && o.access <= m.now:
		return EntitlementExpired
	case m.used(o) >= m.limit(o):
		return LimitReached
	}
	return Granted
}

// result is what a command must come to.
type result struct {
	refusal          Refusal
	changed, existed bool
	restored         bool
	batch            Batch
	device           *modelDevice
	key              string
	once             *onceResult // what is remembered of it
	replayed         bool
}

// apply runs a command and counts its audit entry.
func (m *model) apply(c *statepb.Command) result {
	m.now = max(m.now, c.GetTimeMs())
	for len(m.gone) > 0 && m.gone[0].at <= m.now-day {
		if org := m.gone[0].org; m.orgs[org] == nil {
			maps.DeleteFunc(m.keys, func(_ [32]byte, k *modelKey) bool { return k.org == org })
		}
		m.gone = m.gone[1:]
	}
	org := orgOf(c)
	if by := c.GetCaller(); by != nil {
		key := m.keys[[32]byte(by.GetKeyHash())]
		switch {
		case !m.alive(key) || key.org != org:
			return result{refusal: OrgNotFound}
		case !slices.Contains(by.GetScopes(), key.scope):
			return result{refusal: InsufficientScope}
		}
	}
	name := onceName{org, string(c.GetOnce().GetId())}
	if before := m.once[name]; c.GetOnce() != nil && c.GetDeleteOrg() == nil && before != nil && before.at > m.now-day {
		if before.request != string(c.GetOnce().GetRequest()) {
			return result{refusal: IdempotencyMismatch}
		}
		again := before.result
		again.once, again.replayed = before, true
		return again
	}
	r := m.change(c)
	if c.GetOnce() != nil && c.GetDeleteOrg() == nil && r.refusal != OrgNotFound {
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
		version := c.CreateOrg.GetVersion()
		if version == 0 {
			version = 2
		}
		m.orgs[id] = &modelOrg{version: version, tier: "free", devices: map[string]*modelDevice{}}
		for _, k := range c.CreateOrg.GetKeys() {
			if m.keys[[32]byte(k.GetHash())] == nil {
				m.keys[[32]byte(k.GetHash())] = &modelKey{org: id, id: k.GetKeyId(), scope: k.GetScope()}
			}
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
	case *statepb.Command_UpdateOrg:
		return m.update(c.UpdateOrg)
	case *statepb.Command_DeleteOrg:
		return m.delete(orgOf(cmd))
	case *statepb.Command_SetPlans:
		return m.setPlans(c.SetPlans)
	case *statepb.Command_AddKey, *statepb.Command_RotateKey, *statepb.Command_RevokeKey:
		return m.onKey(cmd)
	case *statepb.Command_Register:
		return m.register(c.Register)
	case *statepb.Command_SetBilling:
		return m.bill(c.SetBilling)
	}
	org, id := deviceOf(cmd)
	o := m.orgs[org]
	if o == nil {
		o = m.orgs[orgOf(cmd)]
	}
	if o == nil {
		return result{refusal: OrgNotFound}
	}
	if b := batchOf(cmd); b != nil {
		return m.batch(o, b, cmd.GetRevokeBatch() != nil)
	}
	d := m.device(o, id)
	if d == nil {
		return result{refusal: DeviceNotFound}
	}
	if cmd.GetRemove() != nil {
		delete(o.devices, id)
		return result{changed: true}
	}
	return m.turn(o, d, cmd.GetRevoke() != nil)
}

// batch turns devices one after the other.
func (m *model) batch(o *modelOrg, c batchCommand, off bool) (r result) {
	ids := c.GetDeviceIds()
	if c.GetAll() != nil {
		ids = nil
		list := m.list(o)
		if !off {
			list = slices.DeleteFunc(list, func(d *modelDevice) bool { return d.revoked == 0 })
			slices.SortStableFunc(list, func(a, b *modelDevice) int {
				return cmp.Or(cmp.Compare(b.revoked, a.revoked), cmp.Compare(a.id, b.id))
			})
		}
		for _, d := range list {
			ids = append(ids, d.id)
		}
	}
	for _, id := range ids {
		one := result{refusal: DeviceNotFound}
		if d := m.device(o, id); d != nil {
			one = m.turn(o, d, off)
		}
		switch one.refusal {
		case PlanFrozen, EntitlementExpired:
			return result{refusal: one.refusal}
		case LimitReached:
			r.batch.AtCap = true
		default:
		}
		if c.GetAll() == nil {
			r.batch.Items = append(r.batch.Items, Item{id, one.refusal, one.changed})
		}
		if one.changed {
			r.changed = true
			r.batch.Count++
			r.batch.Sample = append(r.batch.Sample, id)
		}
	}
	return r
}

// turn revokes or restores.
func (m *model) turn(o *modelOrg, d *modelDevice, off bool) result {
	was := d.revoked
	switch {
	case off:
		if was == 0 {
			d.revoked = m.now
		}
	default:
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
		next := *d
		if m.describe(&next, c); !c.GetMayRestore() || o.version != 1 || m.ended(&next) {
			return result{refusal: DeviceRevoked, device: d}
		}
		if r := m.room(o); r != Granted {
			return result{refusal: r, device: d}
		}
		next.revoked = 0
		*d = next
		return result{changed: true, restored: true, device: d}
	}
	was := *d
	m.describe(d, c)
	r.changed = r.changed || was.name != d.name || was.ends != d.ends || !bytes.Equal(was.metadata, d.metadata)
	return r
}

func (m *model) describe(d *modelDevice, c *statepb.Register) {
	if c.Name != nil {
		d.name = c.GetName()
	}
	if c.Metadata != nil {
		d.metadata = c.GetMetadata()
	}
	if c.TtlSeconds != nil {
		d.ends = m.now + 1000*c.GetTtlSeconds()
	}
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

// orgOf names the org that a command is about; none if it is about none that
// could be asked for by a key.
func orgOf(cmd *statepb.Command) OrgID {
	if b := batchOf(cmd); b != nil {
		return OrgID(b.GetOrgId())
	}
	if c := cmd.GetSetExecution(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetUpdateOrg(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetDeleteOrg(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetSetBilling(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetBeginRecovery(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetRecover(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetAddKey(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetRotateKey(); c != nil {
		return OrgID(c.GetOrgId())
	}
	if c := cmd.GetRevokeKey(); c != nil {
		return OrgID(c.GetOrgId())
	}
	org, _ := deviceOf(cmd)
	return org
}

func (m *model) decide(key [32]byte, id string) decision.Code {
	k := m.keys[key]
	if !m.alive(k) {
		return decision.OrgNotFound
	}
	o := m.orgs[k.org]
	d := m.device(o, id)
	switch {
	case o == nil:
		return decision.OrgNotFound
	case o.disabled:
		return decision.OrgDisabled
	case o.held || o.unpaid || o.grace != 0 && o.grace <= m.now:
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
