package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's WAL (record/record.go): blocks of 32 KiB with chunks that cross none. A chunk's header is a CRC (4B) of all behind it, the length
// of the payload (2B), a type (1B) and the low half of the file's number (4B), all little endian; newer types go on with 8B for which we have no
// use. The payload of a batch's first chunk begins with the batch's header, 12B.
const (
	walBlock      = 32 << 10
	walHeader     = 11
	walHeaderLong = 19
	walBatch      = 12
	walSuffix     = ".log"

	// The types of chunks: whole batches, and first, middle and last parts of one.
	walWhole, walFirst, walLast             = 5, 6, 8
	walWholeLong, walFirstLong, walLastLong = 9, 10, 12
)

// walPromise is the log data with which a batch begins when all that was written before it was synced.
var walPromise = []byte("synced up to here")

// walPromised is where the batch's header ends, as it stands in the file.
var walPromised = append([]byte{byte(pebble.InternalKeyKindLogData), byte(len(walPromise))}, walPromise...)

// sealAfter is how long the log is quiet before it is sealed.
const sealAfter = time.Second

// checkWAL refuses a log whose newest WAL is damaged where it had been synced. Pebble takes that for a write which a loss of power cut: it forgets
// the damaged chunk and all behind it in silence, acknowledged entries among them. (Its own offsets of what was synced lag by every full block,
// and are not looked at within one.) So our batches say that all before them was synced: one that stands behind what cannot be read proves that
// it could be read once. The newest is vouched for by the seal, which is written when the log is quiet; before that, damage to it is not seen.
func checkWAL(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return nil //nolint:nilerr // there is no log yet; if there is, opening it says more
	}
	newest, name := uint64(0), ""
	for _, n := range names {
		if digits, found := strings.CutSuffix(n, walSuffix); found {
			if number, err := strconv.ParseUint(digits, 10, 64); err == nil && number >= newest {
				newest, name = number, n
			}
		}
	}
	if name == "" {
		return nil
	}
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	at, by, err := walDamage(f, uint32(newest)) // chunks carry the low half
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	if by > 0 {
		return fmt.Errorf("%s/%s is damaged at byte %d, and had been synced up to %d: the disk lost what was acknowledged. In a cluster, "+
			"remove this node, wipe its data folder and let it join anew; if it is alone, restore a backup, or recover the folder without what follows the damage", dir, name, at, by)
	}
	return nil
}

// walDamage returns where the first chunk is that cannot be read, and where a later one promises that all before it was synced; 0, 0 if none does.
func walDamage(r io.Reader, number uint32) (at, synced int, err error) {
	block := make([]byte, walBlock)
	damaged := false
	for begin := 0; ; begin += walBlock {
		n, err := io.ReadFull(r, block)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, 0, err
		}
		next := 0
		for !damaged && next+walHeader <= n && !padding(block[next:n]) {
			size, _ := walChunk(block[next:n], number)
			if damaged = size == 0; !damaged {
				next += size
			}
			at = begin + next
		}
		for ; damaged && next < n; next++ {
			if size, promised := walChunk(block[next:n], number); size > 0 && promised {
				return at, begin + next, nil
			}
		}
		if n < walBlock {
			return 0, 0, nil
		}
	}
}

// padding tells the rest of a block that has no room for another chunk.
func padding(b []byte) bool {
	return len(b) < walHeaderLong && !slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}

// walChunk returns the size of the chunk that b begins with, 0 if there is none, and whether it promises that all before it was synced. b ends
// with its block.
func walChunk(b []byte, number uint32) (size int, promised bool) {
	if len(b) < walHeader || binary.LittleEndian.Uint32(b[7:]) != number {
		return 0, false
	}
	header := walHeader
	switch kind := b[6]; {
	case kind >= walWholeLong && kind <= walLastLong:
		header = walHeaderLong
	case kind < walWhole || kind > walLast:
		return 0, false
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) {
		return 0, false
	}
	sum := crc32.Checksum(b[6:size], castagnoli)
	if binary.LittleEndian.Uint32(b) != (sum>>15|sum<<17)+0xa282ead8 { // LevelDB's mask
		return 0, false
	}
	first := b[6] == walWhole || b[6] == walFirst || b[6] == walWholeLong || b[6] == walFirstLong
	return size, first && size > header+walBatch && bytes.HasPrefix(b[header+walBatch:size], walPromised)
}

// keepSealed seals the log whenever it was written to and is quiet, until the store is gone.
func (s *Store) keepSealed() {
	tick := time.NewTicker(sealAfter)
	defer tick.Stop()
	var before, sealed uint64
	for {
		select {
		case <-s.gone:
			return
		case <-s.fault.tripped():
			return
		case <-tick.C:
		}
		if s.space.closed.Load() {
			continue // what is left is for what stops something (R10)
		}
		now := s.log.writes.Load()
		if now != sealed && now == before {
			if sealed = s.log.seal(); sealed > 0 {
				now = sealed
			}
		}
		before = now
	}
}

// seal writes a batch of nothing but the promise that all before it was synced, so that damage to the newest entry is seen too (checkWAL). It
// returns how many writes there were then, 0 if one is under way: then the log is not quiet.
func (s *logStore) seal() uint64 {
	if !s.writeMu.TryLock() {
		return 0
	}
	defer s.writeMu.Unlock()
	defer s.watch.end(s.watch.begin("sealing the log"))
	s.fault.halt()
	for {
		b, promises := s.newBatch(0), s.synced
		if !promises { // the last write was not synced: this one syncs it
			if err := b.LogData(nil, nil); err != nil {
				s.fault.fail(fmt.Errorf("seal the log: %w", err))
			}
		}
		s.commit(b, "seal the log", pebble.Sync)
		closeBatch(b)
		if promises {
			return s.writes.Load()
		}
	}
}
