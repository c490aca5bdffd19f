package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// smallDisk keeps a disk of a few GiB usable: the reserve is a quarter of it at most.
	smallDisk = 4
	// resumeShare is by how much more than the limit must be left before commands are taken again.
	resumeShare = 4
	// resumeAfter is how long a disk must not have been full: what GetDiskUsage says is not the whole truth (quotas).
	resumeAfter = 10 * time.Second
	// ownShare is the part of the ballast that is for the node's own work: time, leases, the membership.
	ownShare = 2
	// diskBytes is how many bytes of a disk one of a command takes, about: in the log, in its tables, in the state's, and while those are merged.
	diskBytes = 4
)

// space watches how much the disk of the data folder has left, and says what may still be proposed (R10). It is closed to
// ordinary commands when little is left, or at once when a write met a full disk, which also releases the ballast. It opens
// again only when there is clearly more room, and the ballast is in place: a limit without hysteresis would flap, because each
// refusal and each compaction changes what is left. A disk that does not say what it has left is judged by its writes alone.
//
// mu is never held across a file operation: fullDisk is called while all writes of the process wait for it.
type space struct {
	fs      vfs.FS // as configured, below the wrappers
	dir     string
	cfg     *Config
	logger  *slog.Logger
	aside   *aside
	ballast ballast
	kick    chan struct{} // capacity 1: look now

	closed atomic.Bool
	// spare is what essential commands may still take of the disk while it is closed, as of the last look. Whoever takes rights away without end takes
	// nothing of what the node itself lives on, and leaves others as much as it takes (I14).
	spare   allowance
	pending func() int                    // bytes of commands under way; nil: none yet
	usage   atomic.Pointer[vfs.DiskUsage] // as last told, nil: never
	mute    bool                          // it never tells, such as a file system in memory; set by begin
	silent  bool                          // the last look got no answer; of the goroutine that looks
	told    time.Time                     // when the last answer came, likewise

	mu     sync.Mutex
	fulls  int // how often a write met a full disk
	fullAt time.Time
}

func newSpace(cfg *Config, a *aside) *space {
	s := &space{fs: cfg.FS, dir: cfg.Dir, cfg: cfg, logger: cfg.Logger, aside: a, kick: make(chan struct{}, 1)}
	s.ballast = ballast{fs: cfg.FS, dir: cfg.Dir, path: cfg.FS.PathJoin(cfg.Dir, nameBallast)}
	return s
}

// limits returns below how much left commands are refused, the reserve, and from how much on they are taken again.
func (s *space) limits(total uint64) (low, resume uint64) {
	low = min(uint64(s.cfg.DiskReserveBytes), total/smallDisk)
	if s.cfg.knobs.noHysteresis {
		return low, low
	}
	return low, low + low/resumeShare
}

// begin looks at the disk for the first time, and takes over or makes the ballast. Nothing of it keeps the node from starting: a
// full disk is a reason to start, so that something can be revoked.
func (s *space) begin() {
	s.told = time.Now()
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		s.mute = errors.Is(err, vfs.ErrUnsupported)
		s.unanswered(err)
		if err := s.ballast.find(s.cfg.BallastBytes); err != nil { // of a run before: it is there to be released
			s.logger.Warn("there is no ballast for a full disk", slog.Any("cause", err))
		}
		return
	}
	s.usage.Store(&usage)
	low, resume := s.limits(usage.TotalBytes)
	s.allow(&usage)
	s.closed.Store(usage.AvailBytes < low)
	wanted := s.ballast.wanted(s.cfg.BallastBytes, usage.TotalBytes)
	err = s.ballast.find(wanted)
	size := wanted
	if have := s.ballast.size.Load(); usage.AvailBytes+uint64(have) < resume+uint64(wanted) {
		size = max(have, min(wanted, int64(usage.AvailBytes/ballastFree)))
	}
	if err == nil && size >= leastBallast {
		err = s.ballast.make(size)
	}
	attrs := []any{
		slog.Int64("bytes", s.ballast.size.Load()), slog.Int64("configured", s.cfg.BallastBytes),
		slog.Uint64("disk_left", usage.AvailBytes), slog.Uint64("disk_total", usage.TotalBytes),
	}
	switch have := s.ballast.size.Load(); {
	case err != nil:
		s.logger.Warn("there is no ballast for a full disk", append(attrs, slog.Any("cause", err))...)
	case have == 0 && s.cfg.BallastBytes > 0:
		s.logger.Warn("there is no ballast for a full disk: the disk is too small or too full", attrs...)
	case have < s.cfg.BallastBytes:
		s.logger.Warn("the ballast is smaller than configured: the disk is small or nearly full", attrs...)
	}
	if s.closed.Load() {
		s.logger.Error("the disk is nearly full: only commands that free or stop something are taken",
			slog.Uint64("disk_left", usage.AvailBytes), slog.Uint64("needed", resume))
	}
}

// run looks at the disk from time to time until done. It is on a goroutine of its own, because asking a dead disk may hang.
func (s *space) run(done, tripped <-chan struct{}) {
	tick := time.NewTicker(s.cfg.DiskCheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tripped:
			return
		case <-tick.C:
		case <-s.kick:
		}
		s.look()
	}
}

// look settles whether commands are taken, and makes the ballast again when there is room for it.
func (s *space) look() {
	s.mu.Lock()
	fulls, since := s.fulls, time.Since(s.fullAt)
	s.mu.Unlock()
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		s.lookBlind(err, fulls, since)
		return
	}
	s.answered()
	s.usage.Store(&usage)
	low, resume := s.limits(usage.TotalBytes)
	s.allow(&usage)
	wanted := s.ballast.wanted(s.cfg.BallastBytes, usage.TotalBytes)
	missing := max(wanted-s.ballast.size.Load(), 0)
	if usage.AvailBytes < low {
		if !s.closed.Swap(true) {
			s.aside.do(func() {
				s.logger.Error("the disk is nearly full: only commands that free or stop something are taken; free space, or "+
					"enlarge the disk", slog.Uint64("disk_left", usage.AvailBytes), slog.Uint64("needed", resume))
			})
		}
		return
	}
	held := fulls > 0 && since < resumeAfter && !s.cfg.knobs.noHysteresis
	if held || usage.AvailBytes < resume+uint64(missing) {
		return
	}
	s.reopen(wanted, missing, fulls, slog.Uint64("disk_left", usage.AvailBytes))
}

// lookBlind is a look at a disk that does not say what it has left. What was known stays for a while. Then a store that is closed opens when
// the disk has not been full for as long and the ballast is there, or can be made: that is room which no answer need vouch for.
func (s *space) lookBlind(cause error, fulls int, since time.Duration) {
	s.unanswered(cause)
	if !s.closed.Load() || (fulls > 0 && since < resumeAfter) || time.Since(s.told) < resumeAfter {
		return
	}
	var wanted int64
	if known := s.usage.Load(); known != nil {
		wanted = s.ballast.wanted(s.cfg.BallastBytes, known.TotalBytes)
	}
	s.reopen(wanted, max(wanted-s.ballast.size.Load(), 0), fulls, slog.String("disk_left", "unknown"))
}

// unanswered notes that the disk does not say what it has left.
func (s *space) unanswered(cause error) {
	if s.silent {
		return
	}
	s.silent = true
	level := slog.LevelWarn
	if s.mute {
		level = slog.LevelDebug
	}
	s.aside.do(func() {
		s.logger.Log(context.Background(), level, "the file system does not say how much is left: nothing is refused before a write finds it full; it is asked again",
			slog.Any("cause", cause))
	})
}

func (s *space) answered() {
	s.told = time.Now()
	if s.silent {
		s.silent = false
		s.aside.do(func() { s.logger.Info("the file system says again how much is left") })
	}
}

// reopen makes what the ballast is short of, and then takes all commands again, unless a write met a full disk meanwhile.
func (s *space) reopen(wanted, missing int64, fulls int, left slog.Attr) {
	if missing > 0 {
		if err := s.ballast.make(wanted); err != nil {
			s.aside.do(func() { s.logger.Warn("the ballast could not be made again", slog.Any("cause", err)) })
			return
		}
		s.aside.do(func() { s.logger.Info("the ballast is in place again", slog.Int64("bytes", wanted)) })
	}
	s.mu.Lock()
	opened := s.fulls == fulls && s.closed.Swap(false)
	s.mu.Unlock()
	if opened {
		s.aside.do(func() {
			s.logger.LogAttrs(context.Background(), slog.LevelInfo, "the disk has room again: all commands are taken", left)
		})
	}
}

// room is what the disk has left and below how much it is closed to ordinary commands, zeros while unknown.
func (s *space) room() (left, reserve uint64) {
	u := s.usage.Load()
	if u == nil {
		return 0, 0
	}
	reserve, _ = s.limits(u.TotalBytes)
	return u.AvailBytes, reserve
}

// fullDisk is called when a write met a full disk, before it is tried again. Writes wait until it returns.
func (s *space) fullDisk() {
	s.mu.Lock()
	s.fulls++
	s.fullAt = time.Now()
	anew := !s.closed.Load()
	s.closed.Store(true)
	s.mu.Unlock()
	// Without a ballast what was known to be left stays: if that is not there, the write fails again; and if another try to make the ballast had just taken it, it is.
	known := !anew && s.ballast.size.Load() == 0
	if !known {
		s.spare.set(0, anew)
	}
	if s.cfg.knobs.ballastStays {
		return
	}
	bytes, err := s.ballast.release()
	if !known {
		s.spare.set(bytes-bytes/ownShare, false)
	}
	s.aside.do(func() {
		s.logger.Error("the disk is full: the ballast is released, and only commands that free or stop something are taken; "+
			"free space, or enlarge the disk", slog.Int64("released", bytes), slog.Any("cause", err))
	})
	s.lookNow()
}

// lookNow makes run look at the disk at once. It does not wait.
func (s *space) lookNow() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// refuse says why an ordinary command is not taken now, nil if it is.
func (s *space) refuse() error {
	if s == nil || !s.closed.Load() {
		return nil
	}
	return fmt.Errorf("%w, only what takes rights away is done here: %s", ErrNoSpace, s.shortage())
}

// shortage is Shortage as far as it is known.
func (s *space) shortage() string {
	if left, reserve := s.room(); reserve > 0 {
		return Shortage(left, reserve)
	}
	return "make room"
}

// Shortage says how full a nearly full disk is, of what NodeStatus tells of it, and what is to be done.
func Shortage(left, reserve uint64) string {
	return fmt.Sprintf("%s are left, of a reserve of %s; make room, for a quarter more than that", Size(left), Size(reserve))
}

// Size is a number of bytes for people.
func Size(bytes uint64) string {
	const step = 1 << 10
	if bytes < step {
		return fmt.Sprintf("%dB", bytes)
	}
	size, units := float64(bytes)/step, "KMGT"
	for ; size >= step && len(units) > 1; units = units[1:] {
		size /= step
	}
	return fmt.Sprintf("%.1f%ciB", size, units[0])
}

// allow says what essential commands may take of what is left, the ballast counted.
func (s *space) allow(u *vfs.DiskUsage) {
	own := s.ballast.wanted(s.cfg.BallastBytes, u.TotalBytes) / ownShare
	left := int64(min(u.AvailBytes, 1<<62)) + s.ballast.size.Load() - own
	if s.pending != nil {
		left -= diskBytes * int64(s.pending())
	}
	s.spare.set(left, !s.closed.Load())
}

// spend takes room for a party's essential command, or says why there is none for it.
func (s *space) spend(of Party, bytes int) (spending, error) {
	if s == nil || !s.closed.Load() {
		return spending{}, nil
	}
	if sp, ok := s.spare.take(of, diskBytes*int64(bytes)); ok {
		return sp, nil
	}
	return spending{}, fmt.Errorf("%w, and %w: %s", ErrNoSpace, ErrSpent, s.shortage())
}

// isNoSpace reports whether a disk is full, in the words of this system.
func isNoSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || vfs.IsNoSpaceError(err) }

// aside runs a few short things, such as writing to the log, for those that must not wait for a disk: the log may be on the
// very disk that hangs. What comes while several hang already is dropped.
type aside struct{ under atomic.Int32 }

const mostAside = 16

func (a *aside) do(f func()) {
	if a.under.Add(1) > mostAside {
		a.under.Add(-1)
		return
	}
	go func() {
		defer a.under.Add(-1)
		f()
	}()
}
