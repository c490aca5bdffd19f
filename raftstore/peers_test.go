package raftstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// served is one end of the own protocol over a real socket.
func served(tb testing.TB, addr string, answer func() (NodeStatus, error)) (*ownPeers, string) {
	tb.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	d := testDoor(Life{"n2", "s2"}, answer)
	m := newMux(l, d, "", nil, nil, logger)
	tb.Cleanup(func() { _ = m.Close() })
	p := newOwnPeers(m, logger)
	if answer != nil {
		p.Serve(d)
	}
	return p, l.Addr().String()
}

// testDoor is that of a node without a membership.
// A frame has a bound, and no memory is taken for more.
func TestFramesAreBounded(t *testing.T) {
	for size, ok := range map[int]bool{ownMaxFrame: true, ownMaxFrame + 1: false, 1 << 24: false} {
		body := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), size-2)...), '"')
		var got string
		if err := readFrame(bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(size)), body...)), &got); (err == nil) != ok {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func testDoor(l Life, answer func() (NodeStatus, error)) *door {
	return &door{
		life: l, logger: slog.New(slog.DiscardHandler), status: answer, cluster: func() string { return "c" },
		pin: func(string, bool) error { return nil }, applied: func() configuration { return configuration{} }, reach: func() Reach { return Reach{} }, logged: func() uint64 { return 0 },
	}
}

// Questions share connections, which are dialled again when the other side went away; what answers late or not at all costs its
// deadline.
func TestPeers(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		want := NodeStatus{ID: "n2", Cluster: "c", Term: 7, State: "Follower", Leader: "n1", Applied: 5, LastIndex: 6, Version: "v"}
		client, _ := served(t, "127.0.0.1:0", nil)
		server, addr := served(t, "127.0.0.1:0", func() (NodeStatus, error) { return want, nil })
		ask := func(addr string) (NodeStatus, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return client.Status(ctx, Life{}, addr)
		}
		for range 100 {
			if got, err := ask(addr); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %v", got, err)
			}
		}
		server.mux.mu.Lock()
		open := len(server.mux.open)
		server.mux.mu.Unlock()
		if open != 1 {
			t.Errorf("100 questions one after the other took %d connections", open)
		}
		if err := server.mux.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(addr); err == nil {
			t.Error("a closed node answers")
		}
		want.Term = 8
		served(t, addr, func() (NodeStatus, error) { return want, nil })
		if got, err := ask(addr); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("after a restart: %+v, %v", got, err)
		}
		_, closing := served(t, "127.0.0.1:0", func() (NodeStatus, error) { return NodeStatus{}, ErrClosed })
		if _, err := ask(closing); err == nil {
			t.Error("a node that is closing answers")
		}
	})
}

// A node that accepts and says nothing costs the deadline, and a late answer is never taken for the next one.
func TestPeersSilent(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		client, _ := served(t, "127.0.0.1:0", nil)
		var n atomic.Uint64
		first := make(chan struct{})
		_, addr := served(t, "127.0.0.1:0", func() (NodeStatus, error) {
			if n.Add(1) == 1 {
				<-first
				return NodeStatus{Term: 1}, nil
			}
			return NodeStatus{Term: 2}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // far more than it takes to be asked
		defer cancel()
		if _, err := client.Status(ctx, Life{}, addr); err == nil {
			t.Fatal("nothing was answered")
		}
		close(first)
		again, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if got, err := client.Status(again, Life{}, addr); err != nil || got.Term != 2 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// Whatever comes in on the port, the node goes on answering, and what it was sent is not kept.
func TestPeersGarbage(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		client, _ := served(t, "127.0.0.1:0", nil)
		_, addr := served(t, "127.0.0.1:0", func() (NodeStatus, error) { return NodeStatus{Term: 1}, nil })
		rng := newRand(t)
		frame := func(body string) string {
			return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
		}
		random := make([]byte, 4096)
		for i := range random {
			random[i] = byte(rng.Uint32())
		}
		for _, sent := range []string{
			"", "\x00", "\xff\xff\xff\xff", "\x00\x00\x40\x01" + strings.Repeat("x", 1<<14+1), "GET / HTTP/1.1\r\n\r\n", frame(""), frame("null"),
			frame("{}"), frame("[]"), frame(`{"ask":"vote"}`), frame(`{"ask":7}`), frame(`{"ask":"status"`), frame(strings.Repeat("[", 1<<14)),
			string(random),
		} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			greet := must[[]byte](t)(appendFrame([]byte{muxOwn}, Greeting{From: Life{"n3", "s3"}}))
			var w Welcome
			if _, err := c.Write(greet); err != nil {
				t.Error(err)
			} else if err := errors.Join(readFrame(c, &w), writeFrame(c, Reach{}), readFrame(c, &w)); err != nil || w.Refused != "" {
				t.Errorf("greeted: %+v, %v", w, err)
			}
			_, _ = io.WriteString(c, sent) // it may be closed in the middle
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.CloseWrite() // it may be closed already
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%.20q was answered with %q, %v", sent, got, err)
			}
			_ = c.Close()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := client.Status(ctx, Life{}, addr); err != nil {
			t.Error(err)
		}
	})
}

// An answer that is not one is an error, whatever it is.
func TestPeersGarbageAnswers(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		client, _ := served(t, "127.0.0.1:0", nil)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		for _, answer := range []string{"", "\x00\x00\x00\x02{}x", "\x00\x00\x00\x04null", "\xff\xff\xff\xff", "\x00\x00\x00\x01x", "HTTP/1.1 200 OK"} {
			served := make(chan struct{})
			go func() {
				defer close(served)
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				var g Greeting
				var q ownQuestion
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				welcome := Welcome{Life: Life{"n2", "s2"}}
				if err := errors.Join(readFrame(c, &g), writeFrame(c, welcome), readFrame(c, new(Reach)), writeFrame(c, welcome)); err != nil {
					t.Error(err)
				}
				if err := readFrame(c, &q); err != nil {
					t.Error(err)
				}
				_, _ = io.WriteString(c, answer)
				_ = c.Close()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			status, err := client.Status(ctx, Life{}, l.Addr().String())
			cancel()
			if err == nil { // an empty one names no node, and is refused there
				err = status.isOf(Life{"n2", "s2"}, "c")
			}
			if err == nil {
				t.Errorf("%q passes for an answer", answer)
			}
			<-served
			client.mu.Lock()
			clear(client.idle)
			client.mu.Unlock()
		}
	})
}

func TestStatusIsOf(t *testing.T) {
	status := NodeStatus{ID: "n2", Store: "s", Cluster: "c"}
	if err := status.isOf(Life{"n2", "s"}, "c"); err != nil {
		t.Error(err)
	}
	for _, other := range [][3]string{{"n3", "s", "c"}, {"n2", "s", "d"}, {"", "s", "c"}, {"n2", "t", "c"}, {"n2", "", "c"}} {
		if err := status.isOf(Life{other[0], other[1]}, other[2]); err == nil {
			t.Errorf("%v passes for %q", status, other)
		}
	}
}

// The words of the protocol: other versions read them.
func TestPeersGolden(t *testing.T) {
	var out strings.Builder
	full := NodeStatus{ID: "n2", Store: "s", Cluster: "c", Term: 7, State: "Follower", Leader: "n1", Applied: 5, LastIndex: 6, Version: "v"}
	for _, v := range []any{ownQuestion{Ask: askStatus}, full} {
		if err := writeFrame(&out, v); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "status_v1", []byte(out.String()))
}
