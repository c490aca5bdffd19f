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
// An entry without data holds no command: a checkpoint of a log verifier. Version 4 holds none either: it is the barrier of a term
// (lead.go): the term, 8B, the id of the leader's reign, 16B (history.go), and the cluster's name. So the name reaches nodes that join by
// the log alone. Version 2 is a barrier as well, of the name alone. Version 3 raises the format (format.go).
const (
	packVersion  = 1
	packName     = 2
	packFormat   = 3
	packBarrier  = 4
	packNewest   = packBarrier
	barrierFixed = 1 + 8 + len(ReignID{})
)

var errPackTruncated = errors.New("pack is cut short")

// emptyPack is an entry that changes nothing.
var emptyPack = appendPackHeader(nil, 0)

// packSize is an upper bound of the encoded size of n commands of the given total bytes.
func packSize(n, bytes int) int { return 1 + (n+1)*binary.MaxVarintLen32 + bytes }

func appendPackHeader(dst []byte, n int) []byte {
	return binary.AppendUvarint(append(dst, packVersion), uint64(n))
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
	switch data[0] {
	case packVersion:
	case packName, packFormat, packBarrier:
		return 0, nil
	default:
		return 0, fmt.Errorf("pack version %d is not one this program knows (newest: %d)", data[0], packNewest)
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
	return int(count), nil
}

// barrier is the first entry of a term that the state sees.
type barrier struct {
	term    uint64 // that it was made for: raft may write it in a later one
	reign   ReignID
	cluster string
}

func (b barrier) encode() []byte {
	data := binary.BigEndian.AppendUint64(append(make([]byte, 0, barrierFixed+len(b.cluster)), packBarrier), b.term)
	return append(append(data, b.reign[:]...), b.cluster...)
}

// decodeBarrier returns the barrier that data is, the zero one if it is something else.
func decodeBarrier(data []byte) (barrier, error) {
	switch {
	case len(data) == 0:
	case data[0] == packName:
		return barrier{cluster: string(data[1:])}, nil
	case data[0] == packBarrier && len(data) < barrierFixed:
		return barrier{}, fmt.Errorf("barrier is cut short: %d bytes", len(data))
	case data[0] == packBarrier:
		return barrier{term: binary.BigEndian.Uint64(data[1:]), reign: ReignID(data[9:barrierFixed]), cluster: string(data[barrierFixed:])}, nil
	}
	return barrier{}, nil
}
