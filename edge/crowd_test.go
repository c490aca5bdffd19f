package edge

import (
	"testing"
	"testing/synctest"
	"time"

	"machineid/shared/wire"
)

// TestNoPartyTakesAllConnections: beyond its half a party waits for its own, a second at most; others do not wait.
func TestNoPartyTakesAllConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(6)
		loud, quiet := wire.Party{1}, wire.Party{2}
		var leaves []func()
		for range 3 {
			leave, ok := c.enter(loud)
			if !ok {
				t.Fatal("no room for its half")
			}
			leaves = append(leaves, leave)
		}
		began := time.Now()
		if leave, ok := c.enter(quiet); !ok || time.Since(began) > 0 {
			t.Errorf("another party waits: %v, %v", ok, time.Since(began))
		} else {
			leave()
		}
		if _, ok := c.enter(loud); ok || time.Since(began) != crowdWait {
			t.Errorf("one beyond its half: %v after %v", ok, time.Since(began))
		}
		time.AfterFunc(crowdWait/2, leaves[0])
		leave, ok := c.enter(loud)
		if !ok {
			t.Fatal("what is given back is not given on")
		}
		for _, leave := range append(leaves[1:], leave) {
			leave()
		}
		if len(c.by) != 0 {
			t.Errorf("%d parties are kept", len(c.by))
		}
	})
}
