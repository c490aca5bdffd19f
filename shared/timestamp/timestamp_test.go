package timestamp_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"machineid/shared/timestamp"
)

// TestParse walks the boundaries of RFC 3339, and what Go's parser takes besides.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"2030-01-02T15:04:05Z":               "2030-01-02T15:04:05.000Z",
		"2030-01-02t15:04:05z":               "2030-01-02T15:04:05.000Z",
		"2030-01-02T15:04:05.1Z":             "2030-01-02T15:04:05.100Z",
		"2030-01-02T15:04:05.123999999Z":     "2030-01-02T15:04:05.123Z",
		"2030-01-02T15:04:05.123456+00:00":   "2030-01-02T15:04:05.123Z", // as Python writes it
		"2030-01-02T15:04:05-00:00":          "2030-01-02T15:04:05.000Z",
		"2030-01-02T15:04:05+23:59":          "2030-01-01T15:05:05.000Z",
		"2030-01-02T15:04:05-23:59":          "2030-01-03T15:03:05.000Z",
		"2032-02-29T23:59:59.999Z":           "2032-02-29T23:59:59.999Z",
		"1969-12-31T23:59:59.9999Z":          "1969-12-31T23:59:59.999Z",
		"0001-01-01T00:00:00Z":               "0001-01-01T00:00:00.000Z",
		"0000-12-31T23:00:00-01:00":          "0001-01-01T00:00:00.000Z",
		"9999-12-31T23:59:59.999999999Z":     "9999-12-31T23:59:59.999Z",
		"9999-12-31T23:59:59+23:59":          "9999-12-31T00:00:59.000Z",
		"0001-01-01T00:00:00.0001-00:00":     "0001-01-01T00:00:00.000Z",
		"2030-01-02t15:04:05.000000000+00:0": "",

		"9999-12-31T23:59:59-23:59": "", "9999-12-31T23:59:59-00:01": "", // year 10000 in UTC
		"0000-12-31T23:59:59Z": "", "0001-01-01T00:00:00+00:01": "", "10000-01-01T00:00:00Z": "", "-001-01-01T00:00:00Z": "",
		"2030-01-02T15:04:60Z": "", "2016-12-31T23:59:60Z": "", "2030-01-02T24:00:00Z": "", "2030-01-02T15:60:00Z": "",
		"2030-01-02T15:04:05+24:00": "", "2030-01-02T15:04:05+00:60": "", "2030-01-02T15:04:05+0000": "", "2030-01-02T15:04:05+00": "",
		"2030-01-02T15:04:05,5Z": "", "2030-01-02T15:04:05,0000Z": "", "2030-01-02T15:04:05.Z": "", "2030-01-02T15:04:05.1234567890Z": "", "2030-01-02T15:04:05.5": "",
		"2030-01-02T3:04:05Z": "", "2030-1-02T03:04:05Z": "", "2030-01-02T15:04Z": "", "2030-01-02": "", "2030-01-02T15:04:05": "",
		"2030-01-02 15:04:05Z": "", "2030-01-02T15:04:05 Z": "", " 2030-01-02T15:04:05Z": "", "2030-01-02T15:04:05Z ": "", "2030-01-02T15:04:05Z\x00": "",
		"2030-02-29T00:00:00Z": "", "2030-00-01T00:00:00Z": "", "2030-13-01T00:00:00Z": "", "2030-04-31T00:00:00Z": "", "2030-01-00T00:00:00Z": "",
		"": "", "Z": "", "now": "", "1893596645": "", "２030-01-02T15:04:05Z": "", "2030-01-02T15:04:05\u2212:00": "", "2030-01-02T15:04:05UTC": "",
	} {
		ms, err := timestamp.Parse(text)
		switch {
		case want == "":
			if !errors.Is(err, timestamp.ErrNone) {
				t.Errorf("%q is taken as %d (%v)", text, ms, err)
			}
		case err != nil || timestamp.Format(ms) != want:
			t.Errorf("%q: %s, %v, want %s", text, timestamp.Format(ms), err, want)
		}
	}
}

// TestFormat: what is written is of the years that can be written.
func TestFormat(t *testing.T) {
	for ms, want := range map[int64]string{
		0: "1970-01-01T00:00:00.000Z", -1: "1969-12-31T23:59:59.999Z", 1893596645123: "2030-01-02T15:04:05.123Z",
		timestamp.Min: "0001-01-01T00:00:00.000Z", timestamp.Max: "9999-12-31T23:59:59.999Z",
		timestamp.Min - 1: "0001-01-01T00:00:00.000Z", timestamp.Max + 1: "9999-12-31T23:59:59.999Z",
		math.MinInt64: "0001-01-01T00:00:00.000Z", math.MaxInt64: "9999-12-31T23:59:59.999Z",
	} {
		if got := timestamp.Format(ms); got != want {
			t.Errorf("%d: %s, want %s", ms, got, want)
		}
	}
}

// FuzzParse: what is taken is in range, is what Go reads too, and comes back from what is written.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"2030-01-02T15:04:05Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00.999999999+00:01", "2016-12-31t23:59:60z", "2030-01-02T3:04:05,5+24:00",
	} {
		f.Add(text, int64(len(text)))
	}
	f.Fuzz(func(t *testing.T, text string, ms int64) {
		if timestamp.Min <= ms && ms <= timestamp.Max {
			if back, err := timestamp.Parse(timestamp.Format(ms)); err != nil || back != ms {
				t.Errorf("%d is written as %s and read as %d, %v", ms, timestamp.Format(ms), back, err)
			}
		}
		ms, err := timestamp.Parse(text)
		if err != nil {
			return
		}
		at, goErr := time.Parse(time.RFC3339Nano, strings.ToUpper(text))
		if goErr != nil || at.UnixMilli() != ms || ms < timestamp.Min || ms > timestamp.Max {
			t.Errorf("%q is taken as %d, Go: %v, %v", text, ms, at, goErr)
		}
		if back, err := timestamp.Parse(timestamp.Format(ms)); err != nil || back != ms {
			t.Errorf("%q is %d, written as %s, read as %d, %v", text, ms, timestamp.Format(ms), back, err)
		}
	})
}
