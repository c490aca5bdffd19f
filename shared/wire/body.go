package wire

import "bytes"

// DeviceIDFast reads the device id out of a body of the one shape that nearly every validate has: an object with the single
// member deviceId, a string without escapes, with white space where JSON allows it. It allocates nothing; id aliases body
// and is trimmed and valid. ok is false for every other body, good or bad, and then ParseObject decides. What it accepts
// ParseObject accepts with the same value.
func DeviceIDFast(body []byte) (id []byte, ok bool) {
	const name = `"deviceId"`
	i := skipJSONSpace(body, 0)
	if i >= len(body) || body[i] != '{' {
		return nil, false
	}
	i = skipJSONSpace(body, i+1)
	if len(body)-i < len(name) || string(body[i:i+len(name)]) != name {
		return nil, false
	}
	i = skipJSONSpace(body, i+len(name))
	if i >= len(body) || body[i] != ':' {
		return nil, false
	}
	i = skipJSONSpace(body, i+1)
	if i >= len(body) || body[i] != '"' {
		return nil, false
	}
	start := i + 1
	n := bytes.IndexByte(body[start:], '"')
	if n < 0 {
		return nil, false
	}
	i = start + n
	value := body[start:i]
	if !plain(value) {
		for _, c := range value {
			// A control character is no JSON, and an escape (\) is for the slow path.
			if c < ' ' || c == '\\' {
				return nil, false
			}
		}
	}
	i = skipJSONSpace(body, i+1)
	if i >= len(body) || body[i] != '}' || skipJSONSpace(body, i+1) != len(body) {
		return nil, false
	}
	// DeviceID trims, though no control character, which were refused above; it also judges the UTF-8.
	return DeviceID(value)
}

// skipJSONSpace returns the index of the first byte from i on that is no JSON white space.
func skipJSONSpace(b []byte, i int) int {
	for i < len(b) && jsonSpace(b[i]) {
		i++
	}
	return i
}

// jsonSpace tells whether JSON allows a byte between its tokens (RFC 8259, 2).
func jsonSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
