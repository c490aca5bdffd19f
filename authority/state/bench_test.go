package state

import (
	"encoding/binary"
	"fmt"
	"testing"

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
