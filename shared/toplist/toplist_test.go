package toplist

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

// TestTheHeaviestAreFound: whoever makes more than its part is on the list, though thousands make a little, and its rate is not too low.
func TestTheHeaviestAreFound(t *testing.T) {
	var l List[int]
	rng := rand.New(rand.NewPCG(1, 2))
	const seconds, crowd = 300, 5000
	now := epoch
	for range seconds {
		for i := range 100 {
			now = now.Add(10 * time.Millisecond)
			l.Add(crowd+1+i%4/3, 1, now) // one has 75 a second, another 25
			l.Add(rng.IntN(crowd), 1, now)
		}
	}
	top := l.Top(2, now)
	if len(top) != 2 || top[0].Of != crowd+1 || top[1].Of != crowd+2 {
		t.Fatalf("the heaviest are %v", top)
	}
	for i, want := range []float64{75, 25} {
		most := want + 200.0/Size + 1
		if got := top[i].PerSecond; got < want-1 || got > most {
			t.Errorf("%d has %.1f a second, want %.0f to %.0f", top[i].Of, got, want, most)
		}
	}
	if n := len(l.counts); n > Size {
		t.Errorf("%d are counted, of at most %d", n, Size)
	}
}

// TestARateIsRightAtAnyMoment of a half-life, and fades when nothing is added any more.
func TestARateIsRightAtAnyMoment(t *testing.T) {
	var l List[string]
	now := epoch
	for now.Sub(epoch) < 10*time.Minute {
		now = now.Add(100 * time.Millisecond)
		l.Add("a", 2, now)
		if now.Sub(epoch) < 5*time.Minute {
			continue
		}
		if got := l.Top(1, now)[0].PerSecond; math.Abs(got-20) > 0.5 {
			t.Fatalf("after %v it has %.2f a second, want 20", now.Sub(epoch), got)
		}
	}
	if got := l.Top(1, now.Add(2*time.Minute))[0].PerSecond; got > 2 {
		t.Errorf("two minutes later it still has %.1f a second", got)
	}
	if got := l.Top(9, now.Add(365*24*time.Hour)); len(got) != 0 {
		t.Errorf("a year later %v are left", got)
	}
	l.Add("b", 1, now.Add(365*24*time.Hour))
	if got := l.Top(9, now.Add(365*24*time.Hour)); len(got) != 1 || got[0].Of != "b" {
		t.Errorf("then %v", got)
	}
}
