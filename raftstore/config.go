package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits of one Raft entry (DESIGN.md, Packing). They bound the worst AppendEntries message: maxAppendEntries of them.
const (
	// MaxPackCommands is the most commands that share one entry.
	MaxPackCommands = 512
	// MaxPackBytes is the most bytes of commands in one entry, framing not counted, and so the largest single command.
	MaxPackBytes = 512 << 10

	entriesInFlight  = 4
	maxAppendEntries = 16
)

// MinDeadServerAfter is the least Config.DeadServerAfter: a restart must not cost a member its place.
const MinDeadServerAfter = time.Minute

// MinHeartbeatTimeout is the least Config.HeartbeatTimeout: raft sends ten heartbeats in it.
const MinHeartbeatTimeout = 100 * time.Millisecond

// DefaultDiskReserve is what Config.DiskReserveBytes is if it is not set.
const DefaultDiskReserve = 1 << 30

// DefaultCacheBytes is what Config.CacheBytes is if it is not set.
const DefaultCacheBytes = 32 << 20

// exitFault is the exit status of the default Fatal hook (EX_SOFTWARE of sysexits.h).
const exitFault = 70

// lastWords is how long the end of the process waits for the log.
const lastWords = time.Second

// Config says how to open a [Store]. ID, Dir and one of Listener and Transport are required; the zero value of everything else
// is a sensible default.
type Config struct {
	// ID is the stable name of this node. It is written to the data folder at the first start and cannot change.
	ID string
	// Dir is the data folder. It is created if missing. One process at a time may use it.
	Dir string
	// FS is where Dir lives; nil means the disk. Every file access goes through it.
	FS vfs.FS
	// Listener receives Raft traffic. The Store owns it from the call to Open on, also when Open fails.
	Listener net.Listener
	// Advertise is the address at which other nodes reach Listener; empty means Listener's own.
	Advertise string
	// Dial opens a connection to another node's Listener; nil means TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Speaks says of the first bytes that came from an address who is there instead of a node, "" if that is not known; nil: it is never known.
	Speaks func(first []byte) string
	// Transport replaces Listener in tests, and Peers what else Listener carries; without Peers, a node can neither confirm that
	// it leads among several voters nor change who they are.
	Transport raft.Transport
	Peers     Peers
	// Bootstrap forms a cluster of this one node if, and only if, the data folder holds no state.
	Bootstrap bool
	// Version is what this node says of its program in NodeStatus, and About what else: a few short strings, 2 KiB at most.
	Version string
	About   map[string]string
	// NewestFormat is the newest format that Machine knows; a new cluster begins with it, an older one is at it after RaiseFormat. Default: the newest of
	// this package. What the numbers mean to Machine is its own affair: an entry of the log says from where on they count (Store.Format).
	NewestFormat int
	// Wall is this node's wall clock as it tells others; nil means time.Now.
	Wall func() time.Time
	// ClockOff says how far that clock is off those of the others, ahead is positive, and false while this node does not know; nil: it never does.
	ClockOff func() (time.Duration, bool)
	// Unfit says why this node should not lead now, "" if nothing speaks against it, in 1 KiB at most; nil: nothing ever does. Nobody hands over to
	// such a node; elections do not ask.
	Unfit func() string
	// Logger receives what an operator should know; nil discards it.
	Logger *slog.Logger
	// Flush returns when what Logger took is written, before a fault ends the process; it is waited for a second at most. nil: it is written already.
	Flush func()
	// Registerer receives the metrics; nil means none. Close takes them out again.
	Registerer prometheus.Registerer
	// Lead is called in a goroutine of its own in each term this node leads, after a barrier of that term was applied. ctx ends
	// when the node no longer leads that term, or closes. The call for the next term begins only after this one returned.
	Lead func(ctx context.Context, term uint64)
	// LeaderSeen is told of each leader that this node learns of, itself included: its name, "" if it is known no more by then, and this node's term. It
	// must not block; nil: nobody is told.
	LeaderSeen func(id string, term uint64)
	// Fatal is called once, on a fault after which nothing may be answered any more: a failed write or sync, corruption, a
	// command that cannot be applied. It must not return. nil logs the cause and ends the process with status 70.
	Fatal func(error)

	// CacheBytes is how much memory blocks of the state may take whatever its memtables take; as long as those are small it is 64 MiB more. Default 32 MiB.
	CacheBytes int64
	// OpenFiles is how many files each of the two databases keeps open, about. Default 1,000.
	OpenFiles int
	// LogCacheBytes bounds the newest log entries kept in memory for followers and for Apply. Default 16 MiB.
	LogCacheBytes int
	// MaxPendingBytes bounds what Propose accepts before it answers ErrOverloaded. Default 64 MiB.
	MaxPendingBytes int
	// HeartbeatTimeout is how long a follower waits for its leader before it stands for election, and a leader for a quorum before
	// it steps down; the election time-out is the same. Equal on all nodes. Default 500 ms, [MinHeartbeatTimeout] at least.
	HeartbeatTimeout time.Duration
	// SnapshotInterval is how often the log is considered for truncation (at random between it and twice it). Default 30 s.
	SnapshotInterval time.Duration
	// SnapshotThreshold is how many entries must have come since the last truncation. Default 4,096.
	SnapshotThreshold uint64
	// TrailingLogs is how many entries stay for followers to catch up from. Default 4,096.
	TrailingLogs uint64
	// MaxLogBytes is the size of the log, about, at which fewer entries stay. Default 1 GiB.
	MaxLogBytes int64
	// RPCTimeout is the deadline of one message between nodes. Default 10 s.
	RPCTimeout time.Duration
	// StuckWarn, StuckLeader and StuckFollower are how long a write may be under way until Health and the log say so, until a
	// leader ends the process, and until a follower does. Defaults 2 s, 5 s and 20 s, each at least the one before.
	StuckWarn, StuckLeader, StuckFollower time.Duration
	// DiskSlowAfter is how long one operation on a file may take before the log and the metrics say so. Default 5 s on a real
	// disk, no check elsewhere; negative: no check.
	DiskSlowAfter time.Duration
	// BallastBytes is the size of the file that is given up when the disk is full. It takes at most a 64th of the disk. Default
	// 256 MiB; negative: none.
	BallastBytes int64
	// DiskReserveBytes is how much of the disk must be left, or Propose refuses with ErrNoSpace what is not essential. A disk smaller
	// than four times as much has a reserve of a quarter of it. Default 1 GiB; negative: none.
	DiskReserveBytes int64
	// MaxAppliedLag is how many committed entries the state may be behind before Health says so. Default 1,024.
	MaxAppliedLag uint64
	// DiskCheckInterval is how often the disk is asked what it has left. Default 1 s.
	DiskCheckInterval time.Duration
	// StallTimeout is how long a follower may answer without getting further before the leader reports it and hands over.
	// Default 10 s.
	StallTimeout time.Duration
	// DeadServerAfter is how long a member may be silent before the leader removes it. At least [MinDeadServerAfter]; 0: members
	// are removed by people only. MinVoters is how many voters stay whatever happens to them; default 3.
	DeadServerAfter time.Duration
	MinVoters       int

	knobs knobs
	// wrapLog puts something between raft and the log; only tests do.
	wrapLog func(raft.LogStore) raft.LogStore
}

// knobs plant one fault each, so that a test can prove that the checks catch it. All off outside tests.
type knobs struct {
	fatalReturns     bool // Pebble's Fatalf comes back (R5)
	unsyncedStable   bool // term and vote are written without sync (R4)
	truncateUnsynced bool // the log is truncated before the state is durable (R2)
	readUnconfirmed  bool // Read does not Confirm (R12)
	joinOldTurn      bool // Confirm takes the outcome of a round that began before the call (R12)
	confirmMinority  bool // one voter is a quorum (R12)
	confirmOldConf   bool // Confirm asks the voters of the configuration it saw first (R12)
	confirmUnchecked bool // the round's end does not look at this node's own term (R12)
	sparseLog        bool // the log takes index 0 and gaps, as raft's own benchmarks write them
	ballastStays     bool // a full disk does not release the ballast (R10)
	countsPauses     bool // the watchdog takes the clock's time, pauses included (R11)
	beginsFirst      bool // a new cluster begins with the first format
	anyLife          bool // a caller is let in that means another life of this node (R14)
	noHysteresis     bool // a disk that is low is open again as soon as it is not (R10)
}

func (c Config) withDefaults() Config {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.ClockOff == nil {
		c.ClockOff = func() (time.Duration, bool) { return 0, false }
	}
	if c.Unfit == nil {
		c.Unfit = func() string { return "" }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Fatal == nil {
		logger, flush := c.Logger, c.Flush
		c.Fatal = func(err error) {
			said := make(chan struct{})
			go func() {
				defer close(said)
				logger.Error("raftstore cannot go on, ending the process", slog.Any("cause", err))
				if flush != nil {
					flush()
				}
			}()
			select {
			case <-said:
			case <-time.After(lastWords): // the log may be on the disk that hangs
			}
			os.Exit(exitFault)
		}
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = DefaultCacheBytes
	}
	if c.LogCacheBytes == 0 {
		c.LogCacheBytes = 16 << 20
	}
	if c.MaxPendingBytes == 0 {
		c.MaxPendingBytes = 64 << 20
	}
	if c.MaxLogBytes == 0 {
		c.MaxLogBytes = 1 << 30
	}
	def(&c.HeartbeatTimeout, 500*time.Millisecond)
	def(&c.SnapshotInterval, 30*time.Second)
	def(&c.StallTimeout, 10*time.Second)
	def(&c.RPCTimeout, 10*time.Second)
	def(&c.DiskCheckInterval, time.Second)
	if vfs.Root(c.FS) == vfs.Default {
		def(&c.DiskSlowAfter, 5*time.Second)
	}
	def(&c.StuckWarn, 2*time.Second)
	def(&c.StuckLeader, max(5*time.Second, c.StuckWarn))
	def(&c.StuckFollower, max(20*time.Second, c.StuckLeader))
	if c.MaxAppliedLag == 0 {
		c.MaxAppliedLag = 1024
	}
	if c.BallastBytes == 0 {
		c.BallastBytes = 256 << 20
	}
	if c.DiskReserveBytes == 0 {
		c.DiskReserveBytes = DefaultDiskReserve
	}
	c.BallastBytes, c.DiskReserveBytes = max(c.BallastBytes, 0), max(c.DiskReserveBytes, 0)
	if c.MinVoters == 0 {
		c.MinVoters = 3
	}
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 4096
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 4096
	}
	return c
}

// maxAbout leaves room for the rest of a NodeStatus in a frame (ownMaxFrame), also if each byte is escaped.
const maxAbout = 2 << 10

func aboutSize(about map[string]string) (n int) {
	for name, value := range about {
		n += len(name) + len(value)
	}
	return n
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	if err := CheckID(c.ID); err != nil {
		faults = append(faults, fmt.Errorf("the node's name (ID) is %q: %w", c.ID, err))
	}
	if c.Dir == "" {
		faults = append(faults, errors.New("the data folder (Dir) is empty"))
	}
	if (c.Listener == nil) == (c.Transport == nil) {
		faults = append(faults, errors.New("exactly one of Listener and Transport must be set"))
	}
	if c.Advertise != "" {
		if err := CheckAddress(c.Advertise); err != nil {
			faults = append(faults, fmt.Errorf("the advertised address (Advertise): %w", err))
		}
	} else if c.Listener != nil {
		if err := CheckAddress(c.Listener.Addr().String()); err != nil {
			faults = append(faults, fmt.Errorf("the listener's address: %w; set Advertise", err))
		}
	}
	if c.Peers != nil && c.Transport == nil {
		faults = append(faults, errors.New("Peers is set without Transport"))
	}
	if size := aboutSize(c.About); size > maxAbout {
		faults = append(faults, fmt.Errorf("what the node tells of itself (About) has %d bytes, at most %d are told", size, maxAbout))
	}
	if c.HeartbeatTimeout < MinHeartbeatTimeout {
		faults = append(faults, fmt.Errorf("HeartbeatTimeout is %s, the least is %s", c.HeartbeatTimeout, MinHeartbeatTimeout))
	}
	if c.CacheBytes < 0 || c.LogCacheBytes < 0 || c.MaxPendingBytes < 0 || c.MaxLogBytes < 0 {
		faults = append(faults, errors.New("a size is negative"))
	}
	if c.DeadServerAfter != 0 && c.DeadServerAfter < MinDeadServerAfter {
		faults = append(faults, fmt.Errorf("DeadServerAfter is %s, the least is %s", c.DeadServerAfter, MinDeadServerAfter))
	}
	if c.MinVoters < 0 {
		faults = append(faults, fmt.Errorf("MinVoters is %d", c.MinVoters))
	}
	if c.StuckWarn < 0 || c.StuckLeader < c.StuckWarn || c.StuckFollower < c.StuckLeader {
		faults = append(faults, fmt.Errorf("StuckWarn %s, StuckLeader %s and StuckFollower %s are not in ascending order",
			c.StuckWarn, c.StuckLeader, c.StuckFollower))
	}
	return errors.Join(faults...)
}

// raftConfig is section 8's choice of hashicorp/raft's settings. RestoreCommittedLogs stays off (it loses the configuration and
// can hang NewRaft in v1.8.0), and NoSnapshotRestoreOnStart on: the state on disk is the state.
func (c Config) raftConfig(l Life, notify chan<- bool, logger *raftLogger) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = l.server()
	rc.HeartbeatTimeout = c.HeartbeatTimeout
	rc.ElectionTimeout = c.HeartbeatTimeout
	rc.LeaderLeaseTimeout = c.HeartbeatTimeout // shorter, and a pause of a leader that nobody misses yet costs an election (DESIGN.md, Leading)
	rc.MaxAppendEntries = maxAppendEntries
	rc.BatchApplyCh = true
	rc.SnapshotInterval = c.SnapshotInterval
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.TrailingLogs = c.TrailingLogs
	rc.NoSnapshotRestoreOnStart = true
	rc.RestoreCommittedLogs = false
	rc.NoLegacyTelemetry = true
	rc.ShutdownOnRemove = true
	rc.NotifyCh = notify
	rc.Logger = logger
	return rc
}
