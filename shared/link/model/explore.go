package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// result of one search.
type result struct {
	states, depth int
	took          time.Duration
	seen          uint64 // witnesses
	wrong         string // a violation of the fewest steps; "" if there is none
	cut           bool   // the bound on states or the context ended it
}

// branching bounds how many new states one state leads to on average within a level;
// the table of visited states has room for so many before a level begins.
const branching = 6

// explore visits every state that can be reached, in the order of their distance
// from the beginning, on `workers` goroutines. It ends with the first level that has
// a violation, after about limit states (0: none), or with ctx.
func explore(ctx context.Context, in *instance, off rule, workers, limit int) result {
	began := time.Now()
	seen, starts := newVisited(), in.starts()
	p := &packing{starts[0].raw()}
	first := &frontier{packing: p}
	for _, s := range starts {
		s.tidy()
		if seen.add(seen.hash(in, &s)) {
			first.add(&s)
		}
	}
	r := result{}
	for level := first.chunks; len(level) > 0 && r.wrong == ""; r.depth++ {
		if ctx.Err() != nil || limit > 0 && int(seen.n.Load()) > limit {
			r.cut = true
			break
		}
		seen.reserve(branching * chunkStates * len(level))
		parts := make([]searcher, workers)
		var taken atomic.Int64
		var work sync.WaitGroup
		for w := range parts {
			parts[w].next.packing = p
			work.Go(func() { parts[w].search(in, off, seen, level, &taken) })
		}
		work.Wait()
		level = nil
		for w := range parts {
			p := &parts[w]
			level = append(level, p.next.chunks...)
			r.seen |= p.seen
			if p.wrong != "" {
				r.wrong = p.wrong
			}
		}
	}
	r.states, r.took = int(seen.n.Load()), time.Since(began)
	return r
}

// chunkStates is how many states a worker takes at once, at most.
const chunkStates = 256

// frontier is a list of packed states that grows without being copied.
type frontier struct {
	*packing
	chunks [][]byte
	n      int // states in the last chunk
}

func (f *frontier) add(s *state) {
	if len(f.chunks) == 0 || f.n == chunkStates {
		if last := len(f.chunks) - 1; last >= 0 {
			f.chunks[last] = append([]byte(nil), f.chunks[last]...) // no more than it needs
		}
		f.chunks, f.n = append(f.chunks, make([]byte, 0, 64*chunkStates)), 0
	}
	end := &f.chunks[len(f.chunks)-1]
	*end = f.append(*end, s)
	f.n++
}

// searcher is one worker's part of a level.
type searcher struct {
	next  frontier
	seen  uint64
	wrong string
}

func (p *searcher) search(in *instance, off rule, seen *visited, level [][]byte, taken *atomic.Int64) {
	y := &system{in: in, off: off}
	defer func() { p.seen = y.seen }()
	var s state
	for {
		c := int(taken.Add(1)) - 1
		if c >= len(level) {
			return
		}
		chunk := level[c]
		level[c] = nil // each is read once
		for len(chunk) > 0 {
			chunk = p.next.next(&s, chunk)
			if wrong := y.step(&s); wrong != "" {
				p.wrong = wrong
				return
			}
			for j := range y.out {
				if s := &y.out[j].state; seen.add(seen.hash(in, s)) {
					p.next.add(s)
				}
			}
		}
	}
}
