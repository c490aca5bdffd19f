package link_test

import (
	"testing"

	"machineid/shared/link"
)

func hasher(tb testing.TB, fill byte) link.Hasher {
	tb.Helper()
	key := make([]byte, link.HashKeySize)
	for i := range key {
		key[i] = fill + byte(i)
	}
	h, err := link.NewHasher(key)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// TestHashesAreStable: both tiers of different releases must agree, so the
// hashes are part of the wire format.
func TestHashesAreStable(t *testing.T) {
	h := hasher(t, 0)
	sum, org := [32]byte{1, 2, 3}, [16]byte{4, 5, 6}
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"key", h.Key(&sum), 0x32cdbe1393d34c5c},
		{"org", h.Org(&org), 0xd5862e3a948658c2},
		{"device", h.Device(&org, []byte("agent-01")), 0x7bfab2d86337fc58},
	} {
		if c.got != c.want {
			t.Errorf("%s hashes to %#x, want %#x", c.name, c.got, c.want)
		}
	}
}

func TestHashesDependOnTheClusterAndTheKind(t *testing.T) {
	a, b := hasher(t, 0), hasher(t, 1)
	var org [16]byte
	if a.Org(&org) == b.Org(&org) {
		t.Error("two clusters hash alike")
	}
	if a.Org(&org) == a.Device(&org, nil) {
		t.Error("an org and a device without a name hash alike")
	}
	if a.Device(&org, []byte("a")) == a.Device(&[16]byte{1}, []byte("a")) {
		t.Error("one id in two orgs hashes alike")
	}
}

// TestADeviceIsHashedToItsLastByte, up to the longest id; what is beyond is cut.
func TestADeviceIsHashedToItsLastByte(t *testing.T) {
	h, org := hasher(t, 0), [16]byte{}
	id := func(n int, last byte) []byte { return append(make([]byte, n-1), last) }
	for _, n := range []int{1, 255, 256} {
		if h.Device(&org, id(n, 1)) == h.Device(&org, id(n, 2)) {
			t.Errorf("two ids of %d bytes hash alike", n)
		}
	}
	if h.Device(&org, id(257, 1)) != h.Device(&org, id(257, 2)) {
		t.Error("what is beyond the longest id is hashed")
	}
}

func TestNewHasherRefusesAShortKey(t *testing.T) {
	if _, err := link.NewHasher(make([]byte, 15)); err == nil {
		t.Error("a key of 15 bytes was taken")
	}
}

func TestHashingAllocatesNothing(t *testing.T) {
	h, org, sum, id := hasher(t, 0), [16]byte{}, [32]byte{}, []byte("agent-01")
	if n := testing.AllocsPerRun(1000, func() { _, _, _ = h.Key(&sum), h.Org(&org), h.Device(&org, id) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
