//go:build unix

package cli

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestAuthorityKilledUnderLoad kills the authority at random moments, start-up and recovery among them, and restarts it on the
// same folder and addresses. After each restart every org is compared with the model: what was acknowledged is there, what was
// not is there whole or not at all. Meanwhile validators ask the edge all the time, and in the end all their answers are judged
// by the promise: what was sent after a change had returned gets the new answer or SYSTEM_UNAVAILABLE.
//
// TestCompareCatches and TestJudgeCatches prove that both judges can fail.
func TestAuthorityKilledUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, validators = 8, 3
	kills := 50
	if testing.Short() {
		kills = 8
	}
	rng := seeded(t)
	s := startTiers(t, "--lease", "300ms")
	l := &load{t: t, tiers: s, began: time.Now(), end: make(chan struct{}), history: map[[2]string][]step{}}
	for i := range writers {
		w := &writer{load: l, rng: rand.New(rand.NewPCG(rng.Uint64(), uint64(i))), through: []*client{newClient(t, s.authority.http), newClient(t, s.edge.http)}}
		for range 2 {
			w.adopt(w.through[0].createOrg(t))
		}
		l.writers = append(l.writers, w)
		l.work.Go(w.run)
	}
	for range validators {
		v := &validator{load: l, rng: rand.New(rand.NewPCG(rng.Uint64(), 100)), c: newClient(t, s.edge.http)}
		l.validators = append(l.validators, v)
		l.work.Go(v.run)
	}
	stop := sync.OnceFunc(func() {
		close(l.end)
		l.work.Wait()
	})
	defer stop()

	l.epoch.Add(1)
	early := 0
	for range kills {
		if rng.IntN(10) < 3 { // at any moment from the start of the process on
			early++
			hold(rng, 300*time.Millisecond)
		} else {
			s.authority.ready()
			l.restarted()
			hold(rng, 250*time.Millisecond)
		}
		s.authority.kill()
		s.authority.launch()
	}
	s.authority.ready()
	l.restarted()
	stop()

	// Ctrl-C keeps everything too.
	s.authority.interrupt()
	s.authority.start()
	for _, w := range l.writers {
		eventually(t, patient, "every org was compared after a clean restart", w.compareAll)
	}

	var sightings []sighting
	for _, v := range l.validators {
		sightings = append(sightings, v.seen...)
	}
	codes := map[string]int{}
	for _, s := range sightings {
		codes[s.code]++
	}
	for i, fault := range judge(l.history, sightings) {
		if i == 20 {
			t.Error("and more")
			break
		}
		t.Error(fault)
	}
	outcomes := map[string]int{}
	orgs := 0
	for _, w := range l.writers {
		orgs += len(w.orgs)
		for outcome, n := range w.outcomes {
			outcomes[outcome] += n
		}
	}
	t.Logf("%d kills, %d of them before the authority was ready; %d orgs; changes: %v; comparisons of an org: %d; validates: %v",
		kills, early, orgs, outcomes, l.comparisons.Load(), codes)
	for _, code := range []string{codeAllow, codeRevoked, codeNotFound, codeDisabled, codeUnsure} {
		if codes[code] == 0 {
			t.Errorf("no validate was answered %s: the load proves too little", code)
		}
	}
	if outcomes["granted"] == 0 || outcomes["refused"] == 0 || outcomes["unknown"] == 0 {
		t.Errorf("outcomes %v: the load proves too little", outcomes)
	}
}

// hold lets a random time pass, at most d: the moment of a kill is no condition that one could wait for.
func hold(rng *rand.Rand, d time.Duration) {
	<-time.After(time.Duration(rng.Int64N(int64(d))))
}

// load is what all clients of the test share.
type load struct {
	t     *testing.T
	tiers tiers
	began time.Time
	end   chan struct{}
	work  sync.WaitGroup

	writers     []*writer
	validators  []*validator
	epoch       atomic.Int64 // counts the restarts after which the authority became ready
	comparisons atomic.Int64

	mu      sync.Mutex
	history map[[2]string][]step
	orgs    []*ownOrg
}

// now is the time of the history.
func (l *load) now() time.Duration { return time.Since(l.began) }

func (l *load) over() bool {
	select {
	case <-l.end:
		return true
	default:
		return false
	}
}

// restarted has every writer compare its orgs and waits until they all have.
func (l *load) restarted() {
	l.t.Helper()
	epoch := l.epoch.Add(1)
	eventually(l.t, patient, "every org was compared after the restart", func() bool {
		return !slices.ContainsFunc(l.writers, func(w *writer) bool { return w.compared.Load() < epoch })
	})
}

func (l *load) note(o *ownOrg, device string, called time.Duration, codes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	subject := [2]string{o.admin, device}
	l.history[subject] = append(l.history[subject], step{called, l.now(), codes})
}

// lull lets the authority come back.
func (l *load) lull() {
	select {
	case <-l.end:
	case <-time.After(10 * time.Millisecond):
	}
}

// validator asks the edge about every org and device.
type validator struct {
	*load

	rng  *rand.Rand
	c    *client
	seen []sighting
}

func (v *validator) run() {
	for !v.over() {
		v.mu.Lock()
		o := v.orgs[v.rng.IntN(len(v.orgs))]
		v.mu.Unlock()
		device := deviceIDs[v.rng.IntN(len(deviceIDs))]
		sent := v.now()
		a, err := v.c.post("devices/validate", o.agent, deviceBody[device])
		if err != nil {
			v.t.Errorf("validate: %v", err) // the edge is never killed
			return
		}
		v.seen = append(v.seen, sighting{o.admin, device, sent, v.now(), a.code()})
		if a.code() == codeUnsure {
			v.lull() // or the edge would do nothing else
		}
	}
}

// ownOrg is an org that one writer alone changes, so that what it knows of it is all there is to know.
type ownOrg struct {
	org

	may       map[string]records
	execution []bool
}

// deviceIDs are the devices of every org: more than it has places.
var (
	deviceIDs  = []string{"d1", "d2", "d3", "d4", "d5"}
	deviceBody = func() map[string]string {
		out := map[string]string{}
		for _, id := range deviceIDs {
			out[id] = naming(id)
		}
		return out
	}()
)

// adopt begins the model of a new org.
func (w *writer) adopt(o org) {
	own := &ownOrg{org: o, may: map[string]records{}, execution: []bool{true}}
	for _, id := range deviceIDs {
		own.may[id] = records{{condition: absent}}
	}
	w.orgs = append(w.orgs, own)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load.orgs = append(w.load.orgs, own)
}

// known puts a comparison's result into the model and the history.
func (w *writer) known(o *ownOrg, called time.Duration, now map[string]record, executes bool) {
	for _, id := range slices.Sorted(maps.Keys(now)) {
		o.may[id] = records{now[id]}
		w.note(o, id, called, o.may[id].codes())
	}
	w.switched(o, called, []bool{executes})
}

func (w *writer) switched(o *ownOrg, called time.Duration, may []bool) {
	o.execution = may
	var codes []string
	if slices.Contains(may, true) {
		codes = append(codes, enabled)
	}
	if slices.Contains(may, false) {
		codes = append(codes, codeDisabled)
	}
	w.note(o, "", called, codes)
}

func (w *writer) faultf(o *ownOrg, format string, args ...any) {
	w.t.Errorf("org %.12s: %s", o.admin, fmt.Sprintf(format, args...))
}
