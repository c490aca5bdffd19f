package orgkey

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const hidden = "***"

// errNotAKey answers an attempt to read a key back from text that a Key printed.
var errNotAKey = errors.New("an org key is not read from text by unmarshalling: use orgkey.Parse on the bytes that were sent")

// Key is a whole key, secret included. However it is printed, logged or marshalled it shows as ***; Reveal is the only way
// out. The zero Key is no key. Keys are values; compare them with Equal, not ==, so that time tells nothing.
type Key struct {
	b [Len]byte
}

// New makes a key from random bytes, normally crypto/rand.Reader. Each character is drawn without bias, by rejection. It
// fails only if random fails.
func New(random io.Reader) (Key, error) {
	var k Key
	n := copy(k.b[:], Prefix)
	// 40 characters need 41.3 bytes on average; what is left over of a batch is thrown away.
	var batch [48]byte
	for n < checkedLen {
		if _, err := io.ReadFull(random, batch[:]); err != nil {
			return Key{}, fmt.Errorf("make an org key: read random bytes: %w", err)
		}
		for _, c := range batch {
			// 248 = 4*62: what lies above would make the first eight characters likelier than the others.
			if c < 248 && n < checkedLen {
				k.b[n] = alphabet[c%62]
				n++
			}
		}
	}
	check := checkOf(k.b[:checkedLen])
	copy(k.b[checkedLen:], check[:])
	return k, nil
}

// Parse returns the key that b is, or the error of Check. It copies b.
func Parse(b []byte) (Key, error) {
	if err := Check(b); err != nil {
		return Key{}, err
	}
	return Key{b: [Len]byte(b)}, nil
}

// ID is the public keyId, 8 characters.
func (k Key) ID() string { return string(ID(k.b[:])) }

// Hash is what is stored of the key.
func (k Key) Hash() Hash { return Sum(k.b[:]) }

// IsZero tells the zero Key, which is no key.
func (k Key) IsZero() bool { return k == Key{} }

// Equal compares in constant time.
func (k Key) Equal(other Key) bool {
	return subtle.ConstantTimeCompare(k.b[:], other.b[:]) == 1
}

// Reveal returns the key itself. Call it only to hand the key to its owner.
func (k Key) Reveal() string { return string(k.b[:]) }

// AppendReveal appends the key itself to dst.
func (k Key) AppendReveal(dst []byte) []byte { return append(dst, k.b[:]...) }

// String returns ***.
func (Key) String() string { return hidden }

// GoString returns ***.
func (Key) GoString() string { return hidden }

// Format writes *** for every verb: without it %d would print the bytes.
func (Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// LogValue returns ***.
func (Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns ***: an answer that shows a key must say Reveal.
func (Key) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// UnmarshalText always fails, since MarshalText does not give the key away. Use Parse.
func (*Key) UnmarshalText([]byte) error { return errNotAKey }
