package raftstore

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// Raft stops reading a pipeline's answers at the first that grants nothing, and may still send: that must end. (With raft's own
// pipeline it does not; pipeline.go says what that costs.)
func TestPipelineEndsBehindARefusal(t *testing.T) {
	answers := map[string]raft.AppendEntriesResponse{
		"refused":     {Term: 2},
		"newer term":  {Term: 3, Success: true},
		"no answer":   {},
		"all granted": {Term: 2, Success: true},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				cfg := newNode().cfg.withDefaults()
				here, there := pipeTransports(&cfg)
				over := make(chan struct{})
				defer func() { close(over); _ = errors.Join(here.Close(), there.Close()) }()
				go func() {
					for {
						select {
						case rpc := <-there.Consumer():
							if name != "no answer" {
								rpc.Respond(&answer, nil)
							}
						case <-over:
							return
						}
					}
				}()
				p, err := here.AppendEntriesPipeline("n2", "there")
				if err != nil {
					t.Fatal(err)
				}
				send := func() error {
					done := make(chan error, 1)
					go func() {
						_, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 2}, &raft.AppendEntriesResponse{})
						done <- err
					}()
					select {
					case err := <-done:
						return err
					case <-time.After(time.Minute):
						t.Error("a send waits for ever")
						_ = p.Close()
						return <-done
					}
				}
				if err := send(); err != nil {
					t.Fatal(err)
				}
				got := <-p.Consumer()
				if name == "all granted" {
					for range 100 {
						if err := send(); err != nil {
							t.Fatal(err)
						}
						if got := <-p.Consumer(); got.Error() != nil || !got.Response().Success {
							t.Fatalf("answered %v, %+v", got.Error(), got.Response())
						}
					}
					_ = p.Close()
					return
				}
				if got.Error() == nil && (got.Response().Term != answer.Term || got.Response().Success != answer.Success) {
					t.Errorf("answered %+v", got.Response())
				}
				sent := 0
				for send() == nil {
					if sent++; sent > 10 {
						t.Fatal("it goes on")
					}
				}
				_ = errors.Join(p.Close(), p.Close())
			})
		})
	}
}

// pipeTransports are two transports; the first can dial the second.
func pipeTransports(cfg *Config) (here, there transport) {
	b := &pipeStream{addr: address("there"), queue: make(chan net.Conn), closed: make(chan struct{})}
	a := &pipeStream{addr: address("here"), queue: make(chan net.Conn), closed: make(chan struct{}), peer: b}
	return newTransport(a, cfg), newTransport(b, cfg)
}

// pipeStream is a raft.StreamLayer over pipes in memory.
type pipeStream struct {
	addr   net.Addr
	queue  chan net.Conn
	closed chan struct{}
	peer   *pipeStream
}

func (s *pipeStream) Accept() (net.Conn, error) {
	select {
	case c := <-s.queue:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *pipeStream) Close() error {
	close(s.closed)
	return nil
}

func (s *pipeStream) Addr() net.Addr { return s.addr }

func (s *pipeStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	out, in := net.Pipe()
	s.peer.queue <- in
	return out, nil
}
