// Package injected counts the faults that tests inject. A test of what a fault does proves nothing if there was none: a name that has
// changed, a write that comes no more, a link that nobody uses, and it passes for ever.
package injected

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Faults are those of one test, by their kinds. The zero value counts, and needs none. It is safe for concurrent use.
type Faults struct {
	mu sync.Mutex
	n  map[string]int
}

// Needed returns a count, and fails the test at its end if a fault of one of the kinds was never injected.
func Needed(tb testing.TB, kinds ...string) *Faults {
	tb.Helper()
	f := &Faults{}
	tb.Cleanup(func() {
		for _, kind := range kinds {
			if f.Count(kind) == 0 && !tb.Skipped() {
				tb.Errorf("%q was never injected, so the test shows nothing: %v", kind, f)
			}
		}
	})
	return f
}

// Did counts a fault where it is done: where the operation that it is to hurt meets it, not where it is ordered.
func (f *Faults) Did(kind string) { f.Add(kind, 1) }

// Add counts n faults.
func (f *Faults) Add(kind string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[string]int{}
	}
	f.n[kind] += n
}

// Count is how many there were of a kind.
func (f *Faults) Count(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n[kind]
}

func (f *Faults) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(f.n)) {
		list = append(list, fmt.Sprintf("%s: %d", kind, f.n[kind]))
	}
	return strings.Join(list, ", ")
}
