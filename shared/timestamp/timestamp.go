// Package timestamp reads and writes times as the API has them: RFC 3339, read by its grammar and not by what Go's time package takes besides,
// and written in UTC with milliseconds. A time is milliseconds since 1970.
//
// It guarantees that Parse(Format(ms)) is ms for each ms from Min to Max, and that nothing else comes out of Parse: in UTC it is of the years
// 0001 to 9999, which every reader of RFC 3339 can take.
package timestamp

import (
	"errors"
	"strings"
	"time"
)

// The bounds of what can be written, in milliseconds since 1970: the first and the last of the years 0001 to 9999 in UTC.
const (
	Min = -62_135_596_800_000
	Max = 253_402_300_799_999
)

// ErrNone says that a text is no time.
var ErrNone = errors.New("is no time: send one like 2030-01-02T15:04:05Z")

const (
	form     = "0000-00-00T00:00:00" // a 0 stands for a digit
	fraction = 9                     // most digits of a second's fraction
	layout   = "2006-01-02T15:04:05.000Z"
)

// Parse reads a time in any offset. What is below a millisecond is cut off, so an end never comes later than it was written. T and Z may be small.
// A fraction has a point and at most nine digits, an offset at most 23:59, and the year in UTC is 0001 to 9999. There is no second 60: leap seconds are announced
// half a year before, none is. Its error is ErrNone.
func Parse(text string) (ms int64, err error) {
	if len(text) <= len(form) || !like(text[:len(form)], form) {
		return 0, ErrNone
	}
	rest := text[len(form):]
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && digit(rest[n]) {
			n++
		}
		if n == 1 || n > 1+fraction {
			return 0, ErrNone
		}
		rest = rest[n:]
	}
	if rest != "Z" && rest != "z" && (len(rest) != len("+00:00") || !like(rest, "+00:00") && !like(rest, "-00:00") || rest[1:3] > "23" || rest[4:6] > "59") {
		return 0, ErrNone
	}
	// What is left to judge is days of months and the clock's bounds.
	at, err := time.Parse(time.RFC3339, strings.ToUpper(text))
	if err != nil {
		return 0, ErrNone
	}
	if ms = at.UnixMilli(); ms < Min || ms > Max {
		return 0, ErrNone
	}
	return ms, nil
}

// like compares with a form of the same length in which 0 stands for any digit and T for t too.
func like(text, form string) bool {
	for i := range len(form) {
		switch {
		case form[i] == '0' && digit(text[i]), form[i] == 'T' && text[i] == 't', form[i] != '0' && text[i] == form[i]:
		default:
			return false
		}
	}
	return true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// Append appends a time from Min to Max in UTC with milliseconds. One beyond is written as the bound.
func Append(dst []byte, ms int64) []byte {
	return time.UnixMilli(min(max(ms, Min), Max)).UTC().AppendFormat(dst, layout)
}

// Format is Append as a string.
func Format(ms int64) string { return string(Append(nil, ms)) }
