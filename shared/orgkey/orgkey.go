// Package orgkey is the format of an org's API key: how one is made, checked and hashed.
//
// A key is 50 bytes: "org_", an id of 8, a secret of 32 and a check of 6, all of the latter base62 (0-9A-Za-z,
// case-sensitive). The check is the CRC-32/IEEE of the first 44 bytes: it finds typing errors and proves nothing. The id is
// public (clients print the first 12 characters to their logs); the secret carries 190 bits. Only the SHA-256 of the whole
// key is ever stored, so a stolen state holds no key.
//
// What it guarantees: nothing here prints, logs, marshals or returns in an error any part of a key, except the methods whose
// names say so (Reveal, AppendReveal). Check, Parse and Sum allocate nothing. Everything is safe for concurrent use.
package orgkey

import (
	"errors"
	"hash/crc32"
)

// Prefix begins every org key.
const Prefix = "org_"

// Sizes in bytes.
const (
	Len       = len(Prefix) + IDLen + SecretLen + CheckLen // Len is the size of a whole key: 50.
	IDLen     = 8                                          // IDLen is the size of the public id.
	SecretLen = 32                                         // SecretLen is the size of the secret.
	CheckLen  = 6                                          // CheckLen is the size of the check: 62^6 > 2^32.

	checkedLen = Len - CheckLen // what the check covers
)

// Errors of Check and Parse. Each says what is wrong with the form and never repeats the key.
var (
	ErrLength   = errors.New("org key has the wrong length: copy all 50 characters of it")
	ErrPrefix   = errors.New("org key does not begin with org_: send the key that org/create or org/keys returned")
	ErrAlphabet = errors.New("org key holds a character other than 0-9, A-Z, a-z after org_: copy the key again")
	ErrChecksum = errors.New("org key fails its checksum, so a character is wrong or swapped: copy the key again")
)

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// inAlphabet is a table rather than comparisons: a check runs on every request.
var inAlphabet = func() (t [256]bool) {
	for i := range len(alphabet) {
		t[alphabet[i]] = true
	}
	return t
}()

// Check tells whether b has the form of a key: length, prefix, alphabet and checksum, in this order. It allocates nothing and
// trims nothing. A key that passes may still be unknown. Its time depends on b, which gives nothing away: all it
// judges can be computed from b by anyone.
func Check(b []byte) error {
	if len(b) != Len {
		return ErrLength
	}
	if string(b[:len(Prefix)]) != Prefix {
		return ErrPrefix
	}
	for _, c := range b[len(Prefix):] {
		if !inAlphabet[c] {
			return ErrAlphabet
		}
	}
	if checkOf(b[:checkedLen]) != [CheckLen]byte(b[checkedLen:]) {
		return ErrChecksum
	}
	return nil
}

// ID returns the public id within b, which must have passed Check. The result aliases b.
func ID(b []byte) []byte {
	return b[len(Prefix) : len(Prefix)+IDLen]
}

// checkOf is the check of the first 44 bytes of a key, most significant digit first.
func checkOf(b []byte) (check [CheckLen]byte) {
	n := crc32.ChecksumIEEE(b)
	for i := CheckLen - 1; i >= 0; i-- {
		check[i] = alphabet[n%62]
		n /= 62
	}
	return check
}
