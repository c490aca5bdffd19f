package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"machineid/internal/testkit/bubble"
	"machineid/internal/testkit/injected"
)

const (
	mib  = 1 << 20
	disk = 1 << 30 // of the tests
)

// smallBallast keeps the tests' memory small; the reserve is that of a small disk too.
func smallBallast(c *Config) { c.BallastBytes, c.DiskReserveBytes = 2*mib, 50*mib }

func essential(ctx context.Context, s *Store, cmd string) error {
	_, err := s.ProposeWith(ctx, []byte(cmd), ProposeOptions{Essential: true})
	return err
}

func ballastSize(fs vfs.FS) int64 {
	info, err := fs.Stat(fs.PathJoin("data", nameBallast))
	if err != nil {
		return 0
	}
	return info.Size()
}

// When little is left, ordinary commands are refused at once, essential ones and reads go on, and the store opens again only when
// there is clearly more room (R10).
func TestNearlyFullDisk(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newQuotaFS(vfs.NewMem(), disk)
		s, _ := start(t, onFS(q), with(smallBallast))
		if n := ballastSize(q); n != 2*mib {
			t.Fatalf("the ballast has %d bytes", n)
		}
		low, resume := s.space.limits(disk)
		propose(t, s, "a=1")
		for _, step := range []struct {
			left   uint64
			closed bool
		}{{low, false}, {low - 1, true}, {low, true}, {resume - 1, true}, {resume, false}, {low + 1, false}, {0, true}, {resume, false}} {
			q.leave(int64(step.left))
			time.Sleep(1100 * time.Millisecond)
			began := time.Now()
			q.leave(disk / 2) // so that only the look counts, not the disk
			_, err := s.Propose(t.Context(), []byte("b=1"))
			if got := errors.Is(err, ErrNoSpace); got != step.closed || Unknown(err) || (err != nil) != step.closed {
				t.Errorf("%d left of %d: %v", step.left, disk, err)
			}
			if step.closed && !time.Now().Equal(began) {
				t.Errorf("the refusal took %s", time.Since(began))
			}
			if err := essential(t.Context(), s, "off=1"); err != nil {
				t.Errorf("%d left: essential: %v", step.left, err)
			}
			reasons := strings.Join(s.Reasons(), "|")
			if got := strings.HasPrefix(reasons, "disk: "); got != step.closed || (s.Health() != nil) != step.closed {
				t.Errorf("%d left: reasons %q, health %v", step.left, reasons, s.Health())
			}
		}
	})
}

// The reserve is what was asked for, whatever the disk's size, and a quarter of a small disk.
func TestDiskReserve(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		configured  int64
		total, want uint64
	}{
		{0, 100 * gib, gib},
		{0, 4000 * gib, gib},
		{0, 4 * gib, gib},
		{0, 2 * gib, gib / 2},
		{20 * gib, 4000 * gib, 20 * gib},
		{20 * gib, 40 * gib, 10 * gib},
		{64 * mib, 100 * gib, 64 * mib},
		{-1, 100 * gib, 0},
	} {
		cfg := Config{DiskReserveBytes: c.configured}.withDefaults()
		s := newSpace(&cfg, &aside{})
		s.usage.Store(&vfs.DiskUsage{TotalBytes: c.total, AvailBytes: 7})
		low, resume := s.limits(c.total)
		if left, reserve := s.room(); low != c.want || reserve != c.want || left != 7 || resume != c.want+c.want/resumeShare {
			t.Errorf("%d of a disk of %d: %d, open again at %d; told %d of %d", c.configured, c.total, low, resume, left, reserve)
		}
	}
}

// A node tells what its disk has left and what its reserve is, to others and as metrics.
func TestStatusTellsOfTheDisk(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newQuotaFS(vfs.NewMem(), disk)
		s, _ := start(t, onFS(q), with(smallBallast))
		about := func(left, want uint64) bool { return left <= want && left > want-mib } // the node itself writes a little
		q.leave(60 * mib)
		time.Sleep(1100 * time.Millisecond)
		if got := s.Status(); !about(got.DiskLeft, 60*mib) || got.DiskReserve != 50*mib || got.DiskFull {
			t.Errorf("%+v", got)
		}
		q.leave(40 * mib)
		time.Sleep(1100 * time.Millisecond)
		if got := s.Status(); !about(got.DiskLeft, 40*mib) || !got.DiskFull {
			t.Errorf("%+v", got)
		}
		q.leave(disk / 2)
	})
}

// A disk that does not say what it has left is asked again and again. Until it answers, a write that finds it full closes the store, and room for
// the ballast opens it: one failed question must not close a node until it is started again.
func TestDiskThatDoesNotTell(t *testing.T) {
	closed := func(t *testing.T, s *Store, want bool, when string) {
		t.Helper()
		if got := s.space.closed.Load(); got != want {
			t.Errorf("%s: closed is %v", when, got)
		}
	}
	look := time.Second + 100*time.Millisecond
	t.Run("from the start", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			mem := vfs.NewMem()
			before, _ := start(t, onFS(newQuotaFS(mem, disk)), with(smallBallast))
			stop(t, before)
			q := newQuotaFS(mem, disk)
			q.charged[q.PathJoin("data", nameBallast)] = 2 * mib
			q.setMute(true)
			s, _ := start(t, onFS(q), with(smallBallast))
			if s.space.ballast.size.Load() != 2*mib {
				t.Error("the ballast of the run before is not known: it could not be released")
			}
			propose(t, s, "a=1")
			q.leave(10)
			propose(t, s, "b=1") // the ballast pays for it
			closed(t, s, true, "after a write that met a full disk")
			q.leave(disk / 2)
			time.Sleep(resumeAfter / 2)
			closed(t, s, true, "a moment later")
			time.Sleep(resumeAfter)
			closed(t, s, false, "with room, unknown")
			q.leave(40 * mib)
			q.setMute(false)
			time.Sleep(look)
			closed(t, s, true, "it tells, and is nearly full")
			q.leave(disk / 2)
			time.Sleep(look)
			closed(t, s, false, "it tells that there is room")
			if ballastSize(q) != 2*mib {
				t.Errorf("the ballast has %d bytes", ballastSize(q))
			}
			propose(t, s, "c=1")
		})
	})
	t.Run("once it is full", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			q := newQuotaFS(vfs.NewMem(), disk)
			s, _ := start(t, onFS(q), with(smallBallast))
			q.setMute(true)
			q.leave(10)
			propose(t, s, "b=1")
			closed(t, s, true, "after a write that met a full disk")
			q.leave(mib) // no room for the ballast
			time.Sleep(time.Hour)
			closed(t, s, true, "without room for the ballast")
			q.leave(disk / 2)
			time.Sleep(look)
			closed(t, s, false, "with room")
			if ballastSize(q) != 2*mib {
				t.Errorf("the ballast has %d bytes", ballastSize(q))
			}
			propose(t, s, "c=1")
		})
	})
	t.Run("one question while it is nearly full", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			q := newQuotaFS(vfs.NewMem(), disk)
			s, _ := start(t, onFS(q), with(smallBallast))
			q.leave(40 * mib)
			time.Sleep(look)
			closed(t, s, true, "nearly full")
			q.setMute(true)
			time.Sleep(2 * look)
			closed(t, s, true, "what was known stays")
			q.setMute(false)
			q.leave(disk / 2)
			time.Sleep(look)
			closed(t, s, false, "it tells that there is room")
		})
	})
}

// flaps counts how often a store changes its mind while a disk's rest swings by 1 % around the limit.
func flaps(t *testing.T, k knobs) int {
	t.Helper()
	changes := 0
	bubble.Test(t, func(t *testing.T) {
		q := newQuotaFS(vfs.NewMem(), disk)
		s, _ := start(t, onFS(q), with(smallBallast), withKnobs(k))
		low, _ := s.space.limits(disk)
		closed := false
		for i := range 20 {
			q.leave(int64(low) + int64(low)/100*int64(1-i%2*2))
			time.Sleep(time.Second)
			synctest.Wait()
			if now := s.space.closed.Load(); now != closed {
				closed = now
				changes++
			}
		}
		q.leave(disk / 2)
	})
	return changes
}

func TestNearlyFullDiskDoesNotFlap(t *testing.T) {
	if n := flaps(t, knobs{}); n != 1 {
		t.Errorf("it changed %d times", n)
	}
	if n := flaps(t, knobs{noHysteresis: true}); n < 10 {
		t.Errorf("without hysteresis it changed only %d times: the test proves nothing", n)
	}
}

// A write that meets a full disk is tried again with the room of the ballast, and the store goes on with what is essential. When
// there is room again, the ballast comes back first, then the other commands (R10).
func TestFullDiskRecovers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newQuotaFS(vfs.NewMem(), disk)
		s, _ := start(t, onFS(q), with(smallBallast))
		propose(t, s, "a=1")
		q.leave(10) // between two looks
		if _, err := s.Propose(t.Context(), []byte("b=1")); err != nil {
			t.Fatalf("the write that met the full disk: %v", err)
		}
		if q.hits == 0 || ballastSize(q) != 0 {
			t.Fatalf("%d writes met the full disk, the ballast has %d bytes", q.hits, ballastSize(q))
		}
		if _, err := s.Propose(t.Context(), []byte("c=1")); !errors.Is(err, ErrNoSpace) {
			t.Errorf("after it: %v", err)
		}
		if err := essential(t.Context(), s, "off=1"); err != nil {
			t.Errorf("essential: %v", err)
		}
		low, resume := s.space.limits(disk)
		q.leave(int64(low))
		time.Sleep(time.Minute)
		if _, err := s.Propose(t.Context(), []byte("c=1")); !errors.Is(err, ErrNoSpace) || ballastSize(q) != 0 {
			t.Errorf("with a little room: %v, ballast %d", err, ballastSize(q))
		}
		q.leave(int64(resume) + 2*mib - 1) // it would be the ballast's
		time.Sleep(time.Minute)
		if _, err := s.Propose(t.Context(), []byte("c=1")); !errors.Is(err, ErrNoSpace) || ballastSize(q) != 0 {
			t.Errorf("with a little less than is needed: %v, ballast %d", err, ballastSize(q))
		}
		q.leave(int64(resume) + 2*mib)
		time.Sleep(1100 * time.Millisecond)
		if ballastSize(q) != 2*mib || q.remaining() != int64(resume) {
			t.Errorf("with room: ballast %d, %d left", ballastSize(q), q.remaining())
		}
		propose(t, s, "c=1")
		// Met again, the usage says there is room: a quota, or others who free and fill. It is not open again at once.
		q.leave(0)
		propose(t, s, "d=1")
		q.leave(disk / 2)
		time.Sleep(resumeAfter - 2*time.Second)
		if _, err := s.Propose(t.Context(), []byte("e=1")); !errors.Is(err, ErrNoSpace) {
			t.Errorf("at once after a full disk: %v", err)
		}
		time.Sleep(4 * time.Second)
		propose(t, s, "e=1")
	})
}

// Who takes rights away without end on a full disk is refused before the room is gone on which the node itself lives: it goes on to lead, to take what leading depends on,
// and all else when there is room again (R10, I14).
func TestAFloodOnAFullDisk(t *testing.T) {
	for _, mute := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			q := newQuotaFS(vfs.NewMem(), disk)
			n := newNode(onFS(q), with(smallBallast))
			s := must[*Store](t)(n.open())
			defer stop(t, s)
			waitLeading(t, s)
			q.setMute(mute)
			q.leave(300)
			taken := 0
			flood := func() (err error) {
				for range 300 {
					if err = essential(t.Context(), s, "k="+strings.Repeat("x", 5000)); err != nil {
						return err
					}
					taken++
				}
				return nil
			}
			for i := range 30 {
				if err := flood(); !errors.Is(err, ErrNoSpace) || Unknown(err) {
					t.Fatalf("the flood ends with %v after %d commands", err, taken)
				}
				if _, err := s.ProposeWith(t.Context(), []byte("time=1"), ProposeOptions{Essential: true, Urgent: true}); err != nil {
					t.Fatalf("what leading depends on, after %d s: %v", i, err)
				}
				time.Sleep(time.Second)
			}
			if least := int64(2*mib/ownShare - 200*1024); q.remaining() < least || taken < 10 {
				t.Errorf("%d commands were taken, %d bytes are left of the ballast", taken, q.remaining())
			}
			select {
			case err := <-n.fatal:
				t.Errorf("the node ends: %v", err)
			default:
			}
			q.leave(disk / 2)
			time.Sleep(2 * resumeAfter)
			propose(t, s, "a=1")
			if err := flood(); err != nil {
				t.Errorf("with room: %v", err)
			}
		})
	}
}

// What may be taken of a disk is what is left, and the ballast, but for the node's own part and what is under way.
func TestWhatIsSpared(t *testing.T) {
	cfg := Config{BallastBytes: 8 * mib}.withDefaults()
	s := newSpace(&cfg, &aside{})
	s.pending = func() int { return mib }
	s.closed.Store(true)
	for _, c := range []struct{ left, ballast, want int64 }{{100, 8, 100}, {0, 8, 0}, {4, 4, 0}, {0, 0, -8}} {
		s.ballast.size.Store(c.ballast * mib)
		s.allow(&vfs.DiskUsage{TotalBytes: 100 << 30, AvailBytes: uint64(c.left * mib)})
		if got := s.spare.left; got != c.want*mib {
			t.Errorf("%d MiB left and a ballast of %d: %d may be taken, want %d", c.left, c.ballast, got/mib, c.want)
		}
	}
	s.spare.set(10*diskBytes, true)
	spend := func(bytes int) error {
		_, err := s.spend(Party{}, bytes)
		return err
	}
	if spend(6) != nil || spend(6) == nil || spend(4) != nil || spend(1) == nil {
		t.Error("not as much is taken as there is")
	}
	s.closed.Store(false)
	if spend(1<<20) != nil || s.spare.left != 0 {
		t.Error("it counts while there is room")
	}
}

// fillUp fills the disk of a node and goes on with urgent commands until it stops. It returns what was acknowledged, how many
// of those came after the disk was full, and what the node said in the end.
func fillUp(t *testing.T, under vfs.FS, q *quotaFS, k knobs) (acked []string, afterwards int, said error) {
	t.Helper()
	n := newNode(onFS(under), with(smallBallast), with(func(c *Config) { c.DiskCheckInterval = time.Hour }), withKnobs(k))
	s := must[*Store](t)(n.open())
	waitLeading(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range 500 {
		if i == 5 {
			q.leave(300)
		}
		cmd := fmt.Sprintf("k%d", i)
		_, err := s.ProposeWith(ctx, []byte(cmd+"="+strings.Repeat("x", 20_000)), ProposeOptions{Essential: true, Urgent: true})
		if err != nil {
			if ctx.Err() != nil {
				t.Error("it hangs")
			}
			break
		}
		acked = append(acked, cmd)
		if i >= 5 {
			afterwards++
		}
	}
	stop(t, s)
	select {
	case said = <-n.fatal:
	case <-ctx.Done():
		t.Error("the node did not stop")
	}
	return acked, afterwards, said
}

// What leading depends on goes on while the ballast lasts; then the node stops and says why, it does not hang, and what it acknowledged
// is there after a crash (R5, R10). Without the release of the ballast nothing goes on at all.
func TestFullDiskStopsInOrder(t *testing.T) {
	for _, stays := range []bool{false, true} {
		t.Run(fmt.Sprintf("ballast_stays=%v", stays), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			q := newQuotaFS(mem, disk)
			acked, afterwards, said := fillUp(t, q, q, knobs{ballastStays: stays})
			if said == nil || !strings.Contains(said.Error(), "no space left") {
				t.Errorf("it said %v", said)
			}
			if stays != (afterwards == 0) {
				t.Errorf("%d commands were acknowledged after the disk was full", afterwards)
			}
			t.Logf("%d commands of 20 kB after the disk was full: %v", afterwards, said)
			holds(t, mem.CrashClone(vfs.CrashCloneCfg{}), acked)
		})
	}
}

// holds opens a disk after a crash and looks for keys.
func holds(t *testing.T, fs vfs.FS, keys []string) {
	t.Helper()
	s, _ := start(t, onFS(fs), with(smallBallast))
	defer stop(t, s)
	for _, key := range keys {
		if _, ok := valueOf(t, s, key); !ok {
			t.Errorf("%s was acknowledged and is lost", key)
		}
	}
}

// A crash at any write around making, releasing and making the ballast again loses nothing, and the next start has one again, on
// a disk with room and on a full one (R10).
func TestFullDiskCrashes(t *testing.T) {
	type crash struct {
		fs    *vfs.MemFS
		acked int
	}
	rng := newRand(t)
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex
	var crashes []crash
	faults := injected.Needed(t, "a crash around the ballast", "a crash in the log", "a write on the full disk")
	acked, armed := 0, false // until it is open: before, only the ballast's own operations count
	q := newQuotaFS(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if (armed || strings.HasSuffix(op.Path, nameBallast) && acked == 0) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			pct := percentages[len(crashes)%len(percentages)]
			switch {
			case strings.HasSuffix(op.Path, nameBallast):
				faults.Did("a crash around the ballast")
			case strings.Contains(op.Path, "/"+nameLog):
				faults.Did("a crash in the log")
			}
			crashes = append(crashes, crash{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: pct, RNG: rng}), acked})
		}
		return nil
	})), disk)
	s, _ := start(t, onFS(q), with(smallBallast), with(func(c *Config) { c.DiskCheckInterval = time.Hour }))
	mu.Lock()
	armed = true
	mu.Unlock()
	ack := func() {
		if err := essential(t.Context(), s, fmt.Sprintf("k%d=v", acked)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		acked++
		mu.Unlock()
	}
	for range 2 {
		ack()
		q.leave(20)
		for range 3 {
			ack()
		}
		q.leave(disk / 2)
		s.space.mu.Lock()
		s.space.fullAt = time.Now().Add(-time.Hour)
		s.space.mu.Unlock()
		s.space.kick <- struct{}{}
		eventually(t, "the ballast is in place again", func() bool { return s.space.ballast.size.Load() == 2*mib })
	}
	mu.Lock()
	armed = false
	made := crashes
	mu.Unlock()
	step := 1
	if testing.Short() {
		step = 3
	}
	verified := 0
	for i := 0; i < len(made); i += step {
		c := made[i]
		after := newQuotaFS(c.fs, disk)
		if i%2 == 0 {
			after.leave(8 * mib) // far below the limit
		}
		s, _ := start(t, onFS(after), with(smallBallast))
		for i := range c.acked {
			if _, ok := valueOf(t, s, fmt.Sprintf("k%d", i)); !ok {
				t.Errorf("crash %d: k%d was acknowledged and is lost", i, i)
			}
		}
		if err := essential(t.Context(), s, "off=1"); err != nil || ballastSize(after) != 2*mib {
			t.Errorf("crash %d: %v, ballast %d", i, err, ballastSize(after))
		}
		stop(t, s)
		verified++
	}
	q.mu.Lock()
	faults.Add("a write on the full disk", q.hits)
	q.mu.Unlock()
	t.Logf("%d crashes verified; %v", verified, faults)
}
