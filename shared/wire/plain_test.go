package wire

import (
	"strings"
	"testing"
)

// TestPlain tries every byte at every place: what is called plain must be so.
func TestPlain(t *testing.T) {
	for n := 1; n <= 20; n++ {
		for at := range n {
			for c := range 256 {
				b := []byte(strings.Repeat("z", n))
				b[at] = byte(c)
				want := c >= 0x20 && c < 0x7f && c != '"' && c != '\\'
				if got := plain(b); got != want {
					t.Fatalf("%q: plain says %v", b, got)
				}
			}
		}
	}
}

// TestPlainPairs tries every pair of neighbours, for the borrows of the arithmetic.
func TestPlainPairs(t *testing.T) {
	for c := range 256 {
		for d := range 256 {
			b := []byte{'z', byte(c), byte(d), 'z', 'z', 'z', 'z', 'z'}
			sound := true
			for _, x := range b {
				sound = sound && x >= 0x20 && x < 0x7f && x != '"' && x != '\\'
			}
			if plain(b) && !sound {
				t.Fatalf("%q is called plain", b)
			}
		}
	}
}
