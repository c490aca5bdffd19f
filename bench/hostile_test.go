//go:build linux

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"machineid/bench/fleet"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// hostile are clients of the link that say one thing over and over, as fast as they may.
var hostile = map[string]func(key *orgkey.Hash) *link.ToAuthority{
	"renew": func(*orgkey.Hash) *link.ToAuthority { return &link.ToAuthority{Renew: &link.Renew{AskedAtNs: 1}} },
	"fetch one": func(key *orgkey.Hash) *link.ToAuthority {
		return &link.ToAuthority{Fetches: []*link.Fetch{{Id: 1, KeyHash: key[:], DeviceId: "nobody"}}}
	},
	"fetch many": func(key *orgkey.Hash) *link.ToAuthority {
		f := &link.ToAuthority{}
		for i := range uint64(link.MaxFetches) {
			f.Fetches = append(f.Fetches, &link.Fetch{Id: i, KeyHash: key[:], DeviceId: fmt.Sprint("nobody-", i)})
		}
		return f
	},
}

// hostileSessions is how many there are at once.
const hostileSessions = 4

// shoutAt begins hostile clients in a process of their own: what they take of this one would be measured as what the others wait.
func shoutAt(b *testing.B, address, key, says string) (stop func()) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^TestHostileClients$")
	cmd.Env = append(os.Environ(), "HOSTILE_AT="+address, "HOSTILE_KEY="+key, "HOSTILE_SAYS="+says)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestHostileClients is no test: it is the process of BenchmarkHostileEdge's clients.
func TestHostileClients(t *testing.T) {
	frame := hostile[os.Getenv("HOSTILE_SAYS")]
	if frame == nil {
		return // a benchmark runs it, in a process of its own
	}
	sum := orgkey.Sum([]byte(os.Getenv("HOSTILE_KEY")))
	for i := range hostileSessions {
		go say(t.Context(), os.Getenv("HOSTILE_AT"), i, frame(&sum))
	}
	select {}
}

// BenchmarkHostileEdge has four sessions with the leader say one thing without end. Meanwhile an honest edge is asked about devices that it does not hold, and devices are registered at the
// leader. What is measured is what that costs the others, and how much of the processor the leader takes. The hostile clients share the machine. BENCH_BINARY measures another build.
func BenchmarkHostileEdge(b *testing.B) {
	for _, says := range []string{"", "renew", "fetch one", "fetch many"} {
		b.Run("says="+says, func(b *testing.B) { besideHostile(b, says) })
	}
}

func besideHostile(b *testing.B, says string) {
	b.Helper()
	dir, binary := b.TempDir(), os.Getenv("BENCH_BINARY")
	if binary == "" {
		var err error
		if binary, err = fleet.Build(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
	f, err := fleet.Open(b.Context(), fleet.Config{Binary: binary, Dir: dir, Nodes: 1, Edges: 1, EdgeFlags: []string{"--limit-changes", "0", "--max-wait", "250ms"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.Close)
	leader, _, err := f.Reign(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	org := crowd(b, f, leader, quietDevices)
	at := f.Edges[0]
	_ = exchange(b, at.HTTP, post("devices/validate", org.key, `{"deviceId":"nobody"}`))
	lost := leases(b, f)
	cpu := func() float64 {
		seconds, err := leader.Metric(b.Context(), "process_cpu_seconds_total")
		if err != nil {
			b.Fatal(err)
		}
		return seconds
	}
	for b.Loop() {
		stop := func() {}
		if says != "" {
			stop = shoutAt(b, leader.Link, org.key, says)
		}
		time.Sleep(500 * time.Millisecond)
		before, began := cpu(), time.Now()
		var asked, changed result
		var asking sync.WaitGroup
		asking.Go(func() {
			asked = ask(at.HTTP, func(i int) []byte { return org.validates[i%len(org.validates)] }, quietPerSec, `"allowed":true`)
		})
		asking.Go(func() {
			changed = ask(leader.HTTP, func(i int) []byte {
				return post("devices/register", org.key, fmt.Sprintf(`{"deviceId":"agent-%016d","name":"%d"}`, i%quietDevices, time.Now().UnixNano()))
			}, quietPerSec/5, "HTTP/1.1 200")
		})
		asking.Wait()
		took := time.Since(began).Seconds()
		b.ReportMetric((cpu()-before)/took, "leader-cores")
		stop()
		b.ReportMetric(100*float64(asked.bad)/float64(asked.all), "%denied")
		b.ReportMetric(asked.at(50), "miss-p50-ms")
		b.ReportMetric(asked.at(99), "miss-p99-ms")
		b.ReportMetric(100*float64(changed.bad)/float64(changed.all), "%failed-changes")
		b.ReportMetric(changed.at(50), "change-p50-ms")
		b.ReportMetric(changed.at(99), "change-p99-ms")
	}
	b.ReportMetric(leases(b, f)-lost, "leases-lost")
	b.ReportMetric(0, "ns/op")
}

// say sends a frame over and over on a session of its own, and throws away what it is told.
func say(ctx context.Context, address string, n int, frame *link.ToAuthority) {
	conn, err := grpc.NewClient("passthrough:///"+address, append(link.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for ctx.Err() == nil {
		stream, err := link.NewLinkClient(conn).Session(ctx)
		if err != nil {
			return
		}
		var sending sync.Mutex
		send := func(f *link.ToAuthority) error {
			sending.Lock()
			defer sending.Unlock()
			return stream.Send(f)
		}
		process := make([]byte, 16)
		process[0] = byte(n + 1)
		_ = send(&link.ToAuthority{Hello: &link.Hello{EdgeId: fmt.Sprint("hostile-", n), ProcessId: process, DecisionVersion: 1}})
		go func() {
			for {
				f, err := stream.Recv()
				if err != nil {
					return
				}
				index := f.GetWelcome().GetIndex()
				for _, inv := range f.GetInvalidates() {
					index = inv.GetIndex()
				}
				if index > 0 {
					_ = send(&link.ToAuthority{Ack: &link.Ack{Index: index}})
				}
			}
		}()
		for send(frame) == nil {
		}
	}
}
