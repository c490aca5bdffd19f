package search

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"reflect"
	"unsafe"
)

// bytesOnly panics if x has anything but bytes in it: then there might be room between the fields, and equal states would look different.
func bytesOnly(x reflect.Type) {
	const longest = 64 * 8 // a bit for each word of 8 bytes fits into one word
	if x.Size() > longest {
		panic(fmt.Sprintf("%v has more than %d bytes", x, longest))
	}
	switch x.Kind() {
	case reflect.Struct:
		for f := range x.Fields() {
			bytesOnly(f.Type)
		}
	case reflect.Array:
		bytesOnly(x.Elem())
	case reflect.Bool, reflect.Int8, reflect.Uint8:
	default:
		panic(fmt.Sprintf("%v is no byte", x))
	}
}

// raw is a state as it lies in memory.
func raw[S comparable](s *S) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s))
}

// word is the i-th of a state's words of 8 bytes; the last may be shorter.
func word(r []byte, i int) uint64 {
	if r = r[8*i:]; len(r) >= 8 {
		return binary.LittleEndian.Uint64(r)
	}
	var last [8]byte
	copy(last[:], r)
	return binary.LittleEndian.Uint64(last[:])
}

// packing writes states as what differs from a first one: some 60 bytes instead of
// more than 400, and the states of a level are most of what a search keeps.
type packing[S comparable] struct{ first S }

// append writes s behind dst: a bit for each word that differs, then for each of
// these a bit for each byte that does, and the bytes.
func (p *packing[S]) append(dst []byte, s *S) []byte {
	r, first := raw(s), raw(&p.first)
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	var differ uint64
	for i := range (len(r) + 7) / 8 {
		w := word(r, i) ^ word(first, i)
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
func (p *packing[S]) next(s *S, src []byte) []byte {
	*s = p.first
	r := raw(s)
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
	return src
}
