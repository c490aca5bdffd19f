package link_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
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

// TestWhatAConnectionMayTake: the first that the authority says to a connection is how much it may take, and one that says nothing itself ends after 5 s.
func TestWhatAConnectionMayTake(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		lines := bufconn.Listen(1 << 20)
		server := grpc.NewServer(link.ServerOptions()...)
		var work sync.WaitGroup
		work.Go(func() {
			if err := server.Serve(lines); err != nil {
				t.Error(err)
			}
		})
		conn, err := lines.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		raw, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it ends after %v", took)
		}
		got := map[string]uint32{}
		for len(raw) >= 9 { // HTTP/2, RFC 9113, section 4.1
			n, kind := int(raw[0])<<16|int(raw[1])<<8|int(raw[2]), raw[3]
			payload := raw[9 : 9+n]
			switch kind {
			case 4:
				for ; len(payload) >= 6; payload = payload[6:] {
					got[fmt.Sprint("setting ", binary.BigEndian.Uint16(payload))] = binary.BigEndian.Uint32(payload[2:])
				}
			case 8:
				got["window of the connection"] = 65_535 + binary.BigEndian.Uint32(payload)
			}
			raw = raw[9+n:]
		}
		for what, want := range map[string]uint32{
			"setting 3": 4, "setting 4": 262_144, "setting 6": 16_384, "window of the connection": 262_144, // streams, a stream's window, headers
		} {
			if got[what] != want {
				t.Errorf("%s: %d, want %d", what, got[what], want)
			}
		}
		server.Stop()
		work.Wait()
	})
}
