package search

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// jugs is the old riddle, with one rule: a jug takes no more than it holds.
type jugs struct{ small, large int8 }

type pouring struct {
	off  Rule
	seen uint64
	out  []Successor[jugs]
}

const holds Rule = 0

func (p *pouring) Seen() uint64 { return p.seen }

func (p *pouring) Step(s *jugs) ([]Successor[jugs], string) {
	p.out = p.out[:0]
	if s.small > 3 || s.large > 5 {
		return nil, "a jug runs over"
	}
	if s.large == 4 {
		p.seen |= 1
	}
	move := func(what string, small, large int8) {
		p.out = append(p.out, Successor[jugs]{By: Action{What: what, A: small, B: large}, State: jugs{small, large}})
	}
	move("fill the small", 3, s.large)
	move("fill the large", s.small, 5)
	move("empty the small", 0, s.large)
	move("empty the large", s.small, 0)
	over := min(s.small, 5-s.large)
	if p.off == holds {
		over = s.small
	}
	move("pour into the large", s.small-over, s.large+over)
	over = min(s.large, 3-s.small)
	move("pour into the small", s.small+over, s.large-over)
	return p.out, ""
}

// riddle is a model of one instance.
func riddle() *Model {
	return &Model{
		Rules:     []RuleText{{"J1", "a jug takes more than it holds"}, {"J2", "nothing"}},
		Witnesses: []string{"four in the large jug", "a miracle"},
		Head:      "jugs",
		Instances: func(bool) []*Instance {
			return []*Instance{{
				Name: "jugs", About: "two jugs", Row: "2", Happens: []string{"pouring"},
				Wants: []Witness{0}, Mutants: []Rule{holds}, Harmless: []Rule{1},
				Space: func(off Rule) Searchable { return space(off) },
			}}
		},
	}
}

func space(off Rule) *Space[jugs] {
	return &Space[jugs]{Starts: make([]jugs, 1), System: func() System[jugs] { return &pouring{off: off} }}
}

func TestExploreVisitsEveryStateOnce(t *testing.T) {
	for _, workers := range []int{1, 3} {
		r := space(2).Explore(Run{Ctx: t.Context(), Workers: workers})
		if r.States != 16 || r.Wrong != "" || r.Cut || r.Seen != 1 {
			t.Errorf("with %d workers: %+v", workers, r)
		}
	}
}

// TestStatesThatAreAlike count as one: here those with as much in all.
func TestStatesThatAreAlike(t *testing.T) {
	sp := space(2)
	sp.Alike = []func(*jugs) jugs{func(s *jugs) jugs { return jugs{0, s.small + s.large} }, func(s *jugs) jugs { return jugs{s.small + s.large, 0} }}
	if r := sp.Explore(Run{Ctx: t.Context(), Workers: 1}); r.States > 9 || r.States < 3 {
		t.Errorf("%d states: there are 0 to 8 litres", r.States)
	}
}

func TestTraceIsTheShortestWay(t *testing.T) {
	steps := space(holds).Trace(Run{Ctx: t.Context()})
	want := []string{"fill the small (3, 0)", "fill the large (3, 5)", "pour into the large (0, 8)", "a jug runs over"}
	if strings.Join(steps, "; ") != strings.Join(want, "; ") {
		t.Errorf("%q, want %q", steps, want)
	}
	if steps := space(2).Trace(Run{Ctx: t.Context()}); steps != nil {
		t.Errorf("nothing is wrong, and %q leads to it", steps)
	}
}

// TestASearchCanFail: each of the reasons for which a run must not count as a good one.
func TestASearchCanFail(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(in *Instance)
		o      Options
		want   string
		good   bool
	}{
		"as it is":               {func(*Instance) {}, Options{}, "violations: 0; mutants caught: 1 of 1; harmless, as they should be: 1", true},
		"by its name":            {func(*Instance) {}, Options{Only: "jugs"}, "1 instances", true},
		"a violation":            {func(in *Instance) { in.Space = func(Rule) Searchable { return space(holds) } }, Options{}, "FAULT: a jug runs over", false},
		"a search cut short":     {func(*Instance) {}, Options{Limit: 3}, "FAULT: not searched to the end", false},
		"what does never happen": {func(in *Instance) { in.Wants = []Witness{1} }, Options{}, "FAULT: never seen: a miracle", false},
		"a mutant that is none":  {func(in *Instance) { in.Mutants = []Rule{1} }, Options{}, "NOT CAUGHT", false},
		"a harm that is one":     {func(in *Instance) { in.Harmless = []Rule{holds} }, Options{}, "NOT HARMLESS", false},
		"an unknown name":        {func(*Instance) {}, Options{Only: "no such"}, "0 instances", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := riddle()
			in := m.Instances(true)[0]
			tt.change(in)
			m.Instances = func(bool) []*Instance { return []*Instance{in} }
			tt.o.Workers = 2
			var out bytes.Buffer
			if good := m.Search(t.Context(), &out, tt.o); good != tt.good || !strings.Contains(out.String(), tt.want) {
				t.Errorf("good: %v, want %v; want %q in\n%s", good, tt.good, tt.want, out.String())
			}
		})
	}
	t.Run("ended from outside", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if riddle().Search(ctx, &bytes.Buffer{}, Options{Workers: 1}) {
			t.Error("a run that was ended is good")
		}
	})
}

func TestTables(t *testing.T) {
	m := riddle()
	if want := "| instance | what | jugs | what may happen |\n|---|---|---|---|\n| `jugs` | two jugs | 2 | pouring |\n"; m.Overview() != want {
		t.Error(m.Overview())
	}
	want := "| rule | mutant | caught in |\n|---|---|---|\n| J1 | a jug takes more than it holds | `jugs` |\n| J2 | nothing | nothing, rightly, in `jugs` |\n"
	if m.Coverage() != want {
		t.Error(m.Coverage())
	}
	if gaps := strings.Join(m.Gaps(), "; "); gaps != "witness 1 (a miracle) has no text, or is wanted nowhere" {
		t.Error(gaps)
	}
}

// odd is no multiple of a word long.
type odd struct {
	a [9]int8
	b [4]struct{ c, d uint8 }
}

// TestPacking: a state comes back as it was.
func TestPacking(t *testing.T) {
	p := &packing[odd]{odd{a: [9]int8{1, 2, 3}}}
	var packed []byte
	var want []odd
	for i := range 500 {
		s := p.first
		s.a[i%9], s.b[i%4].d = int8(i%7), uint8(i%251)
		if i%3 == 0 {
			s.a[8] = -1
		}
		want, packed = append(want, s), p.append(packed, &s)
	}
	for i := range want {
		var got odd
		if packed = p.next(&got, packed); got != want[i] {
			t.Fatalf("state %d is\n%+v, was\n%+v", i, got, want[i])
		}
	}
	if len(packed) != 0 {
		t.Errorf("%d bytes are left", len(packed))
	}
}

// TestAStateIsBytesOnly: with anything else equal states might look different.
func TestAStateIsBytesOnly(t *testing.T) {
	for _, search := range []func(){
		func() { (&Space[struct{ a int16 }]{}).Explore(Run{}) },
		func() { (&Space[string]{}).Explore(Run{}) },
		func() { (&Space[[513]int8]{}).Explore(Run{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("it was searched")
				}
			}()
			search()
		}()
	}
}
