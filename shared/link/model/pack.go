package main

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// words is how many words of 8 bytes a state takes.
const words = (int(unsafe.Sizeof(state{})) + 7) / 8

// A bit for each word must fit into one.
var _ [64 - words]struct{}

// raw is a state as it lies in memory: it has fields of one byte only (a test holds
// that), so there is nothing between them.
type raw [8 * words]byte

func (s *state) raw() (r raw) {
	*(*state)(unsafe.Pointer(&r)) = *s //nolint:gosec // of the same bytes, and r is no smaller
	return r
}

// packing writes states as what differs from a first one: some 60 bytes instead of
// more than 400, and the states of a level are most of what a search keeps.
type packing struct{ first raw }

// append writes s behind dst: a bit for each word that differs, then for each of
// these a bit for each byte that does, and the bytes.
func (p *packing) append(dst []byte, s *state) []byte {
	r := s.raw()
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	var differ uint64
	for i := range words {
		w := binary.LittleEndian.Uint64(r[8*i:]) ^ binary.LittleEndian.Uint64(p.first[8*i:])
		if w == 0 {
			continue
		}
		differ |= 1 << i
		mask := len(dst)
		dst = append(dst, 0)
		for ; w != 0; w &^= 0xff << (bits.TrailingZeros64(w) &^ 7) {
			b := bits.TrailingZeros64(w) / 8
			dst[mask] |= 1 << b
			dst = append(dst, byte(w>>(8*b)&0xff))
		}
	}
	binary.LittleEndian.PutUint64(dst[at:], differ)
	return dst
}

// next reads a state from the beginning of src, and returns what is behind it.
func (p *packing) next(s *state, src []byte) []byte {
	r := p.first
	differ := binary.LittleEndian.Uint64(src)
	src = src[8:]
	for ; differ != 0; differ &= differ - 1 {
		i := bits.TrailingZeros64(differ)
		mask := src[0]
		src = src[1:]
		for ; mask != 0; mask &= mask - 1 {
			r[8*i+bits.TrailingZeros8(mask)] ^= src[0]
			src = src[1:]
		}
	}
	*s = *(*state)(unsafe.Pointer(&r)) //nolint:gosec // as in raw
	return src
}
