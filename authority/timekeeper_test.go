package authority

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/raftstore"
	"machineid/shared/clock"
)

// A node of a cluster as another one sees it: how far its clock is ahead, and whether that is known.
func clockOf(id string, ahead time.Duration, known ...time.Duration) raftstore.Member {
	m := raftstore.Member{Life: raftstore.Life{ID: id}, Voter: true, Status: raftstore.NodeStatus{TimeMs: clocksNow + ahead.Milliseconds()}}
	if len(known) > 0 {
		off := known[0].Milliseconds()
		m.Status.ClockOffMs = &off
	}
	return m
}

const clocksNow = int64(1_000_000_000_000)

func away(id string) raftstore.Member {
	return raftstore.Member{Life: raftstore.Life{ID: id}, Voter: true, Err: errors.New("dead")}
}

func listening(m raftstore.Member) raftstore.Member {
	m.Voter = false
	return m
}

// TestCompare is what a node makes of the clocks of the others: whose count, what they say of its own, and whether that is known.
func TestCompare(t *testing.T) {
	const year = 365 * 24 * time.Hour
	all := func(m ...raftstore.Member) []raftstore.Member { return m }
	known := func(d time.Duration) *time.Duration { return &d }
	for name, c := range map[string]struct {
		others []raftstore.Member
		before *time.Duration
		off    time.Duration
		unsure bool
		none   bool
	}{
		"alone":                           {},
		"alone, and its clock was set":    {before: known(year)},
		"of two that agree":               {others: all(clockOf("a2", 9*time.Second)), off: 0},
		"of two that agree, ahead":        {others: all(clockOf("a2", -9*time.Second)), off: 9 * time.Second},
		"of two the one that is ahead":    {others: all(clockOf("a2", -time.Hour)), off: time.Hour, unsure: true},
		"of two the one that is behind":   {others: all(clockOf("a2", time.Hour)), unsure: true},
		"nor can a dead one tell":         {others: all(clockOf("a2", -time.Hour), away("a3")), off: time.Hour, unsure: true},
		"nobody answers":                  {others: all(away("a2"), away("a3")), unsure: true, none: true},
		"all agree":                       {others: all(clockOf("a2", 0), clockOf("a3", 0))},
		"one other is wrong":              {others: all(clockOf("a2", time.Hour), clockOf("a3", time.Second)), off: -time.Second},
		"this one is ahead":               {others: all(clockOf("a2", -time.Minute), clockOf("a3", -time.Minute-time.Second)), off: time.Minute},
		"this one is behind":              {others: all(clockOf("a2", time.Minute), clockOf("a3", time.Hour)), off: -time.Minute},
		"a listener knows the time":       {others: all(listening(clockOf("a2", 0)), clockOf("a3", time.Hour))},
		"four, the lower of the middle":   {others: all(clockOf("a2", 20*time.Second), clockOf("a3", 30*time.Second), clockOf("a4", 40*time.Second)), off: -20 * time.Second},
		"four, two are ahead":             {others: all(clockOf("a2", 0), clockOf("a3", year), clockOf("a4", year))},
		"four, this and another are":      {others: all(clockOf("a2", 0), clockOf("a3", -year), clockOf("a4", -year)), off: year},
		"of five, two may be so off":      {others: all(clockOf("a2", time.Hour), clockOf("a3", time.Hour), clockOf("a4", 0), clockOf("a5", 0))},
		"three of five that know nothing": {others: all(clockOf("a2", 0), clockOf("a3", year), away("a4"), away("a5"))},

		// What was known is kept while others are away.
		"right, and one other is wrong":        {others: all(clockOf("a2", year, year), away("a3")), before: known(0)},
		"right, and one other knows nothing":   {others: all(clockOf("a2", -year), away("a3")), before: known(time.Second), off: time.Second},
		"right, and nobody answers":            {others: all(away("a2"), away("a3")), before: known(time.Second), off: time.Second},
		"wrong, and one other is right":        {others: all(clockOf("a2", -year, 0), away("a3")), before: known(year), off: year},
		"wrong, and one as wrong, which knows": {others: all(clockOf("a2", 0, year), away("a3")), before: known(year), off: year},
		"wrong, and one as wrong, which not":   {others: all(clockOf("a2", 0), away("a3")), before: known(year), off: year},
		"wrong, and two as wrong, which not":   {others: all(clockOf("a2", 0), clockOf("a3", 0), away("a4"), away("a5")), before: known(year), off: year},
		"set right since":                      {others: all(clockOf("a2", 5*time.Second, 0), away("a3")), before: known(year)},
		"two of five are wrong, this one not":  {others: all(clockOf("a2", year, year), clockOf("a3", year, year), away("a4"), away("a5")), before: known(0)},
		"two of five are wrong, this one too":  {others: all(clockOf("a2", 0, year), clockOf("a3", -year, 0), away("a4"), away("a5")), before: known(year), off: year},
		"all are set, and all answer":          {others: all(clockOf("a2", 0, year), clockOf("a3", 0, year)), before: known(year)},
		"both are set, and both answer":        {others: all(clockOf("a2", 0, year)), before: known(year)},
		"two, and the other is wrong":          {others: all(clockOf("a2", -year, -year)), before: known(0)},

		// A node that begins learns it of who knows.
		"it begins beside one that is right":       {others: all(clockOf("a2", year, 0), away("a3")), off: -year},
		"it begins beside one that is wrong":       {others: all(clockOf("a2", -year, -year), away("a3"))},
		"it begins as wrong as one":                {others: all(clockOf("a2", 0, year), away("a3")), off: year},
		"it begins among wrong ones":               {others: all(clockOf("a2", 0, year), clockOf("a3", 0), away("a4"), away("a5")), off: year},
		"of two it begins, and the other is wrong": {others: all(clockOf("a2", -year, -year))},

		// Nobody else could lead.
		"the only voter, and a listener is away":     {others: all(listening(away("a2")))},
		"the only voter, and a listener is behind":   {others: all(listening(clockOf("a2", -year)))},
		"the only voter, and it was known":           {others: all(listening(away("a2"))), before: known(year), off: year},
		"the only voter, and two listeners know it":  {others: all(listening(clockOf("a2", -year)), listening(clockOf("a3", -year))), off: year},
		"a listener that begins, and the leader not": {others: all(listening(clockOf("a2", -year))), before: known(0)},
	} {
		own := raftstore.Member{Life: raftstore.Life{ID: "a1"}, Voter: true, Leader: true, Status: raftstore.NodeStatus{TimeMs: clocksNow}}
		got := compare(append([]raftstore.Member{own}, c.others...), "a1", clocksNow, c.before)
		if got.off != c.off || got.sure == c.unsure || got.none != c.none {
			t.Errorf("%s: off %v, sure %v, none %v; want %v, %v, %v", name, got.off, got.sure, got.none, c.off, !c.unsure, c.none)
		}
	}
	// One that is no member yet is compared with those that it knows of.
	if got := compare(all(clockOf("a2", year)), "a1", clocksNow, nil); got.off != 0 || got.sure {
		t.Errorf("a stranger: %+v", got)
	}
}

// readings are a clock that the test sets.
type readings struct{ atomic.Int64 }

func (r *readings) Now() clock.Time { return clock.Time(r.Load()) }

// TestClockFits: what was found at the last comparison, moved by how much the clock was set since; and what was known is kept so.
func TestClockFits(t *testing.T) {
	var wall, counted readings
	n := &Node{clocks: newClocks(), cfg: Config{Clock: &counted, Wall: func() time.Time { return time.Unix(0, wall.Load()) }}}
	pass := func(d time.Duration) {
		wall.Add(int64(d))
		counted.Add(int64(d))
	}
	look := func(what string, fits bool, fault string) {
		t.Helper()
		if got := n.clockFault(); n.clockFits() != fits || !strings.Contains(got, fault) || (got == "") != fits {
			t.Errorf("%s: fits %v, %q; want %v, %q", what, n.clockFits(), got, fits, fault)
		}
	}
	compared := func(c comparison) {
		c.wall, c.at = wall.Load()/int64(time.Millisecond), counted.Now()
		n.clocks.last.Store(&c)
	}
	look("before it was compared", false, "not compared with those of the others yet")
	if _, known := n.clockOff(); known {
		t.Error("it is known before it was compared")
	}
	compared(comparison{none: true})
	look("nobody answered", false, "not compared with those of the others yet")
	compared(comparison{off: 8 * time.Second, sure: true})
	look("8 s ahead", true, "")
	pass(time.Hour)
	look("an hour later, or after a suspension of an hour", true, "")
	wall.Add(int64(3 * time.Second))
	look("set 3 s ahead", false, "was set")
	wall.Add(-int64(12 * time.Second))
	look("set 12 s back", true, "")
	wall.Add(int64(time.Hour))
	look("set an hour ahead", false, "was set")
	select {
	case <-n.clocks.again:
	default:
		t.Error("nothing asks for a comparison")
	}
	before := n.clocks.last.Load().known(wall.Load()/int64(time.Millisecond), counted.Now())
	if want := 8*time.Second - 9*time.Second + time.Hour; before == nil || *before != want {
		t.Errorf("by what was known it is %v off, want %v", before, want)
	}
	compared(comparison{off: time.Hour, sure: true})
	look("an hour ahead", false, "its clock is 1h0m0s off those of the others")
	if off, known := n.clockOff(); off != time.Hour || !known {
		t.Errorf("it tells %v, %v", off, known)
	}
	wall.Add(-int64(time.Hour))
	look("set right", false, "1h0m0s off") // until it is compared
	compared(comparison{off: time.Hour})
	look("ahead of another", false, "nobody can tell")
	if _, known := n.clockOff(); known || n.clocks.last.Load().known(0, 0) != nil {
		t.Error("it is known though nobody can tell")
	}
	compared(comparison{})
	look("behind another", true, "")
	n.stopping.Store(true)
	if got := n.unfit(); got != "it is being stopped" {
		t.Errorf("while it stops: %q", got)
	}
}

// What the metric tells has the sign of the log's line: ahead is positive.
func TestClockOffsetIsExported(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c := newClocks()
	c.export(reg)
	tell := func(want float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); got != want {
			t.Errorf("%s is %v, want %v", families[0].GetName(), got, want)
		}
	}
	tell(0)
	c.last.Store(&comparison{off: 2500 * time.Millisecond})
	tell(2.5)
	c.last.Store(&comparison{off: -time.Minute})
	tell(-60)
}
