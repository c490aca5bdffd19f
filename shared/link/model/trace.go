package main

import (
	"context"
	"fmt"
	"slices"
)

// trace searches again for the shortest way to a violation, and tells its steps. It
// keeps a parent for every state, so it needs about four times the memory of explore.
func trace(ctx context.Context, in *instance, off rule) []string {
	type parent struct {
		from uint64
		by   action
	}
	v := newVisited()
	parents := map[uint64]parent{}
	y := &system{in: in, off: off}
	var level []state
	for _, s := range in.starts() {
		s.tidy()
		parents[v.hash(in, &s)] = parent{}
		level = append(level, s)
	}
	for len(level) > 0 && ctx.Err() == nil {
		var next []state
		for i := range level {
			from := v.hash(in, &level[i])
			if wrong := y.step(&level[i]); wrong != "" {
				steps := []string{wrong}
				for h := from; parents[h].from != 0; h = parents[h].from {
					by := parents[h].by
					steps = append(steps, fmt.Sprintf("%s (%d, %d)", by.what, by.a, by.b))
				}
				slices.Reverse(steps)
				return steps
			}
			for j := range y.out {
				n := &y.out[j]
				h := v.hash(in, &n.state)
				if _, known := parents[h]; !known {
					parents[h] = parent{from, n.by}
					next = append(next, n.state)
				}
			}
		}
		level = next
	}
	return nil
}
