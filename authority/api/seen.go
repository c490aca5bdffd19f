package api

import (
	"sync"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// seen is what the requests that share a view have read of it: callers come in crowds, with few keys, and each look into
// Pebble's memory table costs as much as all else that admitting one takes. Its records must not be changed.
type seen struct {
	mu    sync.Mutex
	known bool // mark
	mark  state.Mark
	keys  map[[32]byte]*statepb.Key
	orgs  map[state.OrgID]*statepb.Org
	plans *statepb.Plans
}

// seenMax bounds the keys, and the orgs, of one view. What is beyond it is read each time.
const seenMax = 1024

// newest is rd.Mark.
func (v *seen) newest(rd state.Reader) (mark state.Mark, err error) {
	v.mu.Lock()
	mark, known := v.mark, v.known
	v.mu.Unlock()
	if known {
		return mark, nil
	}
	if mark, err = rd.Mark(); err != nil {
		return state.Mark{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mark, v.known = mark, true
	return mark, nil
}

// key is rd.Key.
func (v *seen) key(rd state.Reader, hash [32]byte) (*statepb.Key, error) {
	return remember(v, &v.keys, hash, rd.Key)
}

// org is rd.Org.
func (v *seen) org(rd state.Reader, id state.OrgID) (*statepb.Org, error) {
	return remember(v, &v.orgs, id, rd.Org)
}

// tiers is rd.Plans.
func (v *seen) tiers(rd state.Reader) (plans *statepb.Plans, err error) {
	v.mu.Lock()
	plans = v.plans
	v.mu.Unlock()
	if plans != nil {
		return plans, nil
	}
	if plans, err = rd.Plans(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.plans = plans
	return plans, nil
}

// remember reads a record once. That there is none is not remembered: strangers may ask for anything.
func remember[K comparable, R any](v *seen, in *map[K]*R, k K, read func(K) (*R, error)) (*R, error) {
	v.mu.Lock()
	r := (*in)[k]
	v.mu.Unlock()
	if r != nil {
		return r, nil
	}
	r, err := read(k)
	if err != nil || r == nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if *in == nil {
		*in = map[K]*R{}
	}
	if len(*in) < seenMax {
		(*in)[k] = r
	}
	return r, nil
}
