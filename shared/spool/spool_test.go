package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"machineid/internal/testkit/bubble"
)

// stream is what takes lines, or does not.
type stream struct {
	mu    sync.Mutex
	text  bytes.Buffer
	shut  chan struct{} // a Write waits for it; nil: none does
	room  int           // that is left before full; below 0: any
	full  error
	again int // so many Writes say EAGAIN
}

func newStream() *stream { return &stream{room: -1} }

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	shut := s.shut
	s.mu.Unlock()
	if shut != nil {
		<-shut
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again > 0 {
		s.again--
		n := len(p) / 2
		s.text.Write(p[:n])
		return n, fmt.Errorf("write: %w", syscall.EAGAIN)
	}
	if s.room < 0 || len(p) <= s.room {
		s.room -= min(len(p), max(s.room, 0))
		return s.text.Write(p)
	}
	n := s.room
	s.text.Write(p[:n])
	s.room = 0
	return n, s.full
}

func (s *stream) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = make(chan struct{})
}

func (s *stream) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.shut)
	s.shut = nil
}

func (s *stream) set(room int, full error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room, s.full = room, full
}

func (s *stream) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(strings.TrimSuffix(s.text.String(), "\n"), "\n")
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Fatalf("write %q: %d, %v", text, n, err)
	}
}

// TestAStalledStreamHoldsNobody: whoever writes is not held up, at most Room waits, and what was lost is told of in its place.
func TestAStalledStreamHoldsNobody(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := newStream()
		w := New("stderr", s)
		say(t, w, "first\n")
		synctest.Wait()
		s.stall()
		began := time.Now()
		line := strings.Repeat("x", 99) + "\n"
		const sent = 2 * Room / 100
		say(t, w, line)
		synctest.Wait() // it is on its way, and what follows waits
		for range sent - 1 {
			say(t, w, line)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("writing took %v", took)
		}
		time.Sleep(3 * time.Second)
		if note := w.Note(); !strings.HasPrefix(note, "log: stderr has taken nothing for 3s") {
			t.Errorf("note: %q", note)
		}
		if stuck := w.Stuck(); stuck != 3*time.Second {
			t.Errorf("stuck for %v", stuck)
		}
		if w.Flush(time.Second) {
			t.Error("a stalled stream is flushed")
		}
		s.goOn()
		if !w.Flush(time.Second) {
			t.Fatal("the stream goes on, and is not flushed")
		}
		got := s.lines()
		told := got[len(got)-1]
		kept := len(got) - 2
		if want := fmt.Sprintf("lines lost: %d; stderr did not take them", sent-kept); told != want || got[0] != "first" {
			t.Errorf("the end is %q, want %q; the begin is %q", told, want, got[0])
		}
		if want := 1 + Room/100; kept != want {
			t.Errorf("%d lines of %d were kept, want %d", kept, sent, want)
		}
		if got := w.Dropped(); got != uint64(sent-kept) {
			t.Errorf("%d lines were dropped, it says %d", sent-kept, got)
		}
		say(t, w, "last\n")
		synctest.Wait()
		if got := s.lines(); got[len(got)-1] != "last" {
			t.Errorf("the last line is %q", got[len(got)-1])
		}
		if note := w.Note(); !strings.Contains(note, "takes less than is written") {
			t.Errorf("note just after: %q", note)
		}
		time.Sleep(saidFor)
		if note := w.Note(); note != "" {
			t.Errorf("note a minute later: %q", note)
		}
	})
}

// TestAFullDisk: a line that it cut ends before the next one, and what it did not take is told of as soon as it takes something.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := newStream()
		w := New("stderr", s)
		s.set(len("one\ntw"), syscall.ENOSPC)
		for _, line := range []string{"one\n", "two\n", "three\n", "four\n"} {
			say(t, w, line)
			synctest.Wait()
		}
		if note := w.Note(); !strings.Contains(note, "no space left on device; 3 lines are lost so far") {
			t.Errorf("note: %q", note)
		}
		s.set(-1, nil)
		say(t, w, "five\n")
		if !w.Flush(time.Second) {
			t.Fatal("not flushed")
		}
		want := []string{"one", "tw", "lines lost: 3; stderr did not take them", "five"}
		if got := s.lines(); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestADeadReader: nothing fails, nothing waits, all is counted.
func TestADeadReader(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := newStream()
		s.set(0, syscall.EPIPE)
		w := New("stdout", s)
		for range 1000 {
			say(t, w, "a line\nand another\n")
		}
		if !w.Flush(time.Second) {
			t.Error("a flush waits for who is gone")
		}
		if got := w.Dropped(); got != 2000 {
			t.Errorf("%d lines were dropped, want 2000", got)
		}
		if note := w.Note(); !strings.Contains(note, "broken pipe") {
			t.Errorf("note: %q", note)
		}
	})
}

// TestAStreamThatDoesNotBlock is not taken for one that fails.
func TestAStreamThatDoesNotBlock(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := newStream()
		s.again = 7
		w := New("stderr", s)
		say(t, w, "one\ntwo\n")
		if !w.Flush(time.Second) {
			t.Fatal("not flushed")
		}
		if got := s.lines(); strings.Join(got, "|") != "one|two" || w.Dropped() != 0 {
			t.Errorf("got %q, %d lost", got, w.Dropped())
		}
	})
}

// TestALineThatIsTooLong is lost, and told of although nothing else is written.
func TestALineThatIsTooLong(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := newStream()
		w := New("stderr", s)
		say(t, w, strings.Repeat("x", Room+1))
		if !w.Flush(time.Second) {
			t.Fatal("not flushed")
		}
		if got := s.lines(); strings.Join(got, "|") != "lines lost: 1; stderr did not take them" {
			t.Errorf("got %q", got)
		}
	})
}

// TestOrder: the lines of many writers come out whole, and those of each in its order, whatever the stream takes meanwhile.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := newStream()
	w := New("stderr", s)
	const writers, each = 8, 2000
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for j := range each {
				fmt.Fprintf(w, "%d %d.\n", i, j)
				if i == 0 && j%100 == 0 {
					s.set(10, errors.New("busy"))
				} else if i == 0 && j%100 == 50 {
					s.set(-1, nil)
				}
			}
		})
	}
	all.Wait()
	s.set(-1, nil)
	w.Flush(time.Minute)
	say(t, w, "end\n")
	w.Flush(time.Minute)
	last := [writers]int{}
	for i := range last {
		last[i] = -1
	}
	whole, lost := 0, 0
	for _, line := range s.lines() {
		var i, j, n int
		if _, err := fmt.Sscanf(line, "lines lost: %d; stderr did not take them", &n); err == nil {
			lost += n
			continue
		}
		if _, err := fmt.Sscanf(line, "%d %d.", &i, &j); err != nil {
			continue // cut
		}
		whole++
		if j < last[i] {
			t.Fatalf("writer %d: %d after %d", i, j, last[i])
		}
		last[i] = j
	}
	if lost != int(w.Dropped()) {
		t.Errorf("%d lines were told as lost, %d were", lost, w.Dropped())
	}
	if whole+lost < writers*each {
		t.Errorf("%d lines came and %d were lost, of %d", whole, lost, writers*each)
	}
}

// TestALossIsToldInItsPlace: behind a line that is lost none is taken before that is told, though it would fit.
func TestALossIsToldInItsPlace(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := newStream()
		w := New("stderr", s)
		s.stall()
		say(t, w, "one\n")
		synctest.Wait()
		say(t, w, "two\n")
		say(t, w, strings.Repeat("x", Room))
		say(t, w, "three\n")
		s.goOn()
		synctest.Wait()
		say(t, w, "four\n")
		synctest.Wait()
		want := "one|two|lines lost: 2; stderr did not take them|four"
		if got := strings.Join(s.lines(), "|"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestNoLossIsForgotten: a stream stalls, breaks when it goes on, mends, and is full. All that was lost is told, once.
func TestNoLossIsForgotten(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := newStream()
		w := New("stderr", s)
		s.stall()
		say(t, w, "one\n")
		synctest.Wait()
		for range 3 {
			say(t, w, strings.Repeat("x", Room/2)+"\n")
		}
		s.set(0, syscall.EPIPE)
		s.goOn()
		synctest.Wait()
		told := "lines lost: 4; stderr did not take them"
		s.set(len(told+"\ntwo\n"), syscall.ENOSPC)
		say(t, w, "two\nthree\nfour\n")
		synctest.Wait()
		s.set(-1, nil)
		say(t, w, "five\n")
		synctest.Wait()
		want := told + "|two|lines lost: 2; stderr did not take them|five"
		if got := strings.Join(s.lines(), "|"); got != want || w.Dropped() != 6 {
			t.Errorf("got %.200q, want %q; %d dropped", got, want, w.Dropped())
		}
	})
}
