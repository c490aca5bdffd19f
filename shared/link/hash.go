// Package link is what an edge and the authority say to each other: the frames
// of the stream (link.proto) and the 64-bit hashes in which invalidations,
// floors and the directory speak (DESIGN.md, The link).
package link

import (
	"encoding/binary"
	"fmt"

	"github.com/dchest/siphash"
)

// HashKeySize is the length of a cluster's hash key in bytes.
const HashKeySize = 16

// MaxID is the longest device id in bytes that a Hasher takes.
const MaxID = 256

// Hasher makes the keyed 64-bit hashes of one cluster (SipHash-2-4, Aumasson and
// Bernstein, 2012). Keyed, so that nobody outside can look for collisions: one
// would cost a miss or a message, never a wrong answer, as a hit compares the
// whole key. A Hasher is a value, safe for concurrent use.
type Hasher struct{ k0, k1 uint64 }

// NewHasher returns the hasher of a cluster's 16-byte hash key.
func NewHasher(key []byte) (Hasher, error) {
	if len(key) != HashKeySize {
		return Hasher{}, fmt.Errorf("hash key has %d bytes, want %d", len(key), HashKeySize)
	}
	return Hasher{binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])}, nil
}

// The first byte keeps keys, orgs and devices apart.
const (
	domainKey    = 'k'
	domainOrg    = 'o'
	domainDevice = 'd'
)

// Key hashes the SHA-256 of an org key.
func (h Hasher) Key(sum *[32]byte) uint64 {
	var b [1 + 32]byte
	b[0] = domainKey
	copy(b[1:], sum[:])
	return siphash.Hash(h.k0, h.k1, b[:])
}

// Org hashes an org's id.
func (h Hasher) Org(id *[16]byte) uint64 {
	var b [1 + 16]byte
	b[0] = domainOrg
	copy(b[1:], id[:])
	return siphash.Hash(h.k0, h.k1, b[:])
}

// Device hashes a device's id within its org. Ids longer than MaxID are cut.
func (h Hasher) Device(org *[16]byte, id []byte) uint64 {
	var b [1 + 16 + MaxID]byte
	b[0] = domainDevice
	n := 1 + copy(b[1:], org[:])
	n += copy(b[n:], id)
	return siphash.Hash(h.k0, h.k1, b[:n])
}
