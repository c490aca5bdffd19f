package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/authority/api"
	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// TestARequestFollowsTheLeadership that goes away under it, if nothing came of it here, and only then.
func TestARequestFollowsTheLeadership(t *testing.T) {
	calls := 0
	other := true // whether another node leads by then
	n := start(t, func(c *api.Config) {
		c.Forward = func(ctx *fasthttp.RequestCtx, in *wire.Request, _ time.Time) bool {
			if calls++; calls == 1 || !other {
				return false
			}
			in.JSON(ctx, 200, struct {
				wire.Envelope
				Elsewhere bool `json:"elsewhere"`
			}{in.Envelope("ok"), true})
			return true
		}
	})
	o := n.org()
	n.held = nil // what is elsewhere is no answer of ours
	fails := func(err error) func(context.Context) (state.Outcome, error) {
		return func(context.Context) (state.Outcome, error) { return state.Outcome{}, err }
	}
	for name, c := range map[string]struct {
		propose, settle error
		other           bool
		status, calls   int
		part            string
	}{
		"another leads":           {raftstore.ErrNotLeader, nil, true, 200, 2, `"elsewhere":true`},
		"none does":               {raftstore.ErrNotLeader, nil, false, 503, 4, `"outcome":"not_done"`},
		"perhaps it was done":     {raftstore.ErrOutcomeUnknown, nil, true, 503, 1, `"outcome":"unknown"`},
		"it was done":             {nil, hub.ErrNotLeading, true, 503, 1, `"outcome":"committed"`},
		"for quite other reasons": {raftstore.ErrOverloaded, nil, true, 503, 1, `"outcome":"not_done"`},
	} {
		calls, other = 0, c.other
		n.store.fail(nil, nil)
		if c.propose != nil {
			n.store.fail(fails(c.propose), nil)
		}
		n.hub.fail(c.settle)
		a := n.with(o.agent, "POST", "devices/register", device("d"))
		if a.want(c.status, c.part); calls != c.calls {
			t.Errorf("%s: handed on %d times, want %d", name, calls, c.calls)
		}
	}
}
