package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// denial is what became of one revoke.
type denial struct {
	call time.Duration // from sending the revoke to its answer
	last time.Duration // from sending the revoke to the first denial of the last place
	// after is how long after the revoke's answer the last question was sent that was still allowed; 0: none was.
	after time.Duration
}

// denials are one peer's, sorted.
type denials struct {
	call, last []time.Duration
	broken     int
	after      time.Duration // the longest
}

const (
	fewRevokes = 200 // of peers whose revokes come one after the other
	atOnce     = 64  // of those whose caches live for a time
)

// revokes takes rights while every place is asked about them all the time.
func revokes(ctx context.Context, p *peer) (d denials, err error) {
	var all []denial
	if p.spread > 0 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range atOnce {
			wg.Go(func() {
				one, e := again(func() (denial, error) { return revoke(ctx, p, i, rand.N(p.spread)) })
				mu.Lock()
				defer mu.Unlock()
				all, err = append(all, one), errors.Join(err, e)
			})
		}
		wg.Wait()
	} else {
		for i := range fewRevokes {
			one, e := again(func() (denial, error) { return revoke(ctx, p, i%devices, time.Millisecond) })
			if err = e; err != nil {
				break
			}
			all = append(all, one)
		}
	}
	if err != nil {
		return d, fmt.Errorf("%s: revoke: %w", p.name, err)
	}
	for _, one := range all {
		d.call, d.last = append(d.call, one.call), append(d.last, one.last)
		if one.after > 0 {
			d.broken++
		}
		d.after = max(d.after, one.after)
	}
	slices.Sort(d.call)
	slices.Sort(d.last)
	return d, nil
}

// errEarly says that a place denied before it should have: an edge that had no lease for a moment, say. It measures nothing.
var errEarly = errors.New("a place denied what had not been revoked yet")

// again repeats a revoke that a place spoilt, some times.
func again(f func() (denial, error)) (d denial, err error) {
	for range 5 {
		if d, err = f(); !errors.Is(err, errEarly) {
			break
		}
	}
	return d, err
}

// revoke takes one device's right, wait after every place has allowed it, and gives it back.
func revoke(ctx context.Context, p *peer, device int, wait time.Duration) (d denial, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait+2*patience)
	defer cancel()
	type seen struct {
		allowed time.Time // when the last question that was allowed was sent
		denied  time.Time // when the first denial came
		err     error
	}
	allows, ends := make(chan struct{}, p.places), make(chan seen, p.places)
	for place := range p.places {
		go func() {
			var s seen
			s.allowed, s.denied, s.err = watch(ctx, p, place, device, func() { allows <- struct{}{} })
			if s.err != nil {
				cancel()
			}
			ends <- s
		}()
	}
	for range p.places {
		select {
		case <-allows:
		case <-ctx.Done():
		}
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
	sent := time.Now()
	err = p.set(ctx, device, false)
	returned := time.Now()
	if err != nil {
		cancel()
	}
	d.call = returned.Sub(sent)
	early := false
	for range p.places {
		s := <-ends
		err = errors.Join(err, s.err)
		if s.err == nil && s.denied.Before(sent) {
			early = true
		}
		d.last, d.after = max(d.last, s.denied.Sub(sent)), max(d.after, s.allowed.Sub(returned))
	}
	if err != nil {
		return d, err
	}
	if err := p.set(ctx, device, true); err != nil || !early {
		return d, err
	}
	return d, errEarly
}

// watch asks one place about a device until it denies. It calls first when that has first allowed it.
func watch(ctx context.Context, p *peer, place, device int, first func()) (allowed, denied time.Time, err error) {
	a, err := p.open(place)
	if err != nil {
		return allowed, denied, err
	}
	defer a.close()
	for {
		sent := time.Now()
		yes, err := a.ask(device)
		now := time.Now()
		switch {
		case err != nil:
			return allowed, denied, err
		case yes:
			if allowed.IsZero() {
				first()
			}
			allowed = sent
		case !allowed.IsZero():
			return allowed, now, nil
		}
		if ctx.Err() != nil {
			return allowed, denied, context.Cause(ctx)
		}
		if p.pause > 0 {
			time.Sleep(p.pause)
		}
	}
}
