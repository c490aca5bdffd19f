package hub

import (
	"sync"
	"sync/atomic"
)

// workers run a session's fetches. They stay for the next frame: a goroutine of its own for each would
// grow its stack anew every time, to where Pebble needs it, which took a tenth of all that a miss takes.
// One goroutine uses do and end.
type workers struct {
	jobs    chan func() // nil before the first
	running sync.WaitGroup
	idle    atomic.Int32
}

// idleMax is how many wait for work; what a burst needs beyond them ends after it.
const idleMax = 8

// do runs a job, on a worker that has nothing to do or on a new one. It does not wait.
func (w *workers) do(job func()) {
	if w.jobs == nil {
		w.jobs = make(chan func())
	}
	select {
	case w.jobs <- job:
	default:
		w.running.Go(func() { w.work(job) })
	}
}

func (w *workers) work(job func()) {
	for {
		job()
		if w.idle.Add(1) > idleMax {
			w.idle.Add(-1)
			return
		}
		next, more := <-w.jobs
		w.idle.Add(-1)
		if !more {
			return
		}
		job = next
	}
}

// end waits for what is under way.
func (w *workers) end() {
	if w.jobs != nil {
		close(w.jobs)
	}
	w.running.Wait()
}
