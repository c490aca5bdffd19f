//go:build unix

package cli

import (
	"math/rand/v2"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestEdgesGoOnAtAnyNode: every node has the same history, so hand-overs and crashes of leaders make no edge begin anew (I7, I13).
func TestEdgesGoOnAtAnyNode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 3))
		s := newSite(t, rng, 3, 2)
		c := s.caller("founder")
		var key string
		s.until("an org is there", func() bool {
			r := c.call("a1", "POST", "org/create", "{}")
			key = r.Key
			return r.code == 200
		})
		change := func(path, id string) {
			s.until(path, func() bool {
				for _, n := range s.nodes {
					if n.proc.Load() != nil && c.call(n.id, "POST", path, device(id), "X-Org-Key", key).code == 200 {
						return true
					}
				}
				return false
			})
		}
		change("devices/register", "d")
		ask := func(want string) {
			t.Helper()
			for _, e := range s.edges {
				s.until(e.id+" says "+want, func() bool {
					return c.call(e.id, "POST", "devices/validate", device("d"), "X-Org-Key", key).Code == want
				})
			}
		}
		ask("ALLOW")
		resets, terms := s.counted("machineid_edge_session_resets_total"), map[uint64]bool{}
		for round := range 8 {
			change("devices/revoke", "d")
			ask("DEVICE_REVOKED")
			s.until("a node leads", func() bool { return s.leader() != nil })
			n, term := s.leader(), s.view().Term
			terms[term] = true
			if round%2 == 0 {
				s.crash(n, rng)
			}
			s.until("another term", func() bool {
				if round%2 == 1 && s.view().Term == term {
					c.call(n.id, "POST", "operator/cluster/transfer", "{}", "Authorization", "Bearer "+siteToken)
				}
				return s.view().Term > term && s.leader() != nil
			})
			change("devices/unrevoke", "d")
			ask("ALLOW")
			if n.proc.Load() == nil {
				s.startNode(n, false)
			}
			s.until("every node is ready", s.nodesReady)
			s.until("every edge is ready", s.edgesReady)
			time.Sleep(5 * time.Second)
		}
		if now := s.counted("machineid_edge_session_resets_total"); now != resets || len(terms) < 8 {
			t.Errorf("%v sessions began anew over %d terms", now-resets, len(terms))
		}
		c.close()
		s.stop()
	})
}
