package edge

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"machineid/shared/link"
)

// TestAHostileAuthority: a frame beyond a bound is not put in force and ends its session, not the edge: what it remembers it answers under its lease, and the next
// session goes on (I14).
func TestAHostileAuthority(t *testing.T) {
	names := func(n int) (list []string) {
		for i := range n {
			list = append(list, strconv.Itoa(i))
		}
		return list
	}
	many := make([]*link.Invalidate, link.MaxInvalidates+1)
	for i := range many {
		many[i] = &link.Invalidate{Index: 1 << 40}
	}
	answers := make([]*link.Answer, link.MaxAnswers+1)
	for i := range answers {
		answers[i] = &link.Answer{}
	}
	for what, f := range map[string]*link.ToEdge{
		"a Goodbye that does not end": {Goodbye: &link.Goodbye{Reason: strings.Repeat("x", 1<<20)}},
		"a leader of a long name":     {Goodbye: &link.Goodbye{LeaderAddress: strings.Repeat("x", 1<<10)}},
		"invalidations of nothing":    {Invalidates: many},
		"answers to nothing":          {Answers: answers},
		"a Welcome with many names":   {Welcome: &link.Welcome{Replaces: names(1000)}},
		"a frame larger than any":     {Invalidates: []*link.Invalidate{{Index: 1 << 40, Hashes: make([]uint64, link.MaxToEdge/8)}}},
	} {
		t.Run(what, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				w.start()
				w.want("d", "ALLOW", false)
				current := w.e.memory.Load().current
				before := w.a.heard()
				w.a.say(f)
				if got := w.e.memory.Load().current; got != current {
					t.Errorf("it is put in force: the memory is current up to %d, before %d", got, current)
				}
				w.want("d", "ALLOW", true) // the lease runs on
				time.Sleep(maxPause)
				synctest.Wait()
				after := w.a.heard()
				if len(after.hellos) != len(before.hellos)+1 {
					t.Errorf("%d sessions, before %d", len(after.hellos), len(before.hellos))
				}
				w.want("d", "ALLOW", false)
			})
		})
	}
}

// TestClustersThatWereReplacedAreBounded, whatever an authority says.
func TestClustersThatWereReplacedAreBounded(t *testing.T) {
	a := &allegiance{name: "c"}
	for i := range 100 {
		w := &link.Welcome{ClusterId: "c"}
		for k := range 64 {
			w.Replaces = append(w.Replaces, strconv.Itoa(64*i+k))
		}
		if f := a.refuses(w, "a1"); f != nil {
			t.Fatal(f)
		}
		a.take(w)
	}
	if len(a.left) != leftMax {
		t.Errorf("%d clusters are remembered", len(a.left))
	}
}
