package raftstore

import (
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// Views that are taken while nothing is applied are one snapshot. What is applied is in the next View and in none before, and no
// snapshot is kept when its last View, and the time to share it, is over.
func TestViewsShareASnapshot(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, _ := start(t)
		at := propose(t, s, "a=1").Index
		first, second := must[*View](t)(s.View()), must[*View](t)(s.View())
		if first.snap != second.snap {
			t.Error("two Views of one state have each a snapshot of its own")
		}
		next := propose(t, s, "a=2").Index
		third := must[*View](t)(s.View())
		made := 0
		for _, v := range []*View{first, second, third, first} {
			_ = v.Shared(func() any { made++; return made })
		}
		if got := second.Shared(nil); made != 2 || got != 1 {
			t.Errorf("%d were made for two snapshots, and the first has %v", made, got)
		}
		for _, c := range []struct {
			v    *View
			want string
			at   uint64
		}{{first, "1", at}, {third, "2", next}} {
			got, _, err := c.v.Get([]byte{2, 'a'})
			if err != nil || string(got) != c.want || c.v.Position().Index != c.at {
				t.Errorf("at %d: %q, %v; want %q at %d", c.v.Position().Index, got, err, c.want, c.at)
			}
		}
		for range 2 { // the second time does nothing: the second View is still open
			if err := first.Close(); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * shotKept)
		db := s.states.current.db
		if n := db.Metrics().Snapshots.Count; n != 2 {
			t.Errorf("%d snapshots for two Views of two states", n)
		}
		if got, _, err := second.Get([]byte{2, 'a'}); string(got) != "1" || err != nil {
			t.Errorf("the View that is left shows %q, %v", got, err)
		}
		for _, v := range []*View{second, third} {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		}
		if n := db.Metrics().Snapshots.Count; n != 0 {
			t.Errorf("%d snapshots are left", n)
		}
		if err := must[*View](t)(s.View()).Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * shotKept)
		if n := db.Metrics().Snapshots.Count; n != 0 {
			t.Errorf("%d snapshots are kept for nobody", n)
		}
	})
}
