// Package spool keeps those who write to a stream apart from who takes it: a pipe that nobody reads, one whose reader is gone, a disk that is full.
//
// It guarantees that no Write waits for the stream or fails (I14), that lines come out whole and in order, and that what finds no room is counted and
// told of in its place once writing goes on.
package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// Room is how many bytes wait at most, besides those that are being written.
const Room = 1 << 20

// Times and sizes of writing.
const (
	// chunk is how much is handed to the stream at once: what takes it slowly is told from what takes nothing.
	chunk = 16 << 10
	// stuckAfter is how long a stream may take nothing before that is worth a note.
	stuckAfter = time.Second
	// saidFor is how long a loss is worth a note.
	saidFor = time.Minute
	// againAfter is the pause before a stream that is set not to block is tried again.
	againAfter = 10 * time.Millisecond
)

// Writer is an io.Writer. It is safe for concurrent use, and has a goroutine only while something waits.
type Writer struct {
	name string
	out  io.Writer

	mu       sync.Mutex
	tell     func(lost uint64) []byte
	queue    []byte        // whole lines
	lost     uint64        // lines that found no room behind what is in queue
	failed   uint64        // lines ahead of queue that the stream did not take
	cut      bool          // the stream ends in the middle of a line
	idle     chan struct{} // closed when nothing waits any more; nil: nothing does
	since    time.Time     // when the write under way began; zero: there is none
	err      error         // of the last write
	dropped  uint64        // lines in all
	lastLost time.Time
}

// New returns a Writer for the stream of this name. Each call of its Write is of whole lines.
func New(name string, out io.Writer) *Writer {
	return &Writer{name: name, out: out, tell: func(lost uint64) []byte {
		return fmt.Appendf(nil, "lines lost: %d; %s did not take them\n", lost, name)
	}}
}

// Tell sets how it is said that lines were lost.
func (w *Writer) Tell(tell func(lost uint64) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = tell
}

// Write queues p and returns at once. The error is always nil: what finds no room is lost.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost > 0 || len(w.queue)+len(p) > Room { // behind what is lost nothing is taken before that is told of
		w.lost += w.drop(p)
	} else {
		w.queue = append(w.queue, p...)
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
		go w.drain(w.idle)
	}
	return len(p), nil
}

// drop counts the lines of p. w.mu is held.
func (w *Writer) drop(p []byte) (n uint64) {
	for range bytes.Lines(p) {
		n++
	}
	w.dropped += n
	w.lastLost = time.Now()
	return n
}

// drain writes until nothing waits.
func (w *Writer) drain(idle chan struct{}) {
	var batch []byte
	for {
		w.mu.Lock()
		if len(w.queue) == 0 && w.lost == 0 {
			w.idle, w.queue = nil, nil // a long queue's memory goes
			w.mu.Unlock()
			close(idle)
			return
		}
		batch, w.queue = w.queue, batch[:0]
		failed, lost, cut, tell := w.failed, w.lost, w.cut, w.tell
		w.failed, w.lost = 0, 0
		w.mu.Unlock()
		var head, tail []byte
		if cut {
			head = []byte("\n")
		}
		if failed > 0 {
			head = append(head, tell(failed)...)
		}
		if lost > 0 {
			tail = tell(lost)
		}
		w.put(failed, lost, head, batch, tail)
	}
}

// put writes what is lost ahead of a batch, the batch, and what is lost behind it. What the stream does not take is lost, too.
func (w *Writer) put(failed, lost uint64, head, batch, tail []byte) {
	_, err := w.all(head)
	rest := batch
	if err == nil {
		failed = 0
		var n int
		n, err = w.all(batch)
		rest = batch[n:]
	}
	if err == nil {
		_, err = w.all(tail)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.err = time.Time{}, err
	if err != nil {
		w.failed += failed + lost + w.drop(rest)
	}
}

// all writes p, and returns how much of it the stream took.
func (w *Writer) all(p []byte) (done int, err error) {
	w.progress(nil)
	for done < len(p) {
		part := p[done:min(done+chunk, len(p))]
		n, err := w.out.Write(part)
		w.progress(part[:n])
		done += n
		switch {
		case errors.Is(err, syscall.EAGAIN): // somebody who shares the stream has made it so
			time.Sleep(againAfter)
		case err != nil:
			return done, err
		}
	}
	return done, nil
}

// progress notes what the stream took.
func (w *Writer) progress(took []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(took); n > 0 {
		w.cut = took[n-1] != '\n'
	} else if !w.since.IsZero() {
		return
	}
	w.since = time.Now()
}

// Flush waits until the stream has taken, or refused, all that was written before, but for no longer than within. It reports whether that came to
// its end.
func (w *Writer) Flush(within time.Duration) bool {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	if idle == nil {
		return true
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
		return false
	}
}

// Stuck is how long the stream has taken nothing of what waits, 0 if nothing does.
func (w *Writer) Stuck() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return 0
	}
	return time.Since(w.since)
}

// Dropped is how many lines were lost in all.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Note says what is wrong with the stream, and nothing if it takes what comes.
func (w *Writer) Note() string {
	stuck := w.Stuck()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case stuck >= stuckAfter:
		return fmt.Sprintf("log: %s has taken nothing for %v: does its reader read? %d lines are lost so far", w.name, stuck.Round(time.Second), w.dropped)
	case w.err != nil:
		return fmt.Sprintf("log: %s takes nothing: %v; %d lines are lost so far", w.name, w.err, w.dropped)
	case w.dropped > 0 && time.Since(w.lastLost) < saidFor:
		return fmt.Sprintf("log: %s takes less than is written: %d lines are lost so far", w.name, w.dropped)
	}
	return ""
}
