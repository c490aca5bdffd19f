package state

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"pgregory.net/rapid"

	"machineid/authority/state/statepb"
)

// The pool: few names, so that random commands meet. The last org is never made.
var (
	orgs    = []OrgID{{1}, {2}, {3}}
	devices = []string{"a", "ab", "b", "c", "worker/prod/α"}
)

const (
	freeLimit  = 3
	keysPerOrg = 2
	keysInPool = 4 // those that can be added among them
	neverMade  = 2
)

// hashOf is the n-th key of an org in the pool.
func hashOf(org, n int) [32]byte { return sha256.Sum256(fmt.Appendf(nil, "%d/%d", org, n)) }

func seed() *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_Seed{Seed: &statepb.Seed{
		Cluster: &statepb.Cluster{ClusterId: "c1", Incarnation: make([]byte, 16), HashKey: make([]byte, 16)},
		Plans:   &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free", Limit: freeLimit}, {Tier: "pro", Limit: 25}}},
	}}}
}

func createOrg(org int) *statepb.Command {
	c := &statepb.CreateOrg{OrgId: orgs[org][:], Name: "an org"}
	for n := range keysPerOrg {
		hash := hashOf(org, n)
		c.Keys = append(c.Keys, &statepb.Key{Hash: hash[:], KeyId: fmt.Sprintf("key%05d", n), Scope: statepb.Key_ADMIN})
	}
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_CreateOrg{CreateOrg: c}}
}

func setExecution(org int, on bool) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_SetExecution{
		SetExecution: &statepb.SetExecution{OrgId: orgs[org][:], Enabled: on},
	}}
}

func setVersion(org int, version uint32) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_UpdateOrg{
		UpdateOrg: &statepb.UpdateOrg{OrgId: orgs[org][:], Version: &version},
	}}
}

func setPlans(free uint32, tiers ...string) *statepb.Command {
	p := &statepb.Plans{GraceDays: 3}
	for _, tier := range tiers {
		p.Plans = append(p.Plans, &statepb.Plan{Tier: tier, Limit: 25})
		if tier == "free" {
			p.Plans[len(p.Plans)-1].Limit = free
		}
	}
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_SetPlans{SetPlans: &statepb.SetPlans{Plans: p}}}
}

// setPlan changes what an operator may of an org.
func setPlan(org int, change func(*statepb.UpdateOrg)) *statepb.Command {
	c := &statepb.UpdateOrg{OrgId: orgs[org][:]}
	change(c)
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_UpdateOrg{UpdateOrg: c}}
}

func deleteOrg(org int) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_DeleteOrg{DeleteOrg: &statepb.DeleteOrg{OrgId: orgs[org][:]}}}
}

// keyOf is the n-th key of an org in the pool.
func keyOf(org, n int, scope statepb.Key_Scope) *statepb.Key {
	hash := hashOf(org, n)
	return &statepb.Key{Hash: hash[:], KeyId: fmt.Sprintf("key%05d", n), Scope: scope, Name: "a key"}
}

func addKey(org, n int, scope statepb.Key_Scope) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_AddKey{AddKey: &statepb.AddKey{OrgId: orgs[org][:], Key: keyOf(org, n, scope)}}}
}

// rotateKey puts key n of an org in the place of key old.
func rotateKey(org, old, n int, grace int64) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_RotateKey{RotateKey: &statepb.RotateKey{
		OrgId: orgs[org][:], KeyId: fmt.Sprintf("key%05d", old), Key: keyOf(org, n, statepb.Key_NONE), GraceSeconds: grace,
	}}}
}

func revokeKey(org, n int) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_RevokeKey{
		RevokeKey: &statepb.RevokeKey{OrgId: orgs[org][:], KeyId: fmt.Sprintf("key%05d", n)},
	}}
}

func register(org int, device string) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_Register{
		Register: &statepb.Register{OrgId: orgs[org][:], DeviceId: device},
	}}
}

func registerFor(org int, device string, seconds int64) *statepb.Command {
	c := register(org, device)
	c.GetRegister().TtlSeconds = &seconds
	return c
}

func revoke(org int, device string) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_Revoke{
		Revoke: &statepb.Revoke{OrgId: orgs[org][:], DeviceId: device},
	}}
}

func unrevoke(org int, device string) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_Unrevoke{
		Unrevoke: &statepb.Unrevoke{OrgId: orgs[org][:], DeviceId: device},
	}}
}

func remove(org int, device string) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_Remove{
		Remove: &statepb.Remove{OrgId: orgs[org][:], DeviceId: device},
	}}
}

func revokeBatchOf(org int, ids ...string) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_RevokeBatch{
		RevokeBatch: &statepb.RevokeBatch{OrgId: orgs[org][:], DeviceIds: ids},
	}}
}

func unrevokeBatchOf(org int, ids ...string) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_UnrevokeBatch{
		UnrevokeBatch: &statepb.UnrevokeBatch{OrgId: orgs[org][:], DeviceIds: ids},
	}}
}

// allOf makes a batch one of all that there are.
func allOf(c *statepb.Command) *statepb.Command {
	if b := c.GetRevokeBatch(); b != nil {
		b.All = &statepb.Stretch{}
	} else {
		c.GetUnrevokeBatch().All = &statepb.Stretch{}
	}
	return c
}

// batchOf is what both batches have, nil if the command is none.
func batchOf(c *statepb.Command) batchCommand {
	if b := c.GetRevokeBatch(); b != nil {
		return b
	}
	if b := c.GetUnrevokeBatch(); b != nil {
		return b
	}
	return nil
}

func setLink(term uint64, open bool) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_SetLink{
		SetLink: &statepb.SetLink{Term: term, Record: &statepb.LinkRecord{Open: open, LeaseNs: 3e9}},
	}}
}

// setBilling is what was fetched from Stripe at a revision of the org's billing.
func setBilling(org int, revision uint64, event string, s *statepb.Subscription) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_SetBilling{SetBilling: &statepb.SetBilling{
		OrgId: orgs[org][:], Revision: revision, EventId: event, CustomerId: fmt.Sprint("cus_", org), Subscription: s,
	}}}
}

func sub(id, tier string, status statepb.Subscription_Status) *statepb.Subscription {
	return &statepb.Subscription{Id: id, Tier: tier, Status: status, PeriodEndMs: start + 30*day}
}

// at stamps a command with another time.
func at(ms int64, c *statepb.Command) *statepb.Command {
	c.TimeMs = ms
	return c
}

// plan is an org's record with another plan, to be written behind the Machine's
// back.
func plan(org int, change func(*statepb.Org)) []byte {
	o := &statepb.Org{Id: orgs[org][:], Name: "an org", CreatedAtMs: start, PlanTier: "free", Version: 2}
	change(o)
	return edit(orgKey(orgs[org]), o)
}

const day = int64(24 * 3600 * 1000)

// step moves a clock that is read for a command's time; sometimes it goes back.
func step(t *rapid.T, now *int64) int64 {
	*now += rapid.SampledFrom([]int64{0, 0, 0, 1, 1, 700, 1000, 3000, 10_000, -5000, day, 40 * day}).Draw(t, "step")
	return *now
}

var kinds = map[string]func(t *rapid.T, org int, device string) *statepb.Command{
	"create": func(t *rapid.T, org int, _ string) *statepb.Command {
		c := createOrg(min(org, neverMade-1))
		c.GetCreateOrg().Version = rapid.SampledFrom([]uint32{0, 1, 2}).Draw(t, "version")
		return c
	},
	"execution": func(t *rapid.T, org int, _ string) *statepb.Command {
		return setExecution(org, rapid.Bool().Draw(t, "on"))
	},
	"settings": func(t *rapid.T, org int, _ string) *statepb.Command {
		c := setVersion(org, rapid.SampledFrom([]uint32{0, 1, 2, 3}).Draw(t, "version"))
		u := c.GetUpdateOrg()
		if rapid.Bool().Draw(t, "tiered") {
			u.PlanTier = new(rapid.SampledFrom([]string{"free", "pro", "no such tier"}).Draw(t, "tier"))
		}
		if rapid.Bool().Draw(t, "turned") {
			u.Held = new(rapid.IntRange(0, 2).Draw(t, "held") == 0)
		}
		if rapid.Bool().Draw(t, "given an end") {
			u.AccessUntilMs = new(rapid.SampledFrom([]int64{0, 0, start + 2000, start + day}).Draw(t, "access"))
		}
		switch rapid.IntRange(0, 3).Draw(t, "limited") {
		case 0:
			u.Limit = new(rapid.Uint32Range(0, 4).Draw(t, "limit"))
		case 1:
			u.NoLimit = true
		}
		return c
	},
	"plans": func(t *rapid.T, _ int, _ string) *statepb.Command {
		tiers := rapid.SampledFrom([][]string{{"free", "pro"}, {"free", "pro"}, {"pro", "free", "max"}, {"free"}, {"pro", "pro"}, nil}).Draw(t, "tiers")
		return setPlans(rapid.Uint32Range(0, 4).Draw(t, "limit"), tiers...)
	},
	"delete": func(_ *rapid.T, org int, _ string) *statepb.Command { return deleteOrg(org) },
	"billing": func(t *rapid.T, org int, _ string) *statepb.Command {
		var s *statepb.Subscription
		if rapid.IntRange(0, 4).Draw(t, "subscribed") > 0 {
			s = sub(rapid.SampledFrom([]string{"sub_1", "sub_1", "sub_2"}).Draw(t, "subscription"), rapid.SampledFrom([]string{"pro", "pro", "free", "no such tier"}).Draw(t, "tier"),
				statepb.Subscription_Status(rapid.Int32Range(1, 7).Draw(t, "status")))
			s.CancelAtPeriodEnd = rapid.Bool().Draw(t, "cancelled")
			s.PeriodEndMs = rapid.SampledFrom([]int64{start + 2000, start + day}).Draw(t, "period")
			s.CancelAtMs = rapid.SampledFrom([]int64{0, 0, start + 1000}).Draw(t, "cancel at")
		}
		c := setBilling(org, rapid.Uint64Range(0, 3).Draw(t, "revision"), rapid.SampledFrom([]string{"", "evt_1", "evt_2", "evt_3"}).Draw(t, "event"), s)
		c.GetSetBilling().CustomerId = rapid.SampledFrom([]string{"", "cus_0", "cus_1"}).Draw(t, "customer")
		return c
	},
	"add key": func(t *rapid.T, org int, _ string) *statepb.Command {
		c := addKey(org, rapid.IntRange(0, keysInPool-1).Draw(t, "key"), rapid.SampledFrom([]statepb.Key_Scope{statepb.Key_ADMIN, statepb.Key_AGENT}).Draw(t, "scope"))
		c.GetAddKey().Key.ExpiresAtMs = rapid.SampledFrom([]int64{0, 0, start + 5000, start + day}).Draw(t, "end")
		return c
	},
	"rotate key": func(t *rapid.T, org int, _ string) *statepb.Command {
		keys := rapid.IntRange(0, keysInPool-1)
		return rotateKey(org, keys.Draw(t, "old"), keys.Draw(t, "new"), rapid.SampledFrom([]int64{0, 1, 3600}).Draw(t, "grace"))
	},
	"revoke key": func(t *rapid.T, org int, _ string) *statepb.Command {
		return revokeKey(org, rapid.IntRange(0, keysInPool-1).Draw(t, "key"))
	},
	"register": func(t *rapid.T, org int, device string) *statepb.Command {
		c := register(org, device)
		r := c.GetRegister()
		if rapid.Bool().Draw(t, "named") {
			r.Name = new(rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "name"))
		}
		if rapid.Bool().Draw(t, "described") {
			r.Metadata = []byte(rapid.SampledFrom([]string{"", "{}", `{"a":1}`}).Draw(t, "metadata"))
		}
		if rapid.Bool().Draw(t, "ends") {
			r.TtlSeconds = new(rapid.SampledFrom([]int64{1, 2, 5, 86_400}).Draw(t, "ttl"))
		}
		r.MayRestore = rapid.Bool().Draw(t, "may restore")
		return c
	},
	"revoke batch": func(t *rapid.T, org int, _ string) *statepb.Command {
		return someOrAll(t, revokeBatchOf(org, someDevices(t)...))
	},
	"unrevoke batch": func(t *rapid.T, org int, _ string) *statepb.Command {
		return someOrAll(t, unrevokeBatchOf(org, someDevices(t)...))
	},

	"revoke":   func(_ *rapid.T, org int, device string) *statepb.Command { return revoke(org, device) },
	"unrevoke": func(_ *rapid.T, org int, device string) *statepb.Command { return unrevoke(org, device) },
	"remove":   func(_ *rapid.T, org int, device string) *statepb.Command { return remove(org, device) },
}

func someDevices(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(devices), 0, 4, rapid.ID).Draw(t, "devices")
}

func someOrAll(t *rapid.T, c *statepb.Command) *statepb.Command {
	if rapid.Bool().Draw(t, "all") {
		return allOf(c)
	}
	return c
}

// draw is a random command of a kind.
func draw(t *rapid.T, kind string, now *int64) *statepb.Command {
	org := rapid.SampledFrom([]int{0, 0, 0, 1, 1, neverMade}).Draw(t, "org")
	c := kinds[kind](t, org, rapid.SampledFrom(devices).Draw(t, "device"))
	c.TimeMs = step(t, now)
	c.Actor = &statepb.Actor{Type: statepb.Actor_KEY, Id: "key00000"}
	c.Address, c.RequestId = "192.0.2.1", "r"
	if kind == "create" || kind == "plans" {
		return c
	}
	if rapid.IntRange(0, 3).Draw(t, "asked by a key") == 0 {
		hash := hashOf(rapid.SampledFrom([]int{org, org, org, 1, neverMade}).Draw(t, "key"), 0)
		scopes := rapid.SampledFrom([][]statepb.Key_Scope{{statepb.Key_ADMIN}, {statepb.Key_ADMIN, statepb.Key_AGENT}, {statepb.Key_AGENT}}).Draw(t, "scopes")
		c.Caller = &statepb.Caller{KeyHash: hash[:], Scopes: scopes}
	}
	if rapid.IntRange(0, 2).Draw(t, "named") == 0 {
		c.Once = once(rapid.IntRange(0, 2).Draw(t, "name"), encode(&statepb.Command{Change: c.GetChange()}))
		c.Once.Shared = rapid.IntRange(0, 3).Draw(t, "by this version") > 0
	}
	return c
}

// once names a request.
func once(name int, request []byte) *statepb.Once {
	sum := sha256.Sum256(request)
	return &statepb.Once{Id: bytes.Repeat([]byte{byte(name + 1)}, onceSize), Request: sum[:onceSize]}
}

// from is a command that a key of an org asked for, under a name.
func from(org int, name int, c *statepb.Command) *statepb.Command {
	hash := hashOf(org, 0)
	c.Caller = &statepb.Caller{KeyHash: hash[:], Scopes: []statepb.Key_Scope{statepb.Key_ADMIN}}
	c.Once = once(name, encode(&statepb.Command{Change: c.GetChange()}))
	c.Once.Shared = true
	return c
}

var someKind = rapid.SampledFrom([]string{
	"create", "delete", "execution", "settings", "plans", "billing", "billing", "billing", "add key", "rotate key", "revoke key", "register", "register", "register", "register", "revoke", "revoke", "unrevoke", "remove", "revoke batch", "unrevoke batch",
})

// history is a random log that begins with a seed and two orgs.
func history(t *rapid.T) []entry {
	now := start
	log := []entry{{term: 1, raws: [][]byte{encode(seed())}}, {term: 1, raws: [][]byte{encode(createOrg(0)), encode(createOrg(1))}}}
	term := uint64(1)
	for range rapid.IntRange(5, 25).Draw(t, "entries") {
		e := entry{term: term}
		for range rapid.SampledFrom([]int{1, 1, 2, 5}).Draw(t, "pack") {
			var raw []byte
			switch rapid.IntRange(0, 20).Draw(t, "what") {
			case 4:
				raw = encode(setSeen(now, rapid.IntRange(0, neverMade).Draw(t, "org"), now-int64(rapid.IntRange(-5, 5).Draw(t, "ago")), rapid.SampledFrom(devices).Draw(t, "device")))
			case 0: // an empty command
			case 1:
				raw = encode(setLink(term-uint64(rapid.IntRange(0, 1).Draw(t, "late")), rapid.Bool().Draw(t, "open")))
			case 2:
				raw = encode(seed())
			case 3:
				raw = plan(rapid.IntRange(0, 1).Draw(t, "org"), func(o *statepb.Org) { randomPlan(t, o, now) })
			default:
				raw = encode(draw(t, someKind.Draw(t, "kind"), &now))
			}
			e.raws = append(e.raws, raw)
		}
		log = append(log, e)
		term += uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "election"))
	}
	return log
}

// randomPlan changes what no command changes yet.
func randomPlan(t *rapid.T, o *statepb.Org, now int64) {
	o.PlanTier = rapid.SampledFrom([]string{"free", "pro", "no such tier"}).Draw(t, "tier")
	if rapid.Bool().Draw(t, "limited") {
		o.Limit = new(rapid.Uint32Range(0, 4).Draw(t, "limit"))
	}
	o.Held = rapid.IntRange(0, 5).Draw(t, "held") == 0
	ends := []int64{0, 0, 0, now - 1, now + 2000}
	o.GraceUntilMs = rapid.SampledFrom(ends).Draw(t, "grace")
	o.AccessUntilMs = rapid.SampledFrom(ends).Draw(t, "access")
}
