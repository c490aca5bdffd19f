//go:build unix

package cli

import (
	"math/rand/v2"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// The wall clock of the node that leads becomes the authority's time, for good: these clocks are wrong by a year (authority/DESIGN.md,
// Clocks).
const year = 365 * 24 * time.Hour

// clockSite is a site without edges.
type clockSite struct {
	*site
	rng *rand.Rand
	c   *caller
}

// inClockSite runs do in a site where each node has compared its clock with all others.
func inClockSite(t *testing.T, nodes int, do func(s *clockSite)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 1))
		s := &clockSite{site: newSite(t, rng, nodes, 0), rng: rng}
		defer func() {
			s.c.close()
			for _, n := range s.nodes {
				if p := n.proc.Load(); p != nil {
					s.end(n.id, p)
				}
			}
			s.old.Wait()
			time.Sleep(2 * time.Minute) // for what fasthttp cleans up
		}()
		s.c = s.caller("founder")
		s.passes(3 * time.Second)
		s.changes("at the beginning")
		do(s)
	})
}

// changes waits until a change is made, and looks at its stamp.
func (s *clockSite) changes(when string) {
	s.t.Helper()
	s.until("a change is made "+when, s.changed)
}

// changed tries to make a change. No change may ever be stamped with a time to come.
func (s *clockSite) changed() bool {
	s.t.Helper()
	for _, n := range s.nodes {
		if n.proc.Load() == nil {
			continue
		}
		made := s.c.call(n.id, "POST", "org/create", "{}", "MachineID-Timeout-Ms", "1000")
		if made.code != 200 {
			continue
		}
		for {
			seen := s.c.call(n.id, "GET", "operator/orgs/"+made.OrgID, "", "Authorization", "Bearer "+siteToken)
			if seen.code != 200 {
				continue
			}
			at, err := time.Parse(time.RFC3339, seen.CreatedAt)
			if err != nil {
				s.t.Fatal(err)
			}
			if ahead := time.Until(at); ahead > time.Minute {
				s.t.Fatalf("at %v the authority's time is %v ahead", s.at(), ahead)
			}
			return true
		}
	}
	return false
}

// passes lets time pass, and tries to make changes meanwhile: a wrong clock must stamp none.
func (s *clockSite) passes(d time.Duration) (made int) {
	s.t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(250 * time.Millisecond) {
		if s.changed() {
			made++
		}
	}
	return made
}

func (s *clockSite) leads() *siteNode {
	s.t.Helper()
	var l *siteNode
	s.until("a node leads", func() bool { l = s.leader(); return l != nil })
	return l
}

// others are all nodes but some.
func (s *clockSite) others(but ...*siteNode) (list []*siteNode) {
next:
	for _, n := range s.nodes {
		for _, b := range but {
			if n == b {
				continue next
			}
		}
		list = append(list, n)
	}
	return list
}

// TestAClockKnownToBeWrongStampsNothing, however many nodes are away: a majority goes on with those that are right, and where the wrong one is
// needed for it, it follows.
func TestAClockKnownToBeWrongStampsNothing(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{year, -year} {
		inClockSite(t, 3, func(s *clockSite) {
			bad := s.leads()
			bad.wall.Store(int64(wrong))
			s.changes("when the leader's clock is off")
			if s.leads() == bad {
				t.Error("it still leads")
			}
			for _, away := range s.others(bad) {
				s.crash(away, s.rng) // the leader or not: what is left elects anew
				if made := s.passes(20 * time.Second); made < 20 {
					t.Errorf("%v: with %s away %d changes are made in 20 s", wrong, away.id, made)
				}
				s.startNode(away, false)
				s.passes(3 * time.Second)
			}
			// Set right, it may lead again, also while another is away.
			away := s.others(bad)[0]
			s.crash(away, s.rng)
			s.changes("by the other two")
			bad.wall.Store(0)
			s.until("it is ready", func() bool { return len(bad.proc.Load().ready()) == 0 })
			s.changes("by the other two, both right")
			s.until("it leads", func() bool { // another may win the election that a hand-over begins
				if s.leader() != bad {
					s.c.call(bad.id, "POST", "operator/cluster/transfer", `{"to":"`+bad.id+`"}`, "Authorization", "Bearer "+siteToken)
				}
				return s.leader() == bad
			})
			s.changes("by the one that was set right")
		})
	}
}

// TestAClockThatJumpsWhileANodeIsAway is seen as off: what was known of it before counts, moved by the jump.
func TestAClockThatJumpsWhileANodeIsAway(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{year, -year} {
		inClockSite(t, 3, func(s *clockSite) {
			bad := s.leads()
			s.crash(s.others(bad)[0], s.rng)
			s.changes("with one away")
			s.leads().wall.Store(int64(wrong))
			if made := s.passes(20 * time.Second); made < 20 {
				t.Errorf("%v: %d changes are made in 20 s", wrong, made)
			}
		})
	}
}

// TestOfTwoClocksThatDisagree nobody can tell which is right if neither was compared with more: the one that is ahead stamps nothing.
func TestOfTwoClocksThatDisagree(t *testing.T) {
	t.Parallel()
	inClockSite(t, 3, func(s *clockSite) {
		for _, n := range s.nodes {
			s.crash(n, s.rng)
		}
		s.nodes[0].wall.Store(int64(year))
		s.startNode(s.nodes[0], false)
		s.startNode(s.nodes[1], false)
		if made := s.passes(30 * time.Second); made < 30 {
			t.Errorf("%d changes are made in 30 s", made)
		}
		if l := s.leads(); l != s.nodes[1] {
			t.Errorf("%s leads, whose clock is ahead", l.id)
		}
	})
}

// TestTwoOfFiveClocksAreWrong by the same, and of the others two are away: of the three that are left the wrong ones are more.
func TestTwoOfFiveClocksAreWrong(t *testing.T) {
	t.Parallel()
	inClockSite(t, 5, func(s *clockSite) {
		for _, n := range s.nodes[:2] {
			n.wall.Store(int64(year))
		}
		s.changes("when two clocks are wrong")
		s.passes(3 * time.Second)
		for _, n := range s.nodes[3:] {
			s.crash(n, s.rng)
		}
		if made := s.passes(20 * time.Second); made < 20 {
			t.Errorf("%d changes are made in 20 s", made)
		}
		s.crash(s.nodes[0], s.rng) // it forgets what it knew, and learns it of the others
		s.startNode(s.nodes[0], false)
		if made := s.passes(20 * time.Second); made < 20 {
			t.Errorf("%d changes are made in 20 s after a restart", made)
		}
	})
}

// TestAWrongClockOfTwo: with two nodes the one that jumps is the one that is off, and either can be the one.
func TestAWrongClockOfTwo(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{year, -year} {
		inClockSite(t, 2, func(s *clockSite) {
			bad := s.leads()
			bad.wall.Store(int64(wrong))
			if made := s.passes(10 * time.Second); made < 10 {
				t.Errorf("%v: %d changes are made in 10 s", wrong, made)
			}
			if l := s.leads(); l == bad {
				t.Errorf("%v: it still leads", wrong)
			}
			// All clocks of a site are set: together they are right.
			for _, n := range s.nodes {
				n.wall.Store(int64(-time.Hour))
			}
			s.changes("when both clocks are set")
		})
	}
}

// TestHandOversDoNotChaseEachOther: the disk of one is nearly full, the clock of another is off, and the third is well: that one leads. Without it
// the one with the full disk does, which can still take rights away.
func TestHandOversDoNotChaseEachOther(t *testing.T) {
	t.Parallel()
	inClockSite(t, 3, func(s *clockSite) {
		full := s.leads()
		skewed, well := s.others(full)[0], s.others(full)[1]
		key := s.c.call(full.id, "POST", "org/create", "{}").Key
		full.wall.Store(int64(300 * time.Millisecond)) // within what is usual; it makes the skewed one not the closest
		full.left.Store(diskSize / 2)
		s.passes(2 * time.Second)
		skewed.wall.Store(int64(time.Hour))
		full.left.Store(1 << 20)
		leaders := func(d time.Duration) (changes int, last *siteNode) {
			for began := time.Now(); time.Since(began) < d; time.Sleep(100 * time.Millisecond) {
				for _, n := range s.nodes {
					if p := n.proc.Load(); p != nil && n != last && s.gauge(n, "raftstore_leading") > 0 {
						last = n
						changes++
					}
				}
			}
			return changes, last
		}
		if changes, last := leaders(25 * time.Second); changes > 3 || last != well {
			t.Errorf("%d changes of the leader in 25 s, the last is %v, and %s is well", changes, last, well.id)
		}
		if r := s.c.call(well.id, "POST", "operator/cluster/transfer", `{"to":"`+skewed.id+`"}`, "Authorization", "Bearer "+siteToken); r.code != 409 {
			t.Errorf("the leadership goes to the one whose clock is off: %+v", r)
		}
		s.crash(well, s.rng)
		if changes, last := leaders(25 * time.Second); changes > 4 || last != full {
			t.Errorf("%d changes of the leader in 25 s, the last is %v, and %s can at least take rights away", changes, last, full.id)
		}
		if r := s.c.call(full.id, "POST", "org/execution", `{"enabled":false}`, "X-Org-Key", key); r.code != 200 {
			t.Errorf("the off switch: %+v", r)
		}
		s.startNode(well, false)
		s.changes("by the one that is well again")
	})
}
