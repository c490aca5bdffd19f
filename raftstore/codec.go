package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/hashicorp/raft"
)

// The codec of one log entry, as stored under its index:
//
//	version 1B | type 1B | term uvarint | appended-at 8B big endian (Unix ns, 0: none) | extensions uvarint+bytes | data
//
// The index is the key and is not repeated. Old versions stay readable for ever: the golden files are the upgrade test.
const entryVersion = 1

var errEntryTruncated = errors.New("entry is cut short")

func appendEntry(dst []byte, l *raft.Log) []byte {
	dst = append(dst, entryVersion, byte(l.Type))
	dst = binary.AppendUvarint(dst, l.Term)
	var nano int64
	if !l.AppendedAt.IsZero() {
		nano = l.AppendedAt.UnixNano()
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(nano))
	dst = binary.AppendUvarint(dst, uint64(len(l.Extensions)))
	dst = append(dst, l.Extensions...)
	return append(dst, l.Data...)
}

// entrySize is exactly how many bytes appendEntry adds.
func entrySize(l *raft.Log) int {
	return 2 + uvarintLen(l.Term) + 8 + uvarintLen(uint64(len(l.Extensions))) + len(l.Extensions) + len(l.Data)
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// decodeEntry reads an entry written by appendEntry. The slices of the result share src.
func decodeEntry(index uint64, src []byte, l *raft.Log) error {
	if len(src) < 2 {
		return errEntryTruncated
	}
	if src[0] != entryVersion {
		return fmt.Errorf("entry version %d is not one this program knows (newest: %d)", src[0], entryVersion)
	}
	kind := raft.LogType(src[1])
	src = src[2:]
	term, n := binary.Uvarint(src)
	if n <= 0 || len(src) < n+8 {
		return errEntryTruncated
	}
	nano := int64(binary.BigEndian.Uint64(src[n:]))
	src = src[n+8:]
	extensions, n := binary.Uvarint(src)
	if n <= 0 {
		return errEntryTruncated
	}
	src = src[n:]
	if uint64(len(src)) < extensions {
		return errEntryTruncated
	}
	*l = raft.Log{Index: index, Term: term, Type: kind}
	if nano != 0 {
		l.AppendedAt = time.Unix(0, nano)
	}
	if extensions > 0 {
		l.Extensions = src[:extensions:extensions]
	}
	if data := src[extensions:]; len(data) > 0 {
		l.Data = data
	}
	return nil
}

// Keys of the log database.
const (
	prefixLog    = 'l' // 'l' + index, 8B big endian -> entry
	prefixStable = 's' // 's' + raft's name -> value
	keyEmptied   = "e" // the range whose deletion left no entry, as first and last index, 8B each; present while the log is empty
	keyBoundary  = "b" // position of the newest installed state, while the log begins after it
	keyInstalled = "g" // generation of the newest state that the log was reconciled with
	keyLogIdent  = "i" // identity, as in the IDENT file
)

const logKeyLen = 9

func logKey(index uint64) [logKeyLen]byte {
	var k [logKeyLen]byte
	k[0] = prefixLog
	binary.BigEndian.PutUint64(k[1:], index)
	return k
}

func stableKey(name []byte) []byte {
	k := make([]byte, 0, 1+len(name))
	return append(append(k, prefixStable), name...)
}

// A position is stored as index and term, 8B big endian each.
const positionLen = 16

func encodePosition(p Position) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, positionLen), p.Index)
	return binary.BigEndian.AppendUint64(b, p.Term)
}

func decodePosition(src []byte) (Position, error) {
	if len(src) != positionLen {
		return Position{}, fmt.Errorf("position has %d bytes, want %d", len(src), positionLen)
	}
	return Position{Index: binary.BigEndian.Uint64(src), Term: binary.BigEndian.Uint64(src[8:])}, nil
}
