package injected_test

import (
	"fmt"
	"slices"
	"testing"

	"machineid/internal/testkit/injected"
)

// run is a test's T as far as a count needs one.
type run struct {
	testing.TB
	ends []func()
	said []string
}

func (r *run) Helper()          {}
func (r *run) Skipped() bool    { return false }
func (r *run) Cleanup(f func()) { r.ends = append(r.ends, f) }
func (r *run) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *run) end() []string {
	for _, f := range r.ends {
		f()
	}
	return r.said
}

func TestWhatWasNeverInjectedFails(t *testing.T) {
	r := &run{}
	f := injected.Needed(r, "a cut", "a crash")
	f.Did("a cut")
	f.Add("a delay", 2)
	want := []string{`"a crash" was never injected, so the test shows nothing: a cut: 1, a delay: 2`}
	if got := r.end(); !slices.Equal(got, want) {
		t.Errorf("it says %q, want %q", got, want)
	}
}

func TestWhatWasInjectedPasses(t *testing.T) {
	r := &run{}
	injected.Needed(r, "a cut").Did("a cut")
	if got := r.end(); len(got) > 0 {
		t.Errorf("it says %q", got)
	}
}
