//go:build unix

package cli

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// TestAuthorityKilled proves what the edge says without its authority (I1, I9): from memory until the lease's end, at the latest
// one lease after the last grant, then SYSTEM_UNAVAILABLE; and ALLOW again within two seconds of the authority's return. The
// last grant came before the kill, so no request that was sent a lease after it may be allowed: there is no tolerance here.
func TestAuthorityKilled(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	s := startTiers(t, "--lease", lease.String())
	admin, agent := newClient(t, s.authority.http), newClient(t, s.edge.http)
	o := admin.createOrg(t)
	admin.must(t, "devices/register", o.admin, naming("agent-01"))
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		eventually(t, patient, "the edge allows", func() bool { return agent.validate(t, o.agent, "agent-01") == "ALLOW" })
		s.authority.kill()
		killed := time.Now()
		allowed, last := 0, time.Duration(0)
		missed := false
		for sent := time.Duration(0); sent < lease+500*time.Millisecond; {
			sent = time.Since(killed)
			switch code := agent.validate(t, o.agent, "agent-01"); {
			case code == "ALLOW" && sent > lease:
				t.Fatalf("round %d: ALLOW to a request sent %v after the kill, the lease being %v", round, sent, lease)
			case code == "ALLOW":
				allowed, last = allowed+1, sent
			case code != "SYSTEM_UNAVAILABLE":
				t.Fatalf("round %d: %s, %v after the kill", round, code, sent)
			}
			if !missed { // what is not in memory can only be unavailable
				missed = true
				began := time.Now()
				if code := agent.validate(t, o.agent, fmt.Sprint("never-seen-", round)); code != "SYSTEM_UNAVAILABLE" {
					t.Fatalf("round %d: %s for a device the edge cannot know", round, code)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("round %d: a validate took %v", round, took)
				}
			}
		}
		if allowed == 0 {
			t.Errorf("round %d: the edge did not answer from memory at all", round)
		}
		if a, err := agent.post("devices/revoke", o.admin, naming("agent-01")); err != nil || a.StatusCode != http.StatusServiceUnavailable || a.text("outcome") != "not_done" {
			t.Errorf("round %d: a revoke through the edge without an authority: %+v, %v", round, a, err)
		}

		began := time.Now()
		s.authority.start()
		back := time.Now()
		eventually(t, patient, "the edge allows again", func() bool { return agent.validate(t, o.agent, "agent-01") == "ALLOW" })
		again := time.Since(back)
		t.Logf("round %d: %d ALLOW after the kill, the last sent %v after it; authority back after %v, ALLOW again %v later",
			round, allowed, last.Round(time.Millisecond), back.Sub(began).Round(time.Millisecond), again.Round(time.Millisecond))
		if again > 2*time.Second {
			t.Errorf("round %d: ALLOW %v after the authority's return, want at most 2s", round, again)
		}
	}
}

// TestEdgePausedAcrossRevoke proves that a paused edge never answers from before a revoke that has returned, also not the
// requests that waited in its sockets while it was stopped: what it reads on waking it judges by its clock first (I1, I3).
// The revoke is called at the authority, which waits for the lease of an edge that cannot acknowledge (I2).
func TestEdgePausedAcrossRevoke(t *testing.T) {
	t.Parallel()
	const (
		lease     = 300 * time.Millisecond
		conns     = 24
		early     = 8 // connections that ask before the revoke
		pipelined = 3
	)
	rng := seeded(t)
	s := startTiers(t, "--lease", lease.String())
	admin, agent := newClient(t, s.authority.http), newClient(t, s.edge.http)
	o := admin.createOrg(t)
	admin.must(t, "devices/register", o.admin, naming("agent-01"))
	ask := request("POST", "devices/validate", o.agent, naming("agent-01"))
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	counts := map[string]int{}
	for round := range rounds {
		// From now on the edge answers from memory. How many times it is asked makes the phase in its lease random.
		open := make([]*client, conns)
		for i := range open {
			open[i] = newClient(t, s.edge.http)
			eventually(t, patient, "the edge allows", func() bool { return open[i].validate(t, o.agent, "agent-01") == "ALLOW" })
		}
		for range rng.IntN(200) {
			agent.validate(t, o.agent, "agent-01")
		}
		s.edge.pause()
		send := func(c *client) {
			if err := c.send(ask); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		for _, c := range open[:early] {
			send(c)
		}
		wakes := round%3 == 2 // while the revoke waits, it may acknowledge
		if wakes {
			time.AfterFunc(time.Duration(rng.Int64N(int64(lease))), func() { _ = s.edge.cmd.Process.Signal(syscall.SIGCONT) })
		}
		began := time.Now()
		revoked := admin.must(t, "devices/revoke", o.admin, naming("agent-01"))
		took := time.Since(began)
		for range pipelined {
			for _, c := range open[early:] {
				send(c)
			}
		}
		if !wakes {
			s.edge.resume()
		}
		p, _ := revoked.body["propagation"].(map[string]any)
		if !wakes && p["expired"] != 1.0 {
			t.Errorf("round %d: a stopped edge that held the device did not make the revoke wait: %s", round, revoked.raw)
		}
		if took > 2*lease+500*time.Millisecond {
			t.Errorf("round %d: the revoke took %v, the lease being %v", round, took, lease)
		}
		for i, c := range open {
			for n := range pipelined {
				if i < early && n > 0 {
					break // asked once
				}
				a, err := c.read()
				if err != nil {
					t.Fatalf("round %d, connection %d: %v", round, i, err)
				}
				if i >= early {
					counts[a.code()]++
				}
				if i >= early && a.code() != "SYSTEM_UNAVAILABLE" && a.code() != "DEVICE_REVOKED" {
					t.Errorf("round %d, connection %d: %s to a request that was sent after the revoke returned", round, i, a.code())
				}
			}
			c.close()
		}
		eventually(t, patient, "the edge knows of the revoke", func() bool {
			code := agent.validate(t, o.agent, "agent-01")
			if code == "ALLOW" {
				t.Fatalf("round %d: ALLOW after the revoke returned", round)
			}
			return code == "DEVICE_REVOKED"
		})
		t.Logf("round %d: woken early %v, revoke returned after %v", round, wakes, took.Round(time.Millisecond))
		admin.must(t, "devices/unrevoke", o.admin, naming("agent-01"))
	}
	t.Logf("answers to what was sent after the revoke: %v", counts)
}

// TestStopWithOpenConnections proves that SIGINT ends each tier with exit code 0 whatever its clients hold open, and soon unless
// a request is under way: half a request may be waited for as long as the drain takes, and is no failure of the process.
func TestStopWithOpenConnections(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sent   string
		within time.Duration
	}{
		"nothing sent":   {"", 5 * time.Second},
		"idle":           {request("GET", "usage", "", ""), 5 * time.Second},
		"half a request": {"POST /api/v1/devices/validate HTTP/1.1\r\nHost: a\r\n", 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && tt.sent != "" {
				t.Skip("one kind has to do")
			}
			a := newAuthority(t)
			a.start()
			e := startEdge(t, a.link, "--cache-entries", "1000")
			e.ready()
			for _, p := range []struct {
				*process

				addr string
			}{{e.process, e.http}, {a.process, a.http}} {
				c := newClient(t, p.addr)
				if err := c.send(tt.sent); err != nil {
					t.Fatal(err)
				}
				if name == "idle" {
					if _, err := c.read(); err != nil {
						t.Fatal(err)
					}
				}
				// What was sent before on another connection has been read by now, and this connection accepted.
				if _, err := newClient(t, p.addr).get("usage", ""); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				p.interrupt()
				took := time.Since(began)
				t.Logf("%s stopped after %v", p.name, took.Round(time.Millisecond))
				if took > tt.within {
					t.Errorf("%s took %v to stop, want at most %v", p.name, took, tt.within)
				}
			}
		})
	}
}
