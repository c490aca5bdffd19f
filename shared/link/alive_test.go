package link_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"machineid/internal/testkit/bubble"
	"machineid/shared/link"
)

// silent is a service whose sessions say nothing, and tell when they end.
type silent struct {
	link.UnimplementedLinkServer

	ended chan time.Time
}

func (s silent) Session(stream grpc.BidiStreamingServer[link.ToAuthority, link.ToEdge]) error {
	<-stream.Context().Done()
	s.ended <- time.Now()
	return nil
}

// cable is a connection that can be cut: then nothing comes out of it any more, and neither end is told.
type cable struct {
	net.Conn

	cut chan struct{}
}

func (c cable) Write(b []byte) (int, error) {
	select {
	case <-c.cut:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

// TestASilentConnectionIsAskedAfter: with nothing to say a session lasts, and both ends keep to what the other allows. When nothing comes through any more each end
// knows within 15 s: 10 of silence, and 5 for an answer.
func TestASilentConnectionIsAskedAfter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		lines, cut, s := bufconn.Listen(1<<20), make(chan struct{}), silent{ended: make(chan time.Time, 1)}
		server := grpc.NewServer(link.ServerOptions()...)
		link.RegisterLinkServer(server, s)
		var work sync.WaitGroup
		work.Go(func() {
			if err := server.Serve(cutListener{lines, cut}); err != nil {
				t.Error(err)
			}
		})
		conn, err := grpc.NewClient("passthrough:a", append(link.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := lines.DialContext(ctx)
				return cable{c, cut}, err
			}))...)
		if err != nil {
			t.Fatal(err)
		}
		session, err := link.NewLinkClient(conn).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan time.Time, 1)
		work.Go(func() {
			if _, err := session.Recv(); err == nil {
				t.Error("a frame came")
			}
			told <- time.Now()
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(told) > 0 || len(s.ended) > 0 {
			t.Fatal("a session with nothing to say has ended")
		}
		close(cut)
		began := time.Now()
		for end, at := range map[string]time.Time{"the edge": <-told, "the authority": <-s.ended} {
			// The last that it heard was up to 10 s before.
			if took := at.Sub(began); took < 5*time.Second || took > 15*time.Second {
				t.Errorf("%s knows after %v", end, took)
			}
		}
		conn.Close()
		server.Stop()
		work.Wait()
	})
}

type cutListener struct {
	net.Listener

	cut chan struct{}
}

func (l cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return cable{c, l.cut}, nil
}
