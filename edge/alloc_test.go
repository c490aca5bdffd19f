//go:build !race

package edge

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/link"
)

// TestAllocValidate: a validate that memory answers allocates nothing, with limits
// on, from the request that the server has read to the answer that it writes.
func TestAllocValidate(t *testing.T) {
	e, err := New(Config{ID: "e1", CacheEntries: MinCacheEntries, Limits: DefaultLimits(), NoDate: true, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.caches.close()
	key := keyOf(1)
	hasher, err := link.NewHasher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{caches: e.caches, epoch: 1, hasher: hasher, sight: e.sight}
	at := stamp{index: 1, expires: 1 << 62, epoch: 1}
	keep := func(known bool, device string) {
		m.keep(&found{
			key: newKey(at, key.Hash(), testOwner, hasher, decision.Key{Known: true}), org: newOrg(at, testOwner, decision.Holder{Known: true}),
			device: newDevice(at, testOwner, device, decision.Occupant{Known: known}),
		}, 0)
	}
	keep(true, "agent-01")
	keep(false, "nobody")
	e.caches.keys.Wait()
	e.caches.orgs.Wait()
	e.caches.devices.Wait()
	e.caches.refusedDevices.Wait()
	e.memory.Store(m)
	e.lease.Store(1 << 62)
	if e.clock.Now() >= clock.Time(e.lease.Load()) {
		t.Fatal("no lease")
	}

	head := "Host: 127.0.0.1:8080\r\nx-org-key: " + key.Reveal() + "\r\nUser-Agent: agent/1.0\r\nAccept: */*\r\n"
	l := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(l) }()
	defer func() {
		if err := errors.Join(e.server.Shutdown(), <-served); err != nil {
			t.Error(err)
		}
	}()
	for name, c := range map[string]struct{ raw, code string }{
		"POST":   {"POST /api/v1/devices/validate HTTP/1.1\r\n" + head + "Content-Type: application/json\r\nContent-Length: 23\r\n\r\n" + `{"deviceId":"agent-01"}`, "ALLOW"},
		"GET":    {"GET /api/v1/devices/validate?deviceId=agent-01 HTTP/1.1\r\n" + head + "\r\n", "ALLOW"},
		"denial": {"GET /api/v1/devices/validate?deviceId=nobody HTTP/1.1\r\n" + head + "\r\n", "DEVICE_NOT_FOUND"},
	} {
		s := &script{request: []byte(c.raw), ask: make(chan struct{}), answered: make(chan struct{})}
		l.conn <- s
		run := func() {
			s.ask <- struct{}{}
			<-s.answered
		}
		run()
		if !bytes.Contains(s.answer, []byte(`"`+c.code+`"`)) || !bytes.Contains(s.answer, []byte("X-Cache: hit")) {
			t.Errorf("%s: %s", name, s.answer)
		}
		// AllocsPerRun rounds down: what a pool makes anew after a collection is not
		// ours, nor is a reading of the clock ten times a second.
		if n := testing.AllocsPerRun(2000, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		close(s.ask)
	}
}

// oneConn is a listener of the connections it is given.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *oneConn) Close() error {
	close(l.closed)
	return nil
}

func (*oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// script is a connection on which one request comes again each time it is asked.
type script struct {
	net.Conn
	request, answer []byte
	ask, answered   chan struct{}
}

func (s *script) Read(b []byte) (int, error) {
	if _, ok := <-s.ask; !ok {
		return 0, io.EOF
	}
	return copy(b, s.request), nil
}

func (s *script) Write(b []byte) (int, error) {
	s.answer = append(s.answer[:0], b...)
	s.answered <- struct{}{}
	return len(b), nil
}

func (*script) Close() error                     { return nil }
func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
func (*script) SetDeadline(time.Time) error      { return nil }
