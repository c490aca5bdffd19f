package wire

import (
	"encoding/binary"
	"math/rand/v2"
)

// MaxRequestID is the most bytes a caller's own request id may have.
const MaxRequestID = 128

// requestIDByte is what a caller's request id may hold.
var requestIDByte = func() (t [256]bool) {
	for _, c := range []byte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._:/+=@-") {
		t[c] = true
	}
	return t
}()

// ValidRequestID tells whether a caller's X-Request-Id is taken over: 1 to 128 of A-Z, a-z, 0-9 and ._:/+=@-.
func ValidRequestID(b []byte) bool {
	if len(b) == 0 || len(b) > MaxRequestID {
		return false
	}
	for _, c := range b {
		if !requestIDByte[c] {
			return false
		}
	}
	return true
}

// RequestID returns the caller's own request id if it is valid, and else a fresh UUID written over dst[:0]. With room for 36
// bytes in dst it allocates nothing.
func RequestID(dst, own []byte) []byte {
	if ValidRequestID(own) {
		return own
	}
	return AppendUUID(dst[:0])
}

// AppendUUID appends a random UUID (version 4, RFC 9562) of 36 bytes. It tells requests apart and is no secret, so the
// generator need not be one for secrets.
func AppendUUID(dst []byte) []byte {
	const hex = "0123456789abcdef"
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hex[c>>4], hex[c&15])
	}
	return dst
}
