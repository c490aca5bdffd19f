package wire

import "unicode/utf8"

// MaxDeviceID is the most bytes a device id may have, after trimming.
const MaxDeviceID = 256

// Trim cuts spaces, tabs, CRs and LFs from both ends, and nothing else. Keys and device ids are trimmed alike. The result
// aliases b.
func Trim(b []byte) []byte {
	for len(b) > 0 && trimmed(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && trimmed(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func trimmed(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// DeviceID trims b and tells whether a device id is left: 1 to 256 bytes of valid UTF-8 without the control characters
// U+0000-1F and U+007F-9F. Case matters and nothing is normalised. The result aliases b; nothing is allocated.
func DeviceID(b []byte) (id []byte, ok bool) {
	b = Trim(b)
	if len(b) == 0 || len(b) > MaxDeviceID {
		return nil, false
	}
	if plain(b) {
		return b, true
	}
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			return nil, false
		}
		if c >= utf8.RuneSelf {
			if !cleanUTF8(b[i:]) {
				return nil, false
			}
			break
		}
	}
	return b, true
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
