package search

import (
	"fmt"
	"slices"
)

// Trace searches again for the shortest way to a violation, and tells its steps. It
// keeps a parent for every state, so it needs about four times the memory of Explore.
func (sp *Space[S]) Trace(run Run) []string {
	type parent struct {
		from uint64
		by   Action
	}
	v := newVisited(sp.Alike)
	parents := map[uint64]parent{}
	y := sp.System()
	level := slices.Clone(sp.Starts)
	for i := range level {
		parents[v.hash(&level[i])] = parent{}
	}
	for len(level) > 0 && run.Ctx.Err() == nil {
		var next []S
		for i := range level {
			from := v.hash(&level[i])
			out, wrong := y.Step(&level[i])
			if wrong != "" {
				steps := []string{wrong}
				for h := from; parents[h].from != 0; h = parents[h].from {
					by := parents[h].by
					steps = append(steps, fmt.Sprintf("%s (%d, %d)", by.What, by.A, by.B))
				}
				slices.Reverse(steps)
				return steps
			}
			for j := range out {
				n := &out[j]
				h := v.hash(&n.State)
				if _, known := parents[h]; !known {
					parents[h] = parent{from, n.By}
					next = append(next, n.State)
				}
			}
		}
		level = next
	}
	return nil
}
