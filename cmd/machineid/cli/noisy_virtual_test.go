//go:build unix

package cli

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestANoisyOrg (I14): whatever one org asks for, as often as it likes, no other is refused anything, no lease is lost and no leader; and what it may have at
// once is bounded. Virtual time passes only while everybody waits, so what the noise costs in processor time is not seen here but by BenchmarkNoisyReads.
func TestANoisyOrg(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			bubble.Test(t, func(t *testing.T) { noisyOrg(t, seed) })
		})
	}
}

const (
	noisyLength  = 1500 * time.Millisecond
	noisyDevices = 150
	noisyCallers = 24
	// openMost and lineMost are authority/api's bounds.
	openMost = 4
	lineMost = 4
)

func noisyOrg(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newSite(t, rng, 3, 2)
	s.net.mu.Lock()
	s.net.steady = true // what has to be sent again can take longer than an edge waits
	s.net.mu.Unlock()
	loud, quiet := s.orgOf(noisyDevices), s.orgOf(3)
	c := s.caller("founder")
	for i := range noisyDevices {
		if r := c.call(s.nodes[i%3].id, "POST", "devices/register", device(fmt.Sprint("d", i)), "X-Org-Key", loud); r.code != 200 {
			t.Fatalf("register: %+v", r)
		}
	}
	for i := range 3 {
		s.quietly(c, s.nodes[i].id, "POST", "devices/register", device(fmt.Sprint("d", i)), quiet)
	}
	c.close()
	term, sessions := s.view().Term, s.counted("machineid_edge_sessions_total")
	ended := make(chan struct{})
	over := func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	places := []string{"a1", "a2", "a3", "e1", "e2"}
	var all sync.WaitGroup
	for i := range noisyCallers {
		all.Go(func() { s.shout(rand.New(rand.NewPCG(seed, 100+uint64(i))), fmt.Sprint("loud", i), places, loud, over) })
	}
	for i, at := range places {
		all.Go(func() {
			s.goAbout(rand.New(rand.NewPCG(seed, 200+uint64(i))), fmt.Sprint("quiet", i), i, at, quiet, over)
		})
	}
	for began := time.Now(); time.Since(began) < noisyLength; time.Sleep(37 * time.Millisecond) {
		for _, n := range s.nodes {
			if open, line := s.gauge(n, "machineid_api_long_reads_open"), s.gauge(n, "machineid_api_long_reads_waiting"); open > openMost || open+line > 2*lineMost {
				t.Errorf("%s: %v are open, %v wait", n.id, open, line)
			}
		}
	}
	close(ended)
	all.Wait()
	if now := s.view().Term; now != term {
		t.Errorf("term %d, then %d", term, now)
	}
	if now := s.counted("machineid_edge_sessions_total"); now != sessions {
		t.Errorf("%v sessions, then %v", sessions, now)
	}
	if s.counted("machineid_api_long_reads_total") == 0 {
		t.Error("there were no long reads")
	}
	t.Logf("%v long reads, %v refused", s.counted("machineid_api_long_reads_total"), s.counted("machineid_api_long_reads_refused_total"))
	s.stop()
	for _, n := range s.nodes {
		for _, name := range []string{"open", "waiting", "unsent_bytes"} {
			if left := s.gauge(n, "machineid_api_long_reads_"+name); left != 0 {
				t.Errorf("%s: %s %v at the end", n.id, name, left)
			}
		}
	}
}

// orgOf makes an org with room for so many devices and returns its key.
func (s *site) orgOf(devices int) (key string) {
	c := s.caller("founder")
	defer c.close()
	s.until("an org is there", func() bool {
		r := c.call("a1", "POST", "org/create", "{}")
		if r.code == 200 {
			s.order("PATCH", "operator/orgs/"+r.OrgID, fmt.Sprintf(`{"limit":%d}`, devices), 200)
			key = r.Key
		}
		return r.code == 200
	})
	return key
}

// shout asks for as much as there is, all callers at the same moments. No answer but those that its own noise explains is right.
func (s *site) shout(r *rand.Rand, name string, places []string, key string, over func() bool) {
	c := s.caller(name)
	defer c.close()
	for !over() {
		time.Sleep(50*time.Millisecond - s.at()%(50*time.Millisecond))
		call := []struct{ method, path, body string }{
			{"GET", "org/export", ""},
			{"GET", "devices/list", ""},
			{"GET", "audit?limit=1000", ""},
			{"POST", "devices/revoke_batch", `{"scope":"all_active"}`},
			{"POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`},
			{"POST", "devices/register", device(fmt.Sprint("d", r.IntN(2*noisyDevices)))},
		}[[]int{0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 5}[r.IntN(12)]]
		got := c.call(places[r.IntN(len(places))], call.method, call.path, call.body, "X-Org-Key", key)
		switch {
		case got.code == 200, got.code == 429 && call.method == "GET", got.Error == "device_limit_reached", got.Error == "device_revoked":
		default:
			s.t.Errorf("%s %s: %+v", call.method, call.path, got)
		}
	}
}

// goAbout does what an org does. All of it is answered.
func (s *site) goAbout(r *rand.Rand, name string, i int, at, key string, over func() bool) {
	c := s.caller(name)
	defer c.close()
	mine := device(fmt.Sprint("d", i%3))
	for !over() {
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		if got := s.quietly(c, at, "POST", "devices/validate", mine, key); got.Code == "SYSTEM_UNAVAILABLE" {
			s.t.Errorf("validate at %s: %+v", at, got)
		}
		s.quietly(c, at, "GET", "devices/list", "", key)
		s.quietly(c, at, "GET", "org/export", "", key)
		s.quietly(c, at, "POST", []string{"devices/revoke", "devices/unrevoke"}[r.IntN(2)], mine, key)
	}
}

func (s *site) quietly(c *caller, at, method, path, body, key string) response {
	got := c.call(at, method, path, body, "X-Org-Key", key)
	if got.code != 200 {
		s.t.Errorf("%s %s at %s: %+v", method, path, at, got)
	}
	return got
}
