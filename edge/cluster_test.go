package edge

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"machineid/shared/link"
)

// is has an authority say of which cluster it is. Its incarnation orders it among clusters of one descent.
func (a *authority) is(name string, incarnation byte, replaces ...string) {
	a.set(func() {
		a.welcome = func(w *link.Welcome) *link.ToEdge {
			w.ClusterId, w.Incarnation, w.Replaces = name, bytes.Repeat([]byte{incarnation}, 16), replaces
			return &link.ToEdge{Welcome: w}
		}
	})
}

// twoAuthorities is an edge with two addresses, its own cluster's and another one's, which knows nobody.
func twoAuthorities(w *world) {
	w.others = map[string]*authority{"b1": newAuthority()}
	w.addresses = []string{"a1", "b1"}
	w.a.is("own", 5)
	w.others["b1"].is("other", 9)
}

// turnAway has an authority take no sessions.
func (a *authority) turnAway() {
	a.set(func() {
		a.welcome = func(*link.Welcome) *link.ToEdge { return &link.ToEdge{Goodbye: &link.Goodbye{Reason: "down"}} }
	})
}

// reasons are those of the edge that begin with a word.
func (w *world) reasons(word string) (list []string) {
	for _, why := range w.e.Ready() {
		if strings.HasPrefix(why, word+":") {
			list = append(list, why)
		}
	}
	return list
}

// TestAnEdgeKeepsToItsCluster (I12): the first that it met, or the one it was told of. A foreign one is named and never believed, and the edge
// comes back to its own by itself.
func TestAnEdgeKeepsToItsCluster(t *testing.T) {
	for name, told := range map[string]string{"the first it met": "", "the one it was told of": "own"} {
		t.Run(name, func(t *testing.T) {
			inWorldOf(t, func(w *world) {
				twoAuthorities(w)
				if w.cluster = told; told != "" {
					w.addresses = []string{"b1", "a1"} // it would meet the other one first
				}
			}, func(w *world) {
				t, b := w.t, w.others["b1"]
				w.start()
				if w.want("d", "ALLOW", false); w.a.heard().hello == nil {
					t.Fatal("its session is with the other one")
				}
				lines := strings.Count(w.log.String(), "another cluster")
				if got := w.reasons("cluster"); got != nil || lines != map[bool]int{true: 1}[told != ""] {
					t.Errorf("with a session: %q, and %d lines", got, lines)
				}
				w.a.turnAway()
				w.a.breakOff()
				time.Sleep(20 * testLease)
				w.want("d", "SYSTEM_UNAVAILABLE", false)
				got := w.reasons("cluster")
				if len(got) != 1 || !strings.Contains(got[0], "b1") || !strings.Contains(got[0], `"other"`) || !strings.Contains(got[0], `"own"`) ||
					strings.Contains(got[0], "--cluster other") != (told != "") {
					t.Errorf("reasons: %q", got)
				}
				var m dto.Metric
				if err := w.e.metrics.foreign.Write(&m); err != nil {
					t.Fatal(err)
				}
				if n := len(b.heard().hellos); m.GetCounter().GetValue() != float64(n) || n < 10 || n > 1000 {
					t.Errorf("%v were counted, %d Hellos", m.GetCounter(), n)
				}
				if f := b.heard().fetched; len(f) != 0 {
					t.Errorf("it was asked %v", f)
				}
				if h := b.heard().hello; h.GetTerm() != 1 || !bytes.Equal(h.GetIncarnation(), bytes.Repeat([]byte{5}, 16)) {
					t.Errorf("something of it was adopted: %d of %x", h.GetTerm(), h.GetIncarnation())
				}
				w.a.is("own", 5)
				time.Sleep(2 * time.Second)
				w.want("d", "ALLOW", false)
				if why := w.e.Ready(); len(why) != 0 {
					t.Errorf("back with its own: %q", why)
				}
				w.end()
				if n := strings.Count(w.log.String(), "another cluster"); n != 1+lines {
					t.Errorf("%d lines of the log: %s", n, w.log.String())
				}
			})
		})
	}
}

// TestANodeThatIsForeignNoMore is not named any longer, though there is no session yet.
func TestANodeThatIsForeignNoMore(t *testing.T) {
	inWorldOf(t, twoAuthorities, func(w *world) {
		w.start()
		w.a.turnAway()
		w.a.breakOff()
		time.Sleep(2 * testLease)
		if len(w.reasons("cluster")) != 1 {
			w.t.Errorf("reasons: %q", w.e.Ready())
		}
		w.others["b1"].turnAway()
		time.Sleep(2 * time.Second)
		if len(w.reasons("cluster")) != 0 || len(w.reasons("link")) != 1 {
			w.t.Errorf("reasons: %q", w.e.Ready())
		}
	})
}

// TestASuccessorIsTaken: a cluster that was restored or recovered from the own one, or from one that was before it. The replaced one is not
// believed any more, whatever it says of itself.
func TestASuccessorIsTaken(t *testing.T) {
	type met struct {
		name        string
		incarnation byte
		replaces    []string
		taken       bool
	}
	for name, tt := range map[string]struct {
		told string
		then []met
	}{
		"restored, then the old one":    {"", []met{{"new", 6, []string{"own"}, true}, {"own", 7, nil, false}}},
		"of one it was told of":         {"own", []met{{"new", 6, []string{"older", "own"}, true}, {"own", 7, []string{"older"}, false}}},
		"twice in a row":                {"", []met{{"new", 6, []string{"own"}, true}, {"newer", 7, []string{"own", "new"}, true}, {"new", 8, []string{"own"}, false}}},
		"two from one backup":           {"", []met{{"new", 6, []string{"own"}, true}, {"again", 7, []string{"own"}, true}, {"new", 6, []string{"own"}, false}}},
		"two from one, the later first": {"", []met{{"again", 7, []string{"own"}, true}, {"new", 6, []string{"own"}, false}}},
		"of a cluster it has not been":  {"", []met{{"new", 6, []string{"else"}, false}}},
		"missed one between":            {"", []met{{"newer", 7, []string{"own", "new"}, true}, {"new", 6, []string{"own"}, false}}},
		"of an older time":              {"", []met{{"new", 4, []string{"own"}, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorldOf(t, func(w *world) {
				twoAuthorities(w)
				w.cluster = tt.told
			}, func(w *world) {
				t, b := w.t, w.others["b1"]
				b.set(func() { b.keys, b.orgs, b.devices = w.a.keys, w.a.orgs, w.a.devices })
				w.start()
				now, next := w.a, b
				for _, m := range tt.then {
					w.want("d", "ALLOW", false)
					next.is(m.name, m.incarnation, m.replaces...)
					now.turnAway()
					now.breakOff()
					time.Sleep(2 * testLease)
					if got := len(w.e.Ready()) == 0; got != m.taken {
						t.Fatalf("%s taken: %v, %q", m.name, got, w.e.Ready())
					}
					if !m.taken {
						if w.want("d", "SYSTEM_UNAVAILABLE", false); len(w.reasons("cluster")) == 0 && m.incarnation > 6 {
							t.Errorf("reasons: %q", w.e.Ready())
						}
						return
					}
					now, next = next, now
				}
			})
		})
	}
}

// TestAllegianceChangesNothing by being asked.
func TestAllegianceChangesNothing(t *testing.T) {
	a := allegiance{name: "own", left: []string{"old"}}
	for _, w := range []*link.Welcome{{ClusterId: "other"}, {ClusterId: "new", Replaces: []string{"own"}}, {ClusterId: "old"}, {}} {
		_ = a.refuses(w, "b1")
	}
	if a.name != "own" || !slices.Equal(a.left, []string{"old"}) {
		t.Errorf("it is %+v", a)
	}
	if f := a.refuses(&link.Welcome{ClusterId: "old"}, "b1"); f == nil || !strings.Contains(f.Error(), "stop that node") {
		t.Errorf("the replaced one: %v", f)
	}
	if a.refuses(&link.Welcome{}, "b1") == nil {
		t.Error("a node without a name is taken")
	}
}
