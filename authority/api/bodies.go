package api

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"machineid/authority/state"
	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

// bodies lets few large bodies be parsed at a time, which takes up to 10 ms each, and of one key one (F8).
type bodies struct {
	keys *oneOfEach // by the hash of what was shown, which nobody has judged yet
	free chan struct{}
}

func newBodies() bodies {
	return bodies{&oneOfEach{}, make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/coresATurn))}
}

// enter waits for a place. leave must be called once, and gives the place on when it has rested for as long as it was had.
func (b bodies) enter(ctx context.Context, of state.OrgID) (leave func(), err error) {
	next, err := b.keys.enter(ctx, of)
	if err != nil {
		return nil, err
	}
	select {
	case b.free <- struct{}{}:
	case <-ctx.Done():
		next()
		return nil, ctx.Err()
	}
	began := time.Now()
	return func() {
		time.AfterFunc(min(time.Since(began), restMost), func() {
			<-b.free
			next()
		})
	}, nil
}

// parse is parameters for a body of any size.
func (r *request) parse(c *call) error {
	if len(r.http.Request.Body()) <= wire.MaxBody || c.raw {
		return r.parameters(c)
	}
	ctx, cancel := context.WithDeadline(context.Background(), r.deadline)
	defer cancel()
	hash := orgkey.Sum(wire.Trim(r.in.Head.OrgKey))
	leave, err := r.api.bodies.enter(ctx, state.OrgID(hash[:len(state.OrgID{})]))
	if err != nil {
		return &unavailable{outcome: wire.OutcomeNotDone, cause: fmt.Errorf("wait for other large bodies: %w", err)}
	}
	defer leave()
	return r.parameters(c)
}
