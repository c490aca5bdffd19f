//go:build linux

package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// descriptors sets how many file descriptors a process may have from now on, and returns the limit that it had.
func (p *process) descriptors(n uint64) (before syscall.Rlimit) {
	p.tb.Helper()
	limit := func(set, get *syscall.Rlimit) {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(p.cmd.Process.Pid), syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 0, 0)
		if errno != 0 {
			p.tb.Fatalf("the limit of %s: %v", p.name, errno)
		}
	}
	limit(nil, &before)
	limit(&syscall.Rlimit{Cur: n, Max: before.Max}, nil)
	return before
}

// dialled opens a connection to each address, whether or not anybody accepts it.
func dialled(t *testing.T, addrs ...string) (conns []net.Conn) {
	t.Helper()
	for _, addr := range addrs {
		c, err := net.DialTimeout("tcp", addr, patient)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conns = append(conns, c)
	}
	return conns
}

// TestNoListenerEndsWithoutDescriptors (I14): every listener of both tiers is called while its process can have no further descriptor. None ends
// its process, what is open goes on, /readyz and the log say why, and when there are descriptors again all of them serve.
func TestNoListenerEndsWithoutDescriptors(t *testing.T) {
	t.Parallel()
	s := startTiers(t)
	admin, agent, ops := newClient(t, s.edge.http), newClient(t, s.edge.http), dialled(t, s.edge.ops, s.authority.ops)
	o := newClient(t, s.authority.http).createOrg(t)
	admin.must(t, "devices/register", o.admin, naming("agent-01"))
	eventually(t, patient, "the edge allows", func() bool { return agent.validate(t, o.agent, "agent-01") == "ALLOW" })
	notReady := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(patient))
		if _, err := io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b[:n]), "connections cannot be accepted")
	}
	notReady(ops[0]) // so that both are served before
	notReady(ops[1])

	edgeHad, authorityHad := s.edge.descriptors(3), s.authority.descriptors(3)
	waiting := dialled(t, s.edge.http, s.edge.ops, s.authority.http, s.authority.link, s.authority.raft, s.authority.ops)
	for i, what := range []string{"the edge", "the authority"} {
		eventually(t, patient, what+" says so", func() bool { return notReady(ops[i]) })
	}
	if code := agent.validate(t, o.agent, "agent-01"); code != "ALLOW" {
		t.Errorf("what is open: %s", code)
	}
	admin.must(t, "devices/revoke", o.admin, naming("agent-01"))
	if code := agent.validate(t, o.agent, "agent-01"); code != "DEVICE_REVOKED" {
		t.Errorf("after a revoke: %s", code)
	}

	s.edge.descriptors(edgeHad.Cur)
	s.authority.descriptors(authorityHad.Cur)
	for _, c := range waiting { // those that came meanwhile are served now
		_ = c.SetDeadline(time.Now().Add(patient))
		if addr := c.RemoteAddr().String(); addr == s.authority.link || addr == s.authority.raft {
			continue
		}
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Error(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 1 {
			t.Errorf("%s: %v", c.RemoteAddr(), err)
		}
	}
	for _, p := range []*process{s.edge.process, s.authority.process} {
		if n := strings.Count(p.out.String(), "accepting connections fails"); n == 0 || n > 6 {
			t.Errorf("%s told of it %d times", p.name, n)
		}
	}
}

// TestGreedyConnectionsTakeNobodysPlace: with few descriptors, more connections to each listener than the process may have. They are refused
// beyond each listener's share, so what must go on has what it takes: the link, Raft, the disk, and who was there before.
func TestGreedyConnectionsTakeNobodysPlace(t *testing.T) {
	t.Parallel()
	const few = 256
	a := newAuthority(t)
	a.limited = few
	a.start()
	e := &edgeNode{http: freeAddress(t), ops: freeAddress(t)}
	e.process = launchWith(t, nil, few, "edge", "--id", "e1", "--http", e.http, "--ops", e.ops, "--authority", a.link, "--max-connections-address", "1000")
	e.ready()
	admin, agent := newClient(t, e.http), newClient(t, e.http)
	o := newClient(t, a.http).createOrg(t)
	admin.must(t, "devices/register", o.admin, naming("agent-01"))
	eventually(t, patient, "the edge allows", func() bool { return agent.validate(t, o.agent, "agent-01") == "ALLOW" })
	var greedy []net.Conn
	for _, addr := range []string{e.http, a.http, a.link, a.raft, e.ops, a.ops} {
		for range few + few/2 {
			greedy = append(greedy, dialled(t, addr)...)
		}
		for i := range 3 {
			name := fmt.Sprintf("agent-%s-%d", addr, i)
			admin.must(t, "devices/register", o.admin, naming("agent-01"))
			if code := agent.validate(t, o.agent, "agent-01"); code != "ALLOW" {
				t.Errorf("%s: %s", name, code)
			}
			if code := agent.validate(t, o.agent, name); code != "DEVICE_NOT_FOUND" { // which the authority is asked
				t.Errorf("%s: %s", name, code)
			}
		}
	}
	for _, p := range []*process{e.process, a.process} {
		if strings.Contains(p.out.String(), "too many open files") {
			t.Errorf("%s had no descriptor left", p.name)
		}
	}
	for _, c := range greedy {
		_ = c.Close()
	}
	eventually(t, patient, "others are served again", func() bool {
		resp, err := opsClient.Get("http://" + e.http + "/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil && resp.StatusCode != http.StatusServiceUnavailable && readyAt(e.ops) && readyAt(a.ops)
	})
}
