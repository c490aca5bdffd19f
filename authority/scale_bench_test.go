package authority

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/link"
)

// BenchmarkMillionDevices loads orgs of 100 devices into a node on the disk, and tells how fast that went, the Go heap then, and
// how soon the node answers again: after a clean stop, and from a copy of its folder as a crash would leave it. Use
// -benchtime 1x.
func BenchmarkMillionDevices(b *testing.B) {
	for _, devices := range []int{10_000, most} {
		b.Run(fmt.Sprintf("devices=%d", devices), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "a1")
			crashed := filepath.Join(b.TempDir(), "a1")
			load(b, dir, devices, func() {
				var m runtime.MemStats
				runtime.GC()
				runtime.GC() // what finalizers freed
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
				if out, err := exec.Command("cp", "-r", dir, crashed).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			})
			for name, dir := range map[string]string{"restart-clean-ms": dir, "restart-crashed-ms": crashed} {
				began := time.Now()
				n, stop := runNode(b, dir, "a1", nil)
				b.ReportMetric(float64(time.Since(began).Milliseconds()), name)
				if got := used(b, n, devices/perOrg-1); got != perOrg {
					b.Errorf("%s: the last org has %d devices, want %d", name, got, perOrg)
				}
				stop()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

const (
	perOrg = 100
	most   = 1_000_000
)

func orgNumber(i int) (id state.OrgID) {
	id[0] = 1
	binary.BigEndian.PutUint64(id[8:], uint64(i))
	return id
}

// load fills the folder of a node that does not run yet, as its log would have.
func load(b *testing.B, dir string, devices int, loaded func()) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	leads := make(chan struct{}, 1)
	s, err := raftstore.Open(raftstore.Config{
		ID: "a1", Dir: filepath.Join(dir, storeDir), Listener: l, Bootstrap: true,
		Lead: func(context.Context, uint64) { leads <- struct{}{} },
	}, state.New(func(uint64, []state.Concern) {}))
	if err != nil {
		b.Fatal(err)
	}
	<-leads
	propose := func(cmd *statepb.Command) {
		cmd.TimeMs = time.Now().UnixMilli()
		cmd.Actor = &statepb.Actor{Type: statepb.Actor_KEY, Id: "abcdefgh"}
		cmd.Address, cmd.RequestId = "192.0.2.1", "fbf77ff5-06ed-42eb-8e07-024c32ef1e68"
		raw, err := proto.Marshal(cmd)
		if err != nil {
			b.Error(err)
		}
		if res, err := s.Propose(b.Context(), raw); err != nil || res.Outcome.(state.Outcome).Refusal != state.Granted { //nolint:errcheck // a bench
			b.Error(res, err)
		}
	}
	plans := &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free", Limit: perOrg}}}
	propose(&statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
		Cluster: &statepb.Cluster{ClusterId: "c", Incarnation: state.NewIncarnation(nil, time.Now()), HashKey: make([]byte, link.HashKeySize)}, Plans: plans,
	}}})
	const callers = 512
	var next atomic.Int64
	var work sync.WaitGroup
	began := time.Now()
	for range callers {
		work.Go(func() {
			for org := int(next.Add(1)) - 1; org < devices/perOrg; org = int(next.Add(1)) - 1 {
				id := orgNumber(org)
				propose(&statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: id[:]}}})
				for d := range perOrg * most / devices { // as many changes for each size: the ring of newest entries is full in all
					name := strconv.Itoa(d / perOrg)
					propose(&statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{
						OrgId: id[:], DeviceId: fmt.Sprintf("agent-%018d", d%perOrg), Name: &name,
					}}})
				}
			}
		})
	}
	work.Wait()
	b.ReportMetric(float64(most)/time.Since(began).Seconds(), "registers/s")
	loaded()
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// used counts the devices of an org as a reader does.
func used(b *testing.B, n *Node, org int) int {
	b.Helper()
	v, err := n.Read(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	got, err := state.NewReader(v.Reader()).Used(orgNumber(org), n.Now())
	if err != nil {
		b.Fatal(err)
	}
	return int(got)
}
