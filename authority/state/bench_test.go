package state

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// benchPack is how many commands one entry holds here.
const benchPack = 64

// openLikeRaftstore opens a database as raftstore opens the state's, as far as reads and writes of one command depend on it.
func openLikeRaftstore(b *testing.B) *pebble.DB {
	b.Helper()
	cache := pebble.NewCache(96 << 20)
	o := &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}, Cache: cache, FormatMajorVersion: pebble.FormatTableFormatV6, MemTableSize: 16 << 20}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open("", o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
		cache.Unref()
	})
	return db
}

// BenchmarkApply measures one command, applied in packs to a Pebble in memory, each
// pack committed without sync as raftstore does.
func BenchmarkApply(b *testing.B) {
	const orgs, devices = 64, 16
	org := func(i int) []byte {
		id := OrgID{1}
		binary.BigEndian.PutUint32(id[12:], uint32(i%orgs))
		return id[:]
	}
	ttl := int64(1e6)
	for _, c := range []struct {
		name string
		cmd  func(i int) *statepb.Command
	}{
		{"register_new", func(i int) *statepb.Command {
			return &statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{
				OrgId: org(i), DeviceId: fmt.Sprintf("new-%09d", i), Name: new("a name"),
			}}}
		}},
		{"register_new_ttl", func(i int) *statepb.Command {
			return &statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{
				OrgId: org(i), DeviceId: fmt.Sprintf("new-%09d", i), TtlSeconds: &ttl,
			}}}
		}},
		{"register_exists", func(i int) *statepb.Command {
			return &statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{
				OrgId: org(i), DeviceId: fmt.Sprint("d", i/orgs%devices),
			}}}
		}},
		{"revoke_unrevoke", func(i int) *statepb.Command {
			if device := fmt.Sprint("d", i/orgs%devices); i/orgs/devices%2 == 0 {
				return &statepb.Command{Change: &statepb.Command_Revoke{Revoke: &statepb.Revoke{OrgId: org(i), DeviceId: device}}}
			} else {
				return &statepb.Command{Change: &statepb.Command_Unrevoke{Unrevoke: &statepb.Unrevoke{OrgId: org(i), DeviceId: device}}}
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			db := openLikeRaftstore(b)
			m := New(func(uint64, []Concern) {})
			var index uint64
			apply := func(pack []*statepb.Command) {
				index++
				at, w := raftstore.Position{Index: index, Term: 1}, db.NewIndexedBatch()
				raws := make([][]byte, len(pack))
				for i, cmd := range pack {
					cmd.TimeMs = 1_700_000_000_000 + int64(index)
					cmd.Actor = &statepb.Actor{Type: statepb.Actor_KEY, Id: "abcdefgh"}
					cmd.Address, cmd.RequestId = "192.0.2.1", "fbf77ff5-06ed-42eb-8e07-024c32ef1e68"
					raws[i], _ = proto.Marshal(cmd)
				}
				b.StartTimer()
				for _, raw := range raws {
					if out, ok := m.Apply(w, at, raw).(Outcome); !ok || out.Refusal != Granted {
						b.Fatal(out.Refusal)
					}
				}
				if err := w.Commit(pebble.NoSync); err != nil {
					b.Fatal(err)
				}
				m.Committed(at)
				b.StopTimer()
			}
			b.StopTimer()
			apply([]*statepb.Command{{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
				Cluster: &statepb.Cluster{ClusterId: "c"}, Plans: &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free", Limit: 1 << 30}}},
			}}}})
			for i := range orgs {
				apply([]*statepb.Command{{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: org(i)}}}})
			}
			for i := range orgs * devices {
				apply([]*statepb.Command{{Change: &statepb.Command_Register{Register: &statepb.Register{
					OrgId: org(i), DeviceId: fmt.Sprint("d", i/orgs),
				}}}})
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.StopTimer()
			for i := 0; i < b.N; i += benchPack {
				pack := make([]*statepb.Command, min(benchPack, b.N-i))
				for k := range pack {
					pack[k] = c.cmd(i + k)
				}
				apply(pack)
			}
		})
	}
}

// crowded is a Machine with an org of so many devices, as raftstore drives it.
type crowded struct {
	b     *testing.B
	db    *pebble.DB
	m     *Machine
	index uint64
}

func crowd(b *testing.B, devices int) *crowded {
	b.Helper()
	c := &crowded{b: b, db: openLikeRaftstore(b), m: New(func(uint64, []Concern) {})}
	c.apply(seed(), createOrg(0), createOrg(1), setLimit(0, 1<<30), setLimit(1, 1<<30))
	var pack []*statepb.Command
	for i := range devices {
		if pack = append(pack, register(0, fmt.Sprintf("device-%06d", i))); len(pack) == benchPack {
			c.apply(pack...)
			pack = nil
		}
	}
	return c
}

// apply applies commands as one entry.
func (c *crowded) apply(cmds ...*statepb.Command) {
	c.index++
	at, w := raftstore.Position{Index: c.index, Term: 1}, c.db.NewIndexedBatch()
	for _, cmd := range cmds {
		cmd.TimeMs = 1_700_000_000_000 + int64(c.index)
		raw, _ := proto.Marshal(cmd)
		if out, ok := c.m.Apply(w, at, raw).(Outcome); !ok {
			c.b.Fatal(out.Refusal)
		}
	}
	if err := w.Commit(pebble.NoSync); err != nil {
		c.b.Fatal(err)
	}
	c.m.Committed(at)
}

// BenchmarkBatch measures a batch of 500 devices of an org of 100,000.
func BenchmarkBatch(b *testing.B) {
	const devices = 100_000
	c := crowd(b, devices)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		ids := make([]string, BatchMax)
		for i := range ids {
			ids[i] = fmt.Sprintf("device-%06d", (n/2*BatchMax+i)%devices)
		}
		if n%2 == 0 {
			c.apply(revokeBatchOf(0, ids...))
		} else {
			c.apply(unrevokeBatchOf(0, ids...))
		}
	}
}

// BenchmarkOthersAfterADeletion measures a command of another org while what a deleted org of 100,000 devices left is cleared away, beside the same command before. Use -benchtime 1x.
func BenchmarkOthersAfterADeletion(b *testing.B) {
	for b.Loop() {
		c := crowd(b, 100_000)
		measure := func(name string, commands int) {
			began, steps := time.Now(), c.m.Steps()
			for i := range commands / 4 {
				c.apply(register(1, fmt.Sprint("d", i%4)), revoke(1, fmt.Sprint("d", i%4)), remove(1, fmt.Sprint("d", i%4)), revoke(1, "nobody"))
			}
			b.ReportMetric(float64(time.Since(began).Microseconds())/float64(commands), name+"-µs/command")
			b.ReportMetric(float64(c.m.Steps()-steps)/float64(commands), name+"-keys/command")
		}
		measure("before", 10_000)
		c.apply(deleteOrg(0))
		measure("after", 10_000)
	}
	b.ReportMetric(0, "ns/op")
}
