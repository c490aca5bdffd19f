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

// warmup is loaded before each measurement, and not counted.
const warmup = 200 * time.Millisecond

// sample is one measurement of one peer.
type sample struct {
	took   []uint32 // nanoseconds of each answer
	length time.Duration
	cpu    time.Duration // of the servers, for an answer
	denied int           // answers that were none: every device may run
}

func (s sample) rate() float64 { return float64(len(s.took)) / s.length.Seconds() }

// measure asks a peer from some connections, each one question after the other.
func measure(ctx context.Context, p *peer, connections int, length time.Duration) (sample, error) {
	askers := make([]asker, connections)
	defer func() {
		for _, a := range askers {
			if a != nil {
				a.close()
			}
		}
	}()
	for i := range askers {
		a, err := p.open(i % p.each())
		if err != nil {
			return sample{}, fmt.Errorf("%s: %w", p.name, err)
		}
		askers[i] = a
	}
	var (
		s     sample
		mu    sync.Mutex
		wg    sync.WaitGroup
		fault error
	)
	began := time.Now().Add(warmup)
	used := make(chan time.Duration, 1)
	time.AfterFunc(warmup, func() { used <- p.cpu() })
	for i, a := range askers {
		wg.Go(func() {
			own, denied := make([]uint32, 0, 1<<17/connections), 0
			random := rand.New(rand.NewPCG(1, uint64(i)))
			err := func() error {
				for sent := time.Now(); sent.Sub(began) < length && ctx.Err() == nil; {
					allowed, err := a.ask(random.IntN(devices))
					if err != nil {
						return err
					}
					now := time.Now()
					switch {
					case !sent.After(began):
					case !allowed:
						denied++
					default:
						own = append(own, uint32(min(now.Sub(sent), 4*time.Second)))
					}
					sent = now
				}
				return nil
			}()
			mu.Lock()
			defer mu.Unlock()
			s.took, s.denied = append(s.took, own...), s.denied+denied
			fault = errors.Join(fault, err)
		})
	}
	wg.Wait()
	s.length = time.Since(began)
	if fault != nil {
		return s, fmt.Errorf("%s: %w", p.name, fault)
	}
	if s.denied > len(s.took)/100 {
		return s, fmt.Errorf("%s: %d devices that may run were denied, %d allowed", p.name, s.denied, len(s.took))
	}
	if len(s.took) == 0 {
		return s, errors.Join(fmt.Errorf("%s: nothing was measured", p.name), ctx.Err())
	}
	s.cpu = (p.cpu() - <-used) / time.Duration(len(s.took))
	return s, nil
}

// each is how many places share the connections. Of MachineID's edges one is asked, as the others' servers are one too.
func (p *peer) each() int {
	if p.alone {
		return 1
	}
	return p.places
}

func (p *peer) cpu() (all time.Duration) {
	for _, one := range p.procs {
		all += one.CPU()
	}
	return all
}

// rates are one peer's figures at one number of connections, over all rounds.
type rates struct {
	perSecond, ratio float64 // medians; the ratio is to the floor of the same round
	p50, p99         time.Duration
	cpu              time.Duration
	denied           int
}

func summarise(own, floor []sample) (r rates) {
	var perSecond, ratios []float64
	var cpus []time.Duration
	var took []uint32
	for i, s := range own {
		perSecond, cpus, took = append(perSecond, s.rate()), append(cpus, s.cpu), append(took, s.took...)
		ratios = append(ratios, s.rate()/floor[i].rate())
		r.denied += s.denied
	}
	slices.Sort(perSecond)
	slices.Sort(ratios)
	slices.Sort(cpus)
	slices.Sort(took)
	r.perSecond, r.ratio, r.cpu = perSecond[len(perSecond)/2], ratios[len(ratios)/2], cpus[len(cpus)/2]
	r.p50, r.p99 = time.Duration(took[len(took)/2]), time.Duration(took[len(took)*99/100])
	return r
}

// each calls f for every device, some at a time.
func each(ctx context.Context, f func(device int) error) error {
	const callers = 16
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		fault error
	)
	for c := range callers {
		wg.Go(func() {
			for i := c; i < devices && ctx.Err() == nil; i += callers {
				if err := f(i); err != nil {
					mu.Lock()
					defer mu.Unlock()
					fault = errors.Join(fault, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(fault, ctx.Err())
}
