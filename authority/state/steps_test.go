package state

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// What a command looks at does not grow with what commands before it removed, nor with what another org has: what is taken from the beginning of a range
// stays in the way of a scan until Pebble compacts it (I14). Counted in keys, so that no machine is too slow for it.
func TestNoCommandPaysForWhatOthersRemoved(t *testing.T) {
	t.Parallel()
	const n, most = 3000, 200 // of a few records a command at most
	day := int64(24 * 3600 * 1000)
	for name, c := range map[string]struct {
		// before makes a state in which there is much to be cleared away, and returns from when on commands clear it.
		before func(n *node, many int) (now int64)
		// command is one of those that do, or that another org asks for meanwhile.
		command func(i int) *statepb.Command
		// allowed is how many keys one command may look at, its own work included; 0: most.
		allowed uint64
		// once says that what ends by itself, all at a time, is counted by the first who asks, once.
		once bool
	}{
		"a deleted org": {func(n *node, many int) int64 {
			n.do(setLimit(0, many))
			for i := range many {
				n.do(registerFor(0, fmt.Sprint("d", i), 3600))
				if i%3 == 0 {
					n.do(revoke(0, fmt.Sprint("d", i)))
				}
			}
			n.do(deleteOrg(0))
			return start
		}, func(int) *statepb.Command { return revoke(1, "nobody") }, 0, false},
		"many deleted orgs": {func(n *node, many int) int64 {
			for i := range many / 10 {
				n.do(&statepb.Command{TimeMs: start, Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: numbered(i)}}})
			}
			return start
		}, func(i int) *statepb.Command {
			return &statepb.Command{TimeMs: start, Change: &statepb.Command_DeleteOrg{DeleteOrg: &statepb.DeleteOrg{OrgId: numbered(i)}}}
		}, 0, false},
		"the keys of deleted orgs": {func(n *node, many int) int64 {
			for i := range many {
				n.do(&statepb.Command{TimeMs: start, Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: numbered(i)}}})
				n.do(&statepb.Command{TimeMs: start, Change: &statepb.Command_DeleteOrg{DeleteOrg: &statepb.DeleteOrg{OrgId: numbered(i)}}})
			}
			return start + 2*day
		}, func(int) *statepb.Command { return revoke(1, "nobody") }, 0, false},
		"sign-ups": {func(n *node, many int) int64 {
			for i := range many {
				n.do(&statepb.Command{TimeMs: start + int64(i), Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: numbered(i), SignUp: &statepb.SignUp{}}}})
			}
			return start + 30*day
		}, func(int) *statepb.Command {
			return &statepb.Command{Change: &statepb.Command_ExpireSignups{ExpireSignups: &statepb.ExpireSignups{BeforeMs: start + 30*day}}}
		}, 16 * most, false},
		"the audit": {func(n *node, many int) int64 {
			for i := range many {
				n.do(at(start+int64(i), register(1, fmt.Sprint("d", i%3))))
				n.do(at(start+int64(i), revoke(1, fmt.Sprint("d", i%3))))
				n.do(at(start+int64(i), remove(1, fmt.Sprint("d", i%3))))
			}
			return start + 91*day
		}, func(i int) *statepb.Command { return setExecution(1, i%2 == 0) }, 0, false},
		"devices that have ended":         {ending, func(i int) *statepb.Command { return register(0, fmt.Sprint("new", i%2)) }, 3 * sweepMax, true},
		"an org whose devices have ended": {ending, func(int) *statepb.Command { return revoke(0, "nobody") }, 0, true},
		"what is remembered": {func(n *node, many int) int64 {
			for i := range many {
				n.do(named(i, revoke(1, "nobody")))
			}
			return start + 2*day
		}, func(i int) *statepb.Command { return named(i+n, revoke(1, "nobody")) }, 0, false},
		"devices that are restored": {func(n *node, many int) int64 {
			n.do(setLimit(0, many))
			for i := range many {
				n.do(register(0, fmt.Sprint("d", i)))
				n.do(revoke(0, fmt.Sprint("d", i)))
			}
			return start
		}, nil, 3 * BatchMax, false},
		"keys that are rotated": {func(*node, int) int64 {
			return start
		}, func(i int) *statepb.Command {
			return at(start+int64(i)*60_000, &statepb.Command{Change: &statepb.Command_AddKey{AddKey: &statepb.AddKey{OrgId: orgs[1][:], Key: &statepb.Key{
				Hash: append(make([]byte, 16), numbered(i)...), KeyId: hex.EncodeToString(numbered(i * 7919)), Scope: statepb.Key_AGENT, ExpiresAtMs: start + int64(i)*60_000 + 1,
			}}}})
		}, 0, false},
		"dead keys": {func(n *node, many int) int64 {
			deadKeys(n, many/10, 0)
			return start + 2*deadKeysStay
		}, shortKey, 0, false},
		"dead keys that asked for much": {func(n *node, many int) int64 {
			deadKeys(n, 8, many/8)
			deadKeys(n, deadKeysMax, 0)
			return start + 2*deadKeysStay
		}, shortKey, ShareMax + most, false},
		"the many keys of a deleted org": {func(n *node, many int) int64 {
			deadKeys(n, many/10, 0)
			n.do(deleteOrg(0))
			return start + 2*day
		}, func(int) *statepb.Command { return revoke(1, "nobody") }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := seeded(t)
			now := c.before(node, n)
			allowed, next := max(c.allowed, most), &statepb.Stretch{}
			for i := range 300 {
				var cmd *statepb.Command
				switch {
				case c.command != nil:
					cmd = c.command(i)
				case next == nil:
					return
				default:
					cmd = &statepb.Command{Change: &statepb.Command_UnrevokeBatch{UnrevokeBatch: &statepb.UnrevokeBatch{OrgId: orgs[0][:], All: next}}}
				}
				was := node.m.Steps()
				next = node.do(at(max(now, cmd.GetTimeMs()), cmd)).Batch.Next
				if steps := node.m.Steps() - was; steps > allowed && (!c.once || i > 0) {
					t.Fatalf("command %d looked at %d keys, more than %d", i, steps, allowed)
				}
				if written := uint64(node.wrote); written > 3*allowed {
					t.Fatalf("command %d wrote %d records, more than %d", i, written, 3*allowed)
				}
			}
			for _, org := range orgs[:2] {
				if ring := node.m.recent.rings[org]; len(ring) > KeysMax+deadKeysMax {
					t.Errorf("%d keys of an org are kept in memory", len(ring))
				}
			}
			if err := check(node.reader()); err != nil {
				t.Error(err)
			}
		})
	}
}

// numbered is an org's id; their order is not that of the numbers.
func numbered(i int) []byte {
	id := OrgID{0x40}
	binary.LittleEndian.PutUint32(id[1:], uint32(i)*2654435761)
	return id[:]
}

// deadKeys gives the first org so many keys that are dead, of which each asked for so much.
func deadKeys(n *node, many, asked int) {
	for i := range many {
		key := 1000*int(n.at.Index) + i
		n.do(addKey(0, key, statepb.Key_AGENT))
		for range asked {
			n.do(by(key, strconv.FormatUint(n.at.Index, 10), revoke(0, "nobody")))
		}
		n.do(revokeKey(0, key))
	}
}

// shortKey gives the first org a key that ends at once.
func shortKey(i int) *statepb.Command {
	c := addKey(0, i+10, statepb.Key_AGENT)
	c.TimeMs = start + int64(i+2)*deadKeysStay
	c.GetAddKey().Key.ExpiresAtMs = c.GetTimeMs() + 1
	return c
}

func setLimit(org, limit int) *statepb.Command {
	return setPlan(org, func(c *statepb.UpdateOrg) { c.Limit = new(uint32(limit)) })
}

// ending makes an org whose devices have all ended.
func ending(n *node, many int) int64 {
	n.do(setLimit(0, many))
	for i := range many {
		n.do(registerFor(0, fmt.Sprint("d", i), 60))
	}
	return start + 61_000
}

func named(i int, c *statepb.Command) *statepb.Command {
	c = proto.CloneOf(c)
	c.Once = &statepb.Once{Id: append(make([]byte, 12), binary.BigEndian.AppendUint32(nil, uint32(i))...), Request: []byte("same")}
	return c
}

// The commands of an entry share what it clears away of deleted orgs.
func TestAnEntryClearsOnce(t *testing.T) {
	n := seeded(t)
	n.do(setLimit(0, 900))
	for i := range 900 {
		n.do(register(0, fmt.Sprint("d", i)))
	}
	n.do(deleteOrg(0))
	removed := n.m.Debris().Removed
	n.apply(entry{raws: slices.Repeat([][]byte{encode(revoke(1, "nobody"))}, 10)})
	n.commit()
	if now := n.m.Debris().Removed; now != removed+tidyMax {
		t.Errorf("an entry of ten commands removed %d records, want %d", now-removed, tidyMax)
	}
}

// A device that ends in the very millisecond in which others are swept counts and is swept like them, though its place in the index of ends is before theirs.
func TestEndsInTheMillisecondOfASweep(t *testing.T) {
	n := seeded(t)
	n.do(setLimit(0, 9))
	n.do(registerFor(0, "m", 60))
	now := start + 60_000
	n.do(at(now, register(0, "x"))) // sweeps m, which has ended now
	n.do(at(now, registerFor(0, "a", 0)))
	for _, when := range []int64{now, now + 1} {
		if out := n.do(at(when, register(0, "x"))); out.Plan.Used != 1 {
			t.Errorf("%d are used, want 1", out.Plan.Used)
		}
	}
	if left := len(must(keysOf(n.reader(), prefixByEnd))(t)); left != 0 {
		t.Errorf("%d that have ended are not swept", left)
	}
}

// What is kept of how far ranges are cleared, and of how many have ended, is what the state says (S5): a node that restarts at any point goes on as one that did not, and
// tells the same of what is left.
func TestClearingGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	stays, restarts := seeded(t), seeded(t)
	do := func(cmd *statepb.Command) {
		stays.do(cmd)
		restarts.do(cmd)
	}
	for org := range 2 {
		do(setLimit(org, 2000))
		for i := range 900 {
			do(registerFor(org, fmt.Sprint("d", i), int64(60+i%5)))
			if i%7 == 0 {
				do(revoke(org, fmt.Sprint("d", i)))
			}
		}
	}
	do(deleteOrg(1))
	if d := stays.m.Debris(); d.Orgs != 1 || d.Devices == 0 || d.Devices >= 900 || d.Removed != tidyFirst {
		t.Errorf("after the deletion: %+v", d)
	}
	for i := range 200 {
		if i == 3 {
			do(at(start+62_000, deleteOrg(2))) // there is none: nothing changes
		}
		cmd := at(start+62_500+int64(i)*20, register(0, fmt.Sprint("n", i%4)))
		if i%2 == 1 {
			cmd = at(start+62_500+int64(i)*20, revoke(0, fmt.Sprint("d", i)))
		}
		got, want := restarts.do(cmd), stays.do(cmd)
		if got.Plan != want.Plan || got.Refusal != want.Refusal {
			t.Fatalf("command %d: %+v %v, want %+v %v", i, got.Plan, got.Refusal, want.Plan, want.Refusal)
		}
		restarts.restart()
		if used := must(stays.reader().Used(orgs[0], cmd.GetTimeMs()))(t); used != want.Plan.Used {
			t.Fatalf("command %d says %d used, a reader %d", i, want.Plan.Used, used)
		}
		if a, b := restarts.m.Debris(), stays.m.Debris(); a.Orgs != b.Orgs || a.Devices < b.Devices {
			t.Fatalf("command %d: after a restart %+v is left, want %+v", i, a, b)
		}
	}
	if got, want := restarts.dump(), stays.dump(); got != want {
		t.Error("the states differ")
	}
	if d := stays.m.Debris(); d.Orgs != 0 || d.Devices != 0 || slices.ContainsFunc(orgDebris, func(p byte) bool { return len(stays.r(t, p, orgs[1])) > 0 }) {
		t.Errorf("something is left: %+v", d)
	}
}
