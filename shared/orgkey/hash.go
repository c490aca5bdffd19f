package orgkey

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// Hash is the SHA-256 of a whole key: what is stored of it and what it is looked up by. It is comparable, so that it can be a
// map's key; it need not be kept secret, since 190 random bits cannot be found from it.
type Hash [sha256.Size]byte

// Sum hashes the bytes of a key as they were sent, after trimming. It does not check their form and allocates nothing.
func Sum(b []byte) Hash { return sha256.Sum256(b) }

// Equal compares in constant time.
func (h Hash) Equal(other Hash) bool {
	return subtle.ConstantTimeCompare(h[:], other[:]) == 1
}

// IsZero tells the zero Hash, which no key has in practice.
func (h Hash) IsZero() bool { return h == Hash{} }

// String is the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }
