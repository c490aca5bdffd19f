package raftstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"machineid/internal/testkit/bubble"
)

// essentialFor is a command of size bytes, that of an own key for each party.
func essentialFor(ctx context.Context, s *Store, of byte, size int) error {
	_, err := s.ProposeWith(ctx, []byte(string('a'+rune(of))+"="+strings.Repeat("x", size)), ProposeOptions{Essential: true, For: Party{of}})
	return err
}

// Who revokes without end on a full disk leaves the others as much as it takes, for as long as the disk stays full: another party's off switch works at each second (R10, I14).
func TestAFloodOnAFullDiskLeavesOthersRoom(t *testing.T) {
	for _, mute := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			q := newQuotaFS(vfs.NewMem(), disk)
			s, _ := start(t, onFS(q), with(smallBallast))
			q.setMute(mute)
			q.leave(300)
			if err := essentialFor(t.Context(), s, 2, 1); err != nil { // it meets the full disk
				t.Fatal(err)
			}
			taken := 0
			for i := range 60 {
				for _, size := range []int{5000, 1} { // to the last byte
					var err error
					for n := 0; err == nil && n < 3000; n++ {
						if err = essentialFor(t.Context(), s, 1, size); err == nil {
							taken++
						}
					}
					if !errors.Is(err, ErrNoSpace) || !errors.Is(err, ErrSpent) {
						t.Fatalf("the flood ends with %v after %d commands", err, taken)
					}
				}
				if err := essentialFor(t.Context(), s, 2, 1); err != nil {
					t.Fatalf("mute %v: the other's, after %d s and %d commands of the flood, %d bytes left: %v", mute, i, taken, q.remaining(), err)
				}
				time.Sleep(time.Second)
			}
			t.Logf("mute %v: the flood had %d commands, %d bytes are left", mute, taken, q.remaining())
			q.leave(disk / 2)
		})
	}
}

func leftOf(s *Store) int64 {
	s.space.spare.mu.Lock()
	defer s.space.spare.mu.Unlock()
	return s.space.spare.left
}

// A write that meets a full disk once more, because a try to make the ballast again had just filled it, takes nothing from the off switch: a disk that does not tell
// what it has left would never give it back.
func TestAFullDiskThatIsMetAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newQuotaFS(vfs.NewMem(), disk)
		s, _ := start(t, onFS(q), with(smallBallast))
		q.setMute(true)
		q.leave(10)
		propose(t, s, "a=1")
		if err := essentialFor(t.Context(), s, 1, 5000); err != nil {
			t.Fatal(err)
		}
		before := leftOf(s)
		s.space.fullDisk()
		if got := leftOf(s); got != before || before <= 0 {
			t.Errorf("%d bytes may be taken, before %d", got, before)
		}
		q.leave(disk / 2)
	})
}

// What never was sent takes no room, however it ended.
func TestWhatIsNotSentTakesNoRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newQuotaFS(vfs.NewMem(), disk)
		s, _ := start(t, onFS(q), with(smallBallast), with(func(c *Config) { c.DiskCheckInterval = time.Hour }))
		q.leave(10)
		propose(t, s, "a=1")
		synctest.Wait()
		left := func() int64 { return leftOf(s) }
		before := left()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		room := func(n int) (had int) {
			s.packer.mu.Lock()
			defer s.packer.mu.Unlock()
			r := &s.packer.rooms[roomOthers]
			had, r.maxBytes = r.maxBytes, n
			return had
		}
		many := func(ctx context.Context, want error) {
			t.Helper()
			for range 1000 {
				if err := essentialFor(ctx, s, 1, 5000); !errors.Is(err, want) || Unknown(err) {
					t.Fatalf("%v, want %v", err, want)
				}
			}
			if got := left(); got != before || len(s.space.spare.spent) != 0 {
				t.Errorf("%v: %d bytes may be taken, before %d", want, got, before)
			}
		}
		many(gone, context.Canceled)
		had := room(0)
		many(t.Context(), ErrOverloaded)
		room(had)
		if err := essentialFor(t.Context(), s, 1, 5000); err != nil || left() >= before {
			t.Errorf("%v: %d bytes may be taken, before %d", err, left(), before)
		}
		q.leave(disk / 2)
	})
}

// Parties have shares, what came back is theirs again, and what was said since is not undone.
func TestAllowance(t *testing.T) {
	var a allowance
	one, other := Party{1}, Party{2}
	take := func(of Party, n int64, want bool) spending {
		t.Helper()
		sp, ok := a.take(of, n)
		if ok != want {
			t.Errorf("%d of %d for %v, who had %d: %v", n, a.left, of[0], a.spent[of], ok)
		}
		return sp
	}
	a.set(100, true)
	take(one, 51, false)
	take(one, 40, true)
	take(one, 10, true)
	take(one, 1, false)
	take(other, 26, false)
	take(other, 20, true)
	a.set(30, false) // as counted: shares stay
	take(one, 1, false)
	take(other, 5, true)
	a.set(90, false) // of 75 only 10 are gone
	if a.spent[one] != 6 || a.spent[other] != 3 {
		t.Errorf("after room came back: %v", a.spent)
	}
	sp := take(one, 20, true)
	a.giveBack(sp)
	if a.left != 90 || a.spent[one] != 6 {
		t.Errorf("given back: %d left, %v", a.left, a.spent)
	}
	sp = take(one, 20, true)
	a.set(70, false)
	a.giveBack(sp)
	if a.left != 70 || a.spent[one] != 26 {
		t.Errorf("given back after it was said: %d left, %v", a.left, a.spent)
	}
	take(Party{}, 70, true) // the program's
	take(Party{}, 1, false)
	a.set(100, false)
	if len(a.spent) != 0 {
		t.Errorf("nothing is gone: %v", a.spent)
	}
	take(one, 50, true)
	a.set(-8, true)
	if len(a.spent) != 0 {
		t.Errorf("begun anew: %v", a.spent)
	}
	take(Party{}, 1, false)
}
