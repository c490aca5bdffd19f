package state

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// TestDeterminism applies one log to three nodes: with a batch for each entry, in
// random batches with restarts between some, and with a restart after each entry
// (S3, S5).
func TestDeterminism(t *testing.T) {
	t.Parallel()
	a, b, c := openDB(t), openDB(t), openDB(t)
	rapid.Check(t, func(t *rapid.T) {
		log := history(t)
		single, packed, restarted := newNode(t, a), newNode(t, b), newNode(t, c)
		for _, e := range log {
			single.apply(e)
			single.commit()
			packed.apply(e)
			switch rapid.IntRange(0, 5).Draw(t, "batch") {
			case 0:
				packed.commit()
			case 1:
				packed.restart()
			}
			restarted.apply(e)
			restarted.restart()
		}
		same(t, "packed", single, packed)
		same(t, "restarted", single, restarted)
		if err := check(single.reader()); err != nil {
			t.Error(err)
		}
		if mark := must(single.reader().Mark())(t); mark.Time != single.m.Time() {
			t.Errorf("the mark %v is not the time %d", mark, single.m.Time())
		}
		for i, h := range single.heard {
			if h.index != uint64(i+1) {
				t.Errorf("told of %d as the %d-th", h.index, i+1)
			}
		}
	})
}

// same tells where two nodes that applied one log differ.
func same(t *rapid.T, name string, want, got *node) {
	t.Helper()
	if w, g := want.dump(), got.dump(); w != g {
		t.Errorf("%s: the state differs:\n%s", name, cmp.Diff(w, g))
	}
	if w, g := texts(want.outcomes), texts(got.outcomes); !slices.Equal(w, g) {
		t.Errorf("%s: outcomes differ:\n%s", name, cmp.Diff(w, g))
	}
	if w, g := emitted(want), emitted(got); !maps.EqualFunc(w, g, slices.Equal) {
		t.Errorf("%s: concerns differ:\n%s", name, cmp.Diff(w, g))
	}
	if want.m.Time() != got.m.Time() || !proto.Equal(want.m.Cluster(), got.m.Cluster()) {
		t.Errorf("%s: time or cluster in memory differ", name)
	}
}

// texts renders outcomes so that equal ones, and only these, are equal.
func texts(outcomes []any) []string {
	list := make([]string, len(outcomes))
	for i, o := range outcomes {
		if out, ok := o.(Outcome); ok {
			list[i] = fmt.Sprintf("%v %v %v %t %x %t %x %+v", out.Refusal, out.Changed, out.Existed,
				out.Org != nil, encode(out.Org), out.Device != nil, encode(out.Device), out.Plan)
			if out.Key != nil {
				list[i] += fmt.Sprintf(" %x %x", encode(out.Key), encode(out.Replaced))
			}
			if b := out.Batch; out.Restored || b.Items != nil || b.Count > 0 || b.AtCap || b.Next != nil {
				list[i] += fmt.Sprintf(" %t %+v %x", out.Restored, Batch{b.Items, b.Count, b.Sample, b.AtCap, nil}, encode(b.Next))
			}
		}
	}
	return list
}

// emitted is what each index concerned. A restart tells of an index again, with
// no concerns.
func emitted(n *node) map[uint64][]Concern {
	out := map[uint64][]Concern{}
	for _, h := range n.heard {
		if len(h.concerns) > 0 {
			out[h.index] = append(out[h.index], h.concerns...)
		}
	}
	return out
}

// must takes a value that a test cannot do without.
func must[T any](v T, err error) func(tb) T {
	return func(tb tb) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}
