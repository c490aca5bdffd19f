package edge

import (
	"crypto/sha256"
	"strconv"
	"testing"
)

// TestGoodKeysKeepTheirPlaces: keys that were good do not push each other out, as far as there are places.
func TestGoodKeysKeepTheirPlaces(t *testing.T) {
	const many = 20_000
	var l limits
	key := func(i int) credential { return sha256.Sum256([]byte(strconv.Itoa(i))) }
	for i := range many {
		c := key(i)
		l.prove(&c, true, orgID{1})
		l.prove(&c, true, orgID{})
	}
	proven := 0
	for i := range many {
		c := key(i)
		if l.isProven(&c) {
			proven++
		}
		if l.prove(&c, false, orgID{}); l.isProven(&c) {
			t.Fatal("a key that is none any more is proven")
		}
	}
	if proven < many*999/1000 {
		t.Errorf("%d of %d", proven, many)
	}
}
