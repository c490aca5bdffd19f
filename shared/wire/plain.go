package wire

import "encoding/binary"

// plain tells whether b is printable ASCII without quotes and backslashes: then it is a device id without further
// judgement, and a JSON string without escapes. It looks at eight bytes at a time, and may say no where a closer look
// says yes.
func plain[T string | []byte](b T) bool {
	for len(b) >= 8 {
		if odd(word(b)) {
			return false
		}
		b = b[8:]
	}
	if len(b) == 0 {
		return true
	}
	var last [8]byte
	n := copy(last[:], b)
	for ; n < 8; n++ {
		last[n] = 'a'
	}
	return !odd(binary.LittleEndian.Uint64(last[:]))
}

func word[T string | []byte](b T) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// odd tells whether one of eight bytes is below 0x20, above 0x7e, a quote or a backslash ("Bit Twiddling Hacks",
// Determine if a word has a byte less than n, or a zero byte). Borrows can only make it say yes too often.
func odd(w uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, back, del := w^ones*'"', w^ones*'\\', w^ones*0x7f
	return (w|(w-ones*0x20)|(quote-ones)|(back-ones)|(del-ones))&tops != 0
}
