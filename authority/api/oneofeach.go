package api

import (
	"context"
	"sync"

	"machineid/authority/state"
)

// oneOfEach lets one of each org go on at a time, for what is dear to everybody while it is applied. The zero value is ready. It is safe for concurrent use.
type oneOfEach struct {
	mu   sync.Mutex
	orgs map[state.OrgID]*oneOrg
}

type oneOrg struct {
	slot chan struct{}
	refs int // who is in it or waits; guarded by oneOfEach.mu
}

// enter waits until no other of the org is in it, or ctx ends. leave must be called once.
func (o *oneOfEach) enter(ctx context.Context, id state.OrgID) (leave func(), err error) {
	o.mu.Lock()
	org := o.orgs[id]
	if org == nil {
		org = &oneOrg{slot: make(chan struct{}, 1)}
		if o.orgs == nil {
			o.orgs = map[state.OrgID]*oneOrg{}
		}
		o.orgs[id] = org
	}
	org.refs++
	o.mu.Unlock()
	select {
	case org.slot <- struct{}{}:
		return func() {
			<-org.slot
			o.forget(id, org)
		}, nil
	case <-ctx.Done():
		o.forget(id, org)
		return nil, ctx.Err()
	}
}

func (o *oneOfEach) forget(id state.OrgID, org *oneOrg) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if org.refs--; org.refs == 0 {
		delete(o.orgs, id)
	}
}
