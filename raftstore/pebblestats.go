package raftstore

import (
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// scrapeWait is how long a scrape waits for Pebble's figures before it tells the last ones.
const scrapeWait = 500 * time.Millisecond

// pebbleStats collects the figures of both databases. Asking for them takes Pebble's mutex, which is held while a hanging disk is
// waited for; a scrape must not hang just then. So they are read on a goroutine of their own, one at a time, and a scrape that
// has waited long enough tells the ones before.
type pebbleStats struct {
	log    func() *pebble.Metrics
	state  func() *pebble.Metrics // nil if there is no state
	caches caches
	folder func() map[string]int64 // what each part of the data folder takes
	descs  pebbleDescs

	mu     sync.Mutex
	under  chan struct{} // closed when the reading under way is done; nil: none
	last   []prometheus.Metric
	closed bool
}

type pebbleDescs struct {
	disk, readAmp, levelTables, levelBytes            *prometheus.Desc
	compactions, compacting, debt, flushes, memtables *prometheus.Desc
	walFiles, walBytes, walWritten                    *prometheus.Desc
	cacheBytes, cacheRoom, cacheHits, cacheMisses     *prometheus.Desc
	obsolete, folder                                  *prometheus.Desc
}

func newPebbleStats(c caches, log, state func() *pebble.Metrics, folder func() map[string]int64) *pebbleStats {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("raftstore_pebble_"+name, help, labels, nil)
	}
	return &pebbleStats{log: log, state: state, caches: c, folder: folder, descs: pebbleDescs{
		disk:        desc("disk_bytes", "Bytes of files on disk, obsolete ones included.", "db"),
		readAmp:     desc("read_amplification", "Places in which a key may have to be looked for.", "db"),
		levelTables: desc("level_tables", "Tables in a level.", "db", "level"),
		levelBytes:  desc("level_bytes", "Bytes of tables in a level.", "db", "level"),
		compactions: desc("compactions_total", "Compactions done.", "db"),
		compacting:  desc("compactions_running", "Compactions under way.", "db"),
		debt:        desc("compaction_debt_bytes", "Estimated bytes to compact until the database is at rest.", "db"),
		flushes:     desc("flushes_total", "Memtables flushed.", "db"),
		memtables:   desc("memtable_bytes", "Bytes allocated for memtables.", "db"),
		walFiles:    desc("wal_files", "WAL files in use.", "db"),
		walBytes:    desc("wal_bytes", "Bytes of WAL files on disk.", "db"),
		walWritten:  desc("wal_written_bytes_total", "Bytes written to the WAL.", "db"),
		cacheBytes:  desc("cache_bytes", "Bytes of blocks in memory.", "db"),
		cacheRoom:   desc("cache_room_bytes", "Bytes that blocks may take in memory now, besides memtables.", "db"),
		cacheHits:   desc("cache_hits_total", "Blocks found in memory.", "db"),
		cacheMisses: desc("cache_misses_total", "Blocks not found in memory.", "db"),
		obsolete:    desc("obsolete_bytes", "Bytes of files on disk that are not needed any more, or by readers alone.", "db"),
		folder: prometheus.NewDesc("raftstore_folder_bytes", "Bytes that a part of the data folder takes on the disk.",
			[]string{"part"}, nil),
	}}
}

// Describe sends what Collect may send.
func (p *pebbleStats) Describe(ch chan<- *prometheus.Desc) {
	d := p.descs
	for _, desc := range []*prometheus.Desc{
		d.disk, d.readAmp, d.levelTables, d.levelBytes, d.compactions, d.compacting, d.debt, d.flushes, d.memtables,
		d.walFiles, d.walBytes, d.walWritten, d.cacheBytes, d.cacheRoom, d.cacheHits, d.cacheMisses, d.obsolete, d.folder,
	} {
		ch <- desc
	}
}

// Collect sends the figures as they are now, or the last ones known.
func (p *pebbleStats) Collect(ch chan<- prometheus.Metric) {
	if under := p.refresh(); under != nil {
		wait := time.NewTimer(scrapeWait)
		defer wait.Stop()
		select {
		case <-under:
		case <-wait.C:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.last {
		ch <- m
	}
}

// refresh starts a reading unless one is under way, and returns what is closed at its end; nil when stopped.
func (p *pebbleStats) refresh() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.under == nil && !p.closed {
		p.under = make(chan struct{})
		go p.read(p.under)
	}
	return p.under
}

func (p *pebbleStats) read(done chan struct{}) {
	var all []prometheus.Metric
	add := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		all = append(all, prometheus.MustNewConstMetric(desc, kind, v, labels...))
	}
	p.database(nameLog, p.log(), p.caches.log, add)
	if state := p.state(); state != nil {
		p.database("state", state, p.caches.state, add)
	}
	for part, bytes := range p.folder() {
		add(p.descs.folder, prometheus.GaugeValue, float64(bytes), part)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.under = all, nil
	close(done)
}

func (p *pebbleStats) database(
	db string, m *pebble.Metrics, cache *pebble.Cache, add func(*prometheus.Desc, prometheus.ValueType, float64, ...string),
) {
	d := p.descs
	gauge := func(desc *prometheus.Desc, v float64) { add(desc, prometheus.GaugeValue, v, db) }
	counter := func(desc *prometheus.Desc, v float64) { add(desc, prometheus.CounterValue, v, db) }
	gauge(d.disk, float64(m.DiskSpaceUsage()))
	gauge(d.readAmp, float64(m.ReadAmp()))
	for i := range m.Levels {
		level := strconv.Itoa(i)
		add(d.levelTables, prometheus.GaugeValue, float64(m.Levels[i].TablesCount), db, level)
		add(d.levelBytes, prometheus.GaugeValue, float64(m.Levels[i].TablesSize), db, level)
	}
	counter(d.compactions, float64(m.Compact.Count))
	gauge(d.compacting, float64(m.Compact.NumInProgress))
	gauge(d.debt, float64(m.Compact.EstimatedDebt))
	counter(d.flushes, float64(m.Flush.Count))
	gauge(d.memtables, float64(m.MemTable.Size))
	gauge(d.walFiles, float64(m.WAL.Files))
	gauge(d.walBytes, float64(m.WAL.PhysicalSize))
	counter(d.walWritten, float64(m.WAL.BytesWritten))
	gauge(d.cacheBytes, float64(m.BlockCache.Size))
	gauge(d.cacheRoom, float64(max(cache.MaxSize()-reserved(m), 0)))
	counter(d.cacheHits, float64(m.BlockCache.Hits))
	counter(d.cacheMisses, float64(m.BlockCache.Misses))
	gauge(d.obsolete, float64(m.Table.ObsoleteSize+m.Table.ZombieSize+m.WAL.ObsoletePhysicalSize))
}

// reserved is what memtables take of their database's cache: those in use, and those that were flushed and are read or kept for the next.
func reserved(m *pebble.Metrics) int64 {
	return int64(m.MemTable.Size + m.MemTable.ZombieSize)
}

// stop begins no further reading and waits for the one under way: the databases are about to close.
func (p *pebbleStats) stop() {
	p.mu.Lock()
	p.closed = true
	under := p.under
	p.mu.Unlock()
	if under != nil {
		<-under
	}
}
