package raftstore

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// rotate fills memtables by more than half and flushes them, as often as was said after the first of full size: each is twice as large as the one before. The one that was flushed last stays for the next.
func rotate(t *testing.T, db *pebble.DB, full uint64, times int) {
	t.Helper()
	for times > 0 {
		size := db.Metrics().MemTable.Size
		for i := range 3 {
			if err := db.Set([]byte{0xf0, byte(i)}, make([]byte, size/4), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		if size == full {
			times--
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// Blocks have the room that they were given after, and the state's also during, a burst of writes to either database, and while a state is installed beside the one that
// is read: none takes all of it for its memtables.
func TestBlocksKeepTheirRoom(t *testing.T) {
	const budget = 8 << 20
	s, _ := start(t, with(func(c *Config) { c.CacheBytes = budget }))
	state := must[*state](t)(s.states.acquire())
	defer state.release()
	other := must[*pebble.DB](t)(s.snaps.dbs.openState(s.layout.stateDir(99), false))
	defer func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}()
	room := func(cache *pebble.Cache, dbs ...*pebble.DB) int64 {
		left := cache.MaxSize()
		for _, db := range dbs {
			left -= reserved(db.Metrics())
		}
		return left
	}
	rotate(t, s.logDB, logMemTableBytes, 1)
	rotate(t, state.db, stateMemTableBytes, 1)
	rotate(t, other, stateMemTableBytes, 1)
	if got := room(s.caches.log, s.logDB); got < logBlockBytes {
		t.Errorf("after a burst the log's blocks have %d bytes", got)
	}
	if got := room(s.caches.state, state.db, other); got < budget {
		t.Errorf("after a burst, and with another state beside it, the state's blocks have %d bytes of %d", got, budget)
	}
	if log, state := reserved(s.logDB.Metrics()), reserved(state.db.Metrics()); log < 2*logMemTableBytes || state < 2*stateMemTableBytes {
		t.Errorf("memtables take %d and %d bytes: there was no burst", log, state)
	}

	// What was read stays in memory, also while many of the log's memtables wait to be flushed, as they do when readers hold on to them.
	value := bytes.Repeat([]byte("0123456789abcdef"), 64)
	key := func(i int) []byte { return fmt.Appendf([]byte{0xf1}, "%06d", i) }
	for i := range 2000 {
		if err := state.db.Set(key(i), value, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	if err := state.db.Flush(); err != nil {
		t.Fatal(err)
	}
	read := func() (misses int64) {
		before := state.db.Metrics().BlockCache.Misses
		for i := range 2000 {
			must[[]byte](t)(getCopy(state.db, key(i)))
		}
		return state.db.Metrics().BlockCache.Misses - before
	}
	read()
	for range 3 {
		it := must[*pebble.Iterator](t)(s.logDB.NewIter(nil))
		defer func() { _ = it.Close() }()
		rotate(t, s.logDB, logMemTableBytes, 1)
	}
	if got := reserved(s.logDB.Metrics()); got < 4*logMemTableBytes {
		t.Errorf("the log's memtables take %d bytes: they do not pile up", got)
	}
	if misses := read(); misses > 0 {
		t.Errorf("%d blocks that were read before are not in memory any more", misses)
	}
}
