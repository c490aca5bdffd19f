package hub

import "sync"

// workers run a session's fetches. They stay for the next frame: a goroutine of its own for each would
// grow its stack anew every time, to where Pebble needs it, which took a tenth of all that a miss takes.
// One goroutine uses do and end.
type workers struct {
	jobs    chan func() // for those that are idle; nil before the first
	running sync.WaitGroup

	mu      sync.Mutex
	n, idle int
	backlog []func()
}

// idleMax is how many wait for work; what a burst needs beyond them, up to workersMax, ends after it.
const idleMax, workersMax = 8, 32

// do runs a job: on a worker that has nothing to do, or on a new one, or behind others. It does not wait.
func (w *workers) do(job func()) {
	if w.jobs == nil {
		w.jobs = make(chan func())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.idle > 0:
		w.idle-- // it is about to receive, if it does not yet
		w.jobs <- job
	case w.n < workersMax:
		w.n++
		w.running.Go(func() { w.work(job) })
	default:
		w.backlog = append(w.backlog, job)
	}
}

func (w *workers) work(job func()) {
	for more := true; more; job, more = w.next() {
		job()
	}
}

// next returns another job, or false if there are enough that wait for one.
func (w *workers) next() (job func(), more bool) {
	w.mu.Lock()
	if len(w.backlog) > 0 {
		defer w.mu.Unlock()
		job, w.backlog = w.backlog[0], w.backlog[1:]
		return job, true
	}
	if w.idle >= idleMax {
		defer w.mu.Unlock()
		w.n--
		return nil, false
	}
	w.idle++
	w.mu.Unlock()
	job, more = <-w.jobs
	return job, more
}

// end waits for what is under way.
func (w *workers) end() {
	if w.jobs != nil {
		close(w.jobs)
	}
	w.running.Wait()
}
