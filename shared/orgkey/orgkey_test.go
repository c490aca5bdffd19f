package orgkey

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

const sample = "org_Zz09Aa1bMachineIDisTheOffSwitchForFleets1CzegJ"

// golden reads the keys that must stay good for ever, with their hashes.
func golden(tb testing.TB) map[string]string {
	tb.Helper()
	text, err := os.ReadFile("testdata/keys.golden")
	if err != nil {
		tb.Fatal(err)
	}
	keys := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && !strings.HasPrefix(line, "#") {
			keys[f[0]] = f[1]
		}
	}
	if len(keys) == 0 {
		tb.Fatal("no golden keys")
	}
	return keys
}

func TestGolden(t *testing.T) {
	for key, hash := range golden(t) {
		k, err := Parse([]byte(key))
		if err != nil {
			t.Errorf("Parse(%s): %v", key, err)
			continue
		}
		if k.Reveal() != key || string(k.AppendReveal(nil)) != key {
			t.Errorf("%s comes back as another key", key)
		}
		if got := k.Hash().String(); got != hash {
			t.Errorf("hash of %s = %s, want %s", key, got, hash)
		}
		if k.ID() != key[4:12] || string(ID([]byte(key))) != key[4:12] {
			t.Errorf("id of %s = %s", key, k.ID())
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, key string
		want      error
	}{
		{"good", sample, nil},
		{"empty", "", ErrLength},
		{"one short", sample[:49], ErrLength},
		{"one long", sample + "0", ErrLength},
		{"with a space", " " + sample[:49], ErrPrefix},
		{"upper-case prefix", "ORG_" + sample[4:], ErrPrefix},
		{"other prefix", "lic_" + sample[4:], ErrPrefix},
		{"dash within", sample[:20] + "-" + sample[21:], ErrAlphabet},
		{"underscore within", sample[:20] + "_" + sample[21:], ErrAlphabet},
		{"NUL within", sample[:20] + "\x00" + sample[21:], ErrAlphabet},
		{"byte above 7F", sample[:20] + "\xc3" + sample[21:], ErrAlphabet},
		{"at sign, before A", sample[:20] + "@" + sample[21:], ErrAlphabet},
		{"bracket, after Z", sample[:20] + "[" + sample[21:], ErrAlphabet},
		{"backtick, before a", sample[:20] + "`" + sample[21:], ErrAlphabet},
		{"brace, after z", sample[:20] + "{" + sample[21:], ErrAlphabet},
		{"other case of the id", strings.Replace(sample, "Zz", "zZ", 1), ErrChecksum},
		{"check zero", sample[:44] + "000000", ErrChecksum},
		{"check beyond 32 bits", sample[:44] + "zzzzzz", ErrChecksum},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Check([]byte(c.key)); !errors.Is(err, c.want) {
				t.Errorf("Check = %v, want %v", err, c.want)
			}
			k, err := Parse([]byte(c.key))
			if !errors.Is(err, c.want) || k.IsZero() != (c.want != nil) {
				t.Errorf("Parse = %v, %v", k, err)
			}
		})
	}
}

func TestErrorsNeverTellTheKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t).AppendReveal(nil)
		i := rapid.IntRange(0, Len-1).Draw(t, "i")
		key[i] = rapid.Byte().Draw(t, "byte")
		if err := Check(key); err != nil && strings.Contains(err.Error(), string(key[12:20])) {
			t.Fatalf("%v holds part of the key", err)
		}
	})
}

func drawKey(t *rapid.T) Key {
	seed := rapid.SliceOfN(rapid.ByteRange(0, 247), 96, 96).Draw(t, "random")
	k, err := New(bytes.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Every substitution of one character and every swap of two neighbours is found. A CRC-32 finds any burst of up to 32
// bits within what it covers; only a swap across the border to the check is a matter of chance (2^-32).
func TestTyposAreFound(t *testing.T) {
	found := func(t *rapid.T, key []byte) {
		if Check(key) == nil {
			t.Fatalf("typo not found: %s", key)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t).AppendReveal(nil)
		if err := Check(key); err != nil {
			t.Fatalf("fresh key: %v", err)
		}
		for i := range key {
			was := key[i]
			for _, c := range []byte(alphabet + "_- ") {
				if c != was {
					key[i] = c
					found(t, key)
				}
			}
			key[i] = was
			if i > 0 && key[i-1] != was {
				key[i-1], key[i] = key[i], key[i-1]
				found(t, key)
				key[i-1], key[i] = key[i], key[i-1]
			}
		}
	})
}

// TestNewIsUnbiased feeds every byte as the first: each character must come from four of them, and eight bytes must be skipped.
// Taking c%62 of all 256 would make eight characters come from five.
func TestNewIsUnbiased(t *testing.T) {
	counts := map[byte]int{}
	for v := range 256 {
		first := bytes.Repeat([]byte{byte(v)}, 48) // the batch in which New reads
		k, err := New(bytes.NewReader(append(first, make([]byte, 48)...)))
		if err != nil {
			t.Fatal(err)
		}
		if v < 248 {
			counts[k.ID()[0]]++
		} else if k.ID() != "00000000" {
			t.Errorf("byte %d was used", v)
		}
	}
	for _, c := range []byte(alphabet) {
		if counts[c] != 4 {
			t.Errorf("%q comes from %d of 248 bytes, want 4", c, counts[c])
		}
	}
}

func TestNewKeysDiffer(t *testing.T) {
	seen := map[Hash]bool{}
	for range 1000 {
		k, err := New(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if seen[k.Hash()] {
			t.Fatal("a key came twice")
		}
		seen[k.Hash()] = true
	}
}

func TestNewFailsWithItsSource(t *testing.T) {
	broken := errors.New("no entropy")
	if k, err := New(iotest.ErrReader(broken)); !errors.Is(err, broken) || !k.IsZero() {
		t.Errorf("New = %v, %v", k, err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	key := []byte(sample)
	bad := []byte(sample[:49] + "!")
	var h Hash
	for name, f := range map[string]func(){
		"Check":     func() { _ = Check(key) },
		"Check bad": func() { _ = Check(bad) },
		"Parse":     func() { _, _ = Parse(key) },
		"Sum":       func() { h = Sum(key) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	_ = h
}

func FuzzCheck(f *testing.F) {
	for key := range golden(f) {
		f.Add([]byte(key))
	}
	f.Add([]byte(""))
	f.Add([]byte("org_"))
	f.Add([]byte(sample + "\n"))
	f.Add(bytes.Repeat([]byte{0xff}, Len))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Parse(b)
		if (err == nil) != (Check(b) == nil) {
			t.Fatal("Parse and Check differ")
		}
		if err != nil {
			return
		}
		if k.Reveal() != string(b) || k.Hash() != Sum(b) || len(b) != Len || !bytes.HasPrefix(b, []byte(Prefix)) {
			t.Fatalf("accepted %q", b)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	key := []byte(sample)
	for b.Loop() {
		_ = Check(key)
	}
}

func BenchmarkSum(b *testing.B) {
	key := []byte(sample)
	for b.Loop() {
		_ = Sum(key)
	}
}
