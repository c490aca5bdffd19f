package wire

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// MaxDeviceID is the most bytes a device id may have, after trimming.
const MaxDeviceID = 256

// Trim cuts white space from both ends: all that Unicode has, and U+001C to 1F. That is what Python's str.strip cuts, and so
// the public package machineid-io before it sends an id: what one client registers, another must find, and switch off. Keys,
// tokens and device ids are trimmed alike, here and nowhere else (sdk/go has a copy, and a test holds both to this). Bytes that
// are no UTF-8 stay. The result aliases b; nothing is allocated.
func Trim(b []byte) []byte {
	if n := len(b); n > 0 && solid(b[0]) && solid(b[n-1]) {
		return b
	}
	return bytes.TrimFunc(b, space)
}

// solid tells whether a byte is a character that is not trimmed, by itself. Others need a closer look.
func solid(c byte) bool { return c > ' ' && c < utf8.RuneSelf }

func space(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// DeviceID trims b (Trim) and tells whether a device id is left (WellFormed). The result aliases b; nothing is allocated.
func DeviceID(b []byte) (id []byte, ok bool) {
	if b = Trim(b); !WellFormed(b) {
		return nil, false
	}
	return b, true
}

// WellFormed tells whether b may be the id of a device that is kept: 1 to 256 bytes of valid UTF-8 without the control characters
// U+0000-1F and U+007F-9F. Case matters and nothing is normalised. White space may stand at its ends, because less was trimmed once.
func WellFormed(b []byte) bool {
	if len(b) == 0 || len(b) > MaxDeviceID {
		return false
	}
	if plain(b) {
		return true
	}
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
		if c >= utf8.RuneSelf {
			return cleanUTF8(b[i:])
		}
	}
	return true
}

// cleanUTF8 tells whether b is valid UTF-8 without control characters.
func cleanUTF8(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 || r < ' ' || r >= 0x7f && r <= 0x9f {
			return false
		}
		b = b[n:]
	}
	return true
}
