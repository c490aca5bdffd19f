package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A pack is the data of one Raft entry of type command:
//
//	version 1B | number of commands uvarint | for each: length uvarint, bytes
//
// An entry without data holds no command: a checkpoint of a log verifier. Version 2 holds none either: it is the barrier of a term
// (lead.go), and the rest of it is the cluster's name. So the name reaches nodes that join by the log alone. Version 3 raises the
// format (format.go).
const (
	packVersion = 1
	packBarrier = 2
	packFormat  = 3
)

var errPackTruncated = errors.New("pack is cut short")

// packSize is an upper bound of the encoded size of n commands of the given total bytes.
func packSize(n, bytes int) int { return 1 + (n+1)*binary.MaxVarintLen32 + bytes }

func appendPackHeader(dst []byte, n int) []byte {
	return binary.AppendUvarint(append(dst, packVersion), uint64(n)) //nolint:gosec // a length is never negative
}

func appendPacked(dst, cmd []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(cmd))), cmd...)
}

// unpack calls each for every command of a pack, in order, and returns how many there were. The slices share data.
// It checks the whole pack before the first call, so that a damaged one has no effect at all.
func unpack(data []byte, each func(cmd []byte)) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	if data[0] == packBarrier || data[0] == packFormat {
		return 0, nil
	}
	if data[0] != packVersion {
		return 0, fmt.Errorf("pack version %d is not one this program knows (newest: %d)", data[0], packFormat)
	}
	count, n := binary.Uvarint(data[1:])
	if n <= 0 {
		return 0, errPackTruncated
	}
	body := data[1+n:]
	rest := body
	for range count {
		size, n := binary.Uvarint(rest)
		if n <= 0 || uint64(len(rest[n:])) < size {
			return 0, errPackTruncated
		}
		rest = rest[n:][size:]
	}
	if len(rest) > 0 {
		return 0, fmt.Errorf("pack has %d bytes after its last command", len(rest))
	}
	for range count {
		size, n := binary.Uvarint(body)
		body = body[n:]
		each(body[:size:size])
		body = body[size:]
	}
	return int(count), nil //nolint:gosec // every command took at least one byte of data
}

func encodeBarrier(cluster string) []byte {
	return append([]byte{packBarrier}, cluster...)
}

// barrierCluster returns the cluster's name if data is a barrier that has one.
func barrierCluster(data []byte) string {
	if len(data) == 0 || data[0] != packBarrier {
		return ""
	}
	return string(data[1:])
}
