package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// streamsPerConnection is how many simulated edges share a connection.
const streamsPerConnection = 100

// simulated is an edge without agents: it holds a session and renews its lease, and
// acknowledges what it is told at once.
type simulated struct {
	stream link.Link_SessionClient
	answer chan struct{} // one for each Answer
	ended  chan struct{}
}

// simulate opens n sessions, and ends them with the benchmark.
func simulate(b *testing.B, address string, n int) []*simulated {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	var all []*simulated
	var conns []*grpc.ClientConn
	b.Cleanup(func() {
		stop()
		for _, s := range all {
			<-s.ended
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
	for i := range n {
		if i%streamsPerConnection == 0 {
			c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, c)
		}
		s, err := open(ctx, conns[len(conns)-1], fmt.Sprint("simulated-", i))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func open(ctx context.Context, conn *grpc.ClientConn, id string) (*simulated, error) {
	stream, err := link.NewLinkClient(conn).Session(ctx)
	if err != nil {
		return nil, err
	}
	process := make([]byte, 16)
	_, _ = rand.Read(process)
	if err := stream.Send(&link.ToAuthority{Hello: &link.Hello{EdgeId: id, ProcessId: process, DecisionVersion: 1}}); err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if first.GetWelcome() == nil {
		return nil, fmt.Errorf("no Welcome: %v", first)
	}
	s := &simulated{stream: stream, answer: make(chan struct{}, 1), ended: make(chan struct{})}
	go s.run(time.Duration(first.GetWelcome().GetLeaseNs()) / 3)
	return s, nil
}

func (s *simulated) run(renew time.Duration) {
	defer close(s.ended)
	renewed := time.Now()
	ask := &link.ToAuthority{Renew: &link.Renew{AskedAtNs: 1}}
	if s.stream.Send(ask) != nil {
		return
	}
	for {
		f, err := s.stream.Recv()
		if err != nil {
			return
		}
		for range f.GetAnswers() {
			s.answer <- struct{}{}
		}
		inv := f.GetInvalidates()
		if len(inv) == 0 {
			continue
		}
		out := &link.ToAuthority{Ack: &link.Ack{Index: inv[len(inv)-1].GetIndex()}}
		if time.Since(renewed) > renew {
			renewed, out.Renew = time.Now(), ask.GetRenew()
		}
		if s.stream.Send(out) != nil {
			return
		}
	}
}

// BenchmarkRevokeSessions revokes a device with 1 to 10,000 edges connected: one that
// none of them holds, and one that all do. The edges share the machine with
// the authority, so what all hold costs their work too.
func BenchmarkRevokeSessions(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
			t, address := startAuthority(b, time.Minute)
			var done struct{}
			for _, id := range []string{"held", "alone"} {
				t.call(b, "devices/register", fmt.Sprintf(`{"deviceId":%q}`, id), &done)
			}
			edges := simulate(b, address, n)
			key := orgkey.Sum([]byte(t.key))
			fetch := &link.ToAuthority{Fetches: []*link.Fetch{{Id: 1, KeyHash: key[:], DeviceId: "held"}}}
			hold := func() { // as an edge that answers for the device does
				var wg sync.WaitGroup
				for _, e := range edges {
					if err := e.stream.Send(fetch); err != nil {
						b.Fatal(err)
					}
					wg.Go(func() { <-e.answer })
				}
				wg.Wait()
			}
			hold()
			revoke := func(id string, edges int) float64 {
				body := fmt.Sprintf(`{"deviceId":%q}`, id)
				var told struct {
					Propagation struct{ Edges, Confirmed, Expired int }
				}
				ms := took(func() { t.call(b, "devices/revoke", body, &told) })
				if p := told.Propagation; p.Edges != edges || p.Confirmed != edges || p.Expired != 0 {
					b.Fatalf("%s: told %+v, want %d edges", id, p, edges)
				}
				t.call(b, "devices/unrevoke", body, &done)
				return ms
			}
			var held, alone []float64
			for b.Loop() {
				for range 300 {
					alone = append(alone, revoke("alone", 0))
				}
				for range max(10, 300/n) {
					held = append(held, revoke("held", n))
				}
			}
			for name, took := range map[string][]float64{"held": held, "none": alone} {
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2], "p50-ms-"+name)
				b.ReportMetric(took[len(took)*99/100], "p99-ms-"+name)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
