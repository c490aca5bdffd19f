package search

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Run bounds a search.
type Run struct {
	Ctx     context.Context
	Workers int // goroutines
	Limit   int // it ends after about so many states; 0: none
}

// Result of one search.
type Result struct {
	States, Depth int
	Took          time.Duration
	Seen          uint64 // witnesses
	Wrong         string // a violation of the fewest steps; "" if there is none
	Cut           bool   // the limit or the context ended it
}

// branching bounds how many new states one state leads to on average within a level;
// the table of visited states has room for so many before a level begins.
const branching = 6

// Explore visits every state that can be reached, in the order of their distance
// from the beginning. It ends with the first level that has a violation.
func (sp *Space[S]) Explore(run Run) Result {
	bytesOnly(reflect.TypeFor[S]())
	began := time.Now()
	seen := newVisited(sp.Alike)
	p := &packing[S]{sp.Starts[0]}
	first := &frontier[S]{packing: p}
	for i := range sp.Starts {
		if seen.add(seen.hash(&sp.Starts[i])) {
			first.add(&sp.Starts[i])
		}
	}
	r := Result{}
	for level := first.chunks; len(level) > 0 && r.Wrong == ""; r.Depth++ {
		if run.Ctx.Err() != nil || run.Limit > 0 && int(seen.n.Load()) > run.Limit {
			r.Cut = true
			break
		}
		seen.reserve(branching * chunkStates * len(level))
		parts := make([]searcher[S], run.Workers)
		var taken atomic.Int64
		var work sync.WaitGroup
		for w := range parts {
			parts[w].next.packing = p
			work.Go(func() { parts[w].search(sp.System(), seen, level, &taken) })
		}
		work.Wait()
		level = nil
		for w := range parts {
			p := &parts[w]
			level = append(level, p.next.chunks...)
			r.Seen |= p.seen
			if p.wrong != "" {
				r.Wrong = p.wrong
			}
		}
	}
	r.States, r.Took = int(seen.n.Load()), time.Since(began)
	return r
}

// chunkStates is how many states a worker takes at once, at most.
const chunkStates = 256

// frontier is a list of packed states that grows without being copied.
type frontier[S comparable] struct {
	*packing[S]
	chunks [][]byte
	n      int // states in the last chunk
}

func (f *frontier[S]) add(s *S) {
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
type searcher[S comparable] struct {
	next  frontier[S]
	seen  uint64
	wrong string
}

func (p *searcher[S]) search(y System[S], seen *visited[S], level [][]byte, taken *atomic.Int64) {
	defer func() { p.seen = y.Seen() }()
	var s S
	for {
		c := int(taken.Add(1)) - 1
		if c >= len(level) {
			return
		}
		chunk := level[c]
		level[c] = nil // each is read once
		for len(chunk) > 0 {
			chunk = p.next.next(&s, chunk)
			next, wrong := y.Step(&s)
			if wrong != "" {
				p.wrong = wrong
				return
			}
			for j := range next {
				if s := &next[j].State; seen.add(seen.hash(s)) {
					p.next.add(s)
				}
			}
		}
	}
}
