package raftstore

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	logMemTableBytes   = 64 << 20
	stateMemTableBytes = 16 << 20
	// logBlockBytes is what the log's blocks may take in memory: they are read by followers that are far behind alone.
	logBlockBytes = 8 << 20
	manifestBytes = 1 << 20 // copied, not linked, into each checkpoint
)

// caches are the block caches of the databases. Pebble takes the room of a database's memtables from its cache (Cache.Reserve), and after a burst of
// writes that is two of full size for good: the one in use, and one that was flushed and is kept for the next. A cache no larger than that holds no
// block any more, so each is larger than what its blocks may take. One for both would lose the state's blocks to each burst of the log.
type caches struct{ log, state *pebble.Cache }

func newCaches(cfg *Config) caches {
	return caches{
		log:   pebble.NewCache(logBlockBytes + 2*logMemTableBytes),
		state: pebble.NewCache(cfg.CacheBytes + 2*2*stateMemTableBytes), // of two states, while one is installed
	}
}

func (c caches) unref() {
	if c.log != nil {
		c.log.Unref()
		c.state.Unref()
	}
}

// databases opens Pebble databases that share one switch of fail-stop.
type databases struct {
	fs     vfs.FS
	caches caches
	fault  *fault
	cfg    *Config
	// What happens in them is told to these.
	metrics  *storeMetrics
	aside    *aside
	lowSpace func()
}

func (d *databases) options(name string, cache *pebble.Cache) *pebble.Options {
	logger := pebbleLogger{fault: d.fault, logger: d.cfg.Logger, name: name, knobs: d.cfg.knobs}
	return &pebble.Options{
		FS:                  d.fs,
		Cache:               cache,
		FormatMajorVersion:  pebbleFormats[formatFirst], // a folder that was raised stays as it is
		Logger:              logger,
		EventListener:       (&events{log: logger, metrics: d.metrics, aside: d.aside, lowSpace: d.lowSpace}).listener(),
		MaxManifestFileSize: manifestBytes,
		MaxOpenFiles:        d.cfg.OpenFiles, // 0: Pebble's own, 1,000
	}
}

// open makes an error of a panic: Pebble panics when the folder cannot be synced (vfs/atomicfs, Marker.Move).
func (d *databases) open(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			d.fault.record(err) // its locks may be held: nothing of it can be closed
		}
	}()
	return pebble.Open(dir, o)
}

// openLog opens the database of the log. Its entries are written once, read from the ring, and deleted in one range; most never
// leave the memtable. WALMinSyncInterval stays unset: raft has one writer, so waiting for company only adds to every commit.
func (d *databases) openLog(dir string) (*pebble.DB, error) {
	o := d.options(nameLog, d.caches.log)
	o.MemTableSize = logMemTableBytes // at least four times the largest batch: 16 entries of half a megabyte
	o.MemTableStopWritesThreshold = 4
	o.L0CompactionThreshold = 8
	o.L0StopWritesThreshold = 32
	o.FlushDelayDeleteRange = 10 * time.Second
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		return pebble.UniformDBCompressionSettings(block.NoCompression)
	})
	db, err := d.open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open the log database: %w", err)
	}
	return db, nil
}

// openState opens a database of the state. readOnly leaves every file as it is.
func (d *databases) openState(dir string, readOnly bool) (*pebble.DB, error) {
	o := d.options("state", d.caches.state)
	o.ReadOnly = readOnly
	o.ErrorIfNotExists = readOnly
	if readOnly { // a snapshot: damage in it is an error of who sent it, not a fault of this node
		quiet := o.Logger
		o.EventListener = &pebble.EventListener{
			BackgroundError: func(err error) { quiet.Errorf("background work: %v", err) },
			DataCorruption:  func(info pebble.DataCorruptionInfo) { quiet.Errorf("file %s is corrupt: %v", info.Path, info.Details) },
		}
	}
	o.MemTableSize = stateMemTableBytes
	o.L0CompactionThreshold = 4
	o.CompactionConcurrencyRange = func() (lower, upper int) { return 1, 2 }
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := d.open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open the state database %s: %w", d.fs.PathBase(dir), err)
	}
	return db, nil
}
