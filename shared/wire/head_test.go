package wire

import (
	"bufio"
	"errors"
	"math"
	"math/big"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/valyala/fasthttp"
)

func head(lines ...string) []byte {
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

func TestCheckHead(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"typical", []byte(typicalHead), nil},
		{"none at all", nil, nil},
		{"the empty line only", []byte("\r\n"), nil},
		{"every tchar in a name", head("!#$%&'*+-.^_`|~09AZaz: x"), nil},
		{"no space after the colon", head("A:b"), nil},
		{"empty value", head("A:"), nil},
		{"blank value", head("A: \t "), nil},
		{"tab within a value", head("A: b\tc"), nil},
		{"bytes above 7F in a value", head("A: \xc3\xa9\xff\x80\x9f"), nil},
		{"colons in a value", head("A: b:c:d"), nil},
		{"other headers may come twice", head("Accept: a", "Accept: b", "Cookie: c", "Cookie: d"), nil},
		{"two request ids", head("X-Request-Id: a", "X-Request-Id: b"), nil},
		{"chunked in any case", head("TRANSFER-ENCODING: Chunked"), nil},

		{"no line end", []byte("A: b"), ErrHeadLine},
		{"no empty line", []byte("A: b\r\n"), ErrHeadLine},
		{"bytes after the empty line", []byte("A: b\r\n\r\nx"), ErrHeadSyntax},
		{"a head after the empty line", []byte("A: b\r\n\r\nC: d\r\n\r\n"), ErrHeadSyntax},
		{"bare LF", []byte("A: b\nC: d\r\n\r\n"), ErrHeadLine},
		{"bare LF at the end", []byte("A: b\r\n\n"), ErrHeadLine},
		{"LF only", []byte("\n"), ErrHeadLine},
		{"CR only", []byte("\r"), ErrHeadLine},
		{"LF CR", []byte("A: b\n\r\n\r"), ErrHeadLine},
		{"bare CR in a value", head("A: b\rc"), ErrHeadLine},
		{"bare CR in a name", head("A\r: b"), ErrHeadLine},
		{"CR CR LF", []byte("A: b\r\r\n\r\n"), ErrHeadLine},
		{"no colon", head("A"), ErrHeadSyntax},
		{"no name", head(": b"), ErrHeadSyntax},
		{"slash in a name", head("A/B: c"), ErrHeadSyntax},
		{"quote in a name", head(`A"B: c`), ErrHeadSyntax},
		{"byte above 7F in a name", head("\xc3\xa9: b"), ErrHeadSyntax},
		{"folded", head("A: b", " c"), ErrHeadFolded},
		{"folded with a tab", head("A: b", "\tc: d"), ErrHeadFolded},
		{"folded before the first", head(" A: b"), ErrHeadFolded},
		{"blank line", head("A: b", "  "), ErrHeadFolded},
		{"space before the colon", head("A : b"), ErrHeadSpace},
		{"tab before the colon", head("A\t: b"), ErrHeadSpace},
		{"space within a name", head("A B: c"), ErrHeadSpace},
		{"NUL", head("A: b\x00"), ErrHeadControl},
		{"NUL in a name", head("A\x00B: c"), ErrHeadControl},
		{"escape", head("A: \x1b[0m"), ErrHeadControl},
		{"vertical tab", head("A: b\vc"), ErrHeadControl},
		{"DEL", head("A: b\x7fc"), ErrHeadControl},
		{"DEL, last of a long head", head("A: bcdefghijklmnopqrstuvwxyz\x7f"), ErrHeadControl},
		{"two keys", head("x-org-key: a", "X-Org-Key: a"), ErrHeadRepeated},
		{"two Hosts", head("Host: a", "Host: a"), ErrHeadRepeated},
		{"two Authorizations", head("Authorization: a", "AUTHORIZATION: b"), ErrHeadRepeated},
		{"two Idempotency-Keys", head("Idempotency-Key: a", "idempotency-key: b"), ErrHeadRepeated},
		{"two orgs", head("X-MachineID-Org: a", "X-MachineID-Org: b"), ErrHeadRepeated},
		{"two versions", head("MachineID-Version: 1", "MachineID-Version: 2"), ErrHeadRepeated},
		{"two budgets", head("MachineID-Timeout-Ms: 1", "MachineID-Timeout-Ms: 2"), ErrHeadRepeated},
		{"two lengths", head("Content-Length: 1", "Content-Length: 1"), ErrHeadRepeated},
		{"two encodings", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), ErrHeadRepeated},
		{"length, encoding", head("Content-Length: 1", "Transfer-Encoding: chunked"), ErrHeadBothLengths},
		{"encoding, length", head("Transfer-Encoding: chunked", "Content-Length: 1"), ErrHeadBothLengths},
		{"list of lengths", head("Content-Length: 1, 1"), ErrHeadLength},
		{"signed length", head("Content-Length: +1"), ErrHeadLength},
		{"hexadecimal length", head("Content-Length: 0x1"), ErrHeadLength},
		{"empty length", head("Content-Length: "), ErrHeadLength},
		{"identity", head("Transfer-Encoding: identity"), ErrHeadTransfer},
		{"chunked twice in one", head("Transfer-Encoding: chunked, chunked"), ErrHeadTransfer},
		{"empty encoding", head("Transfer-Encoding:"), ErrHeadTransfer},
		{"quoted chunked", head(`Transfer-Encoding: "chunked"`), ErrHeadTransfer},
		{"compressed and chunked", head("Transfer-Encoding: gzip, Chunked"), ErrHeadCoding},
		{"compressed, not chunked at the end", head("Transfer-Encoding: chunked, gzip"), ErrHeadTransfer},
		{"compressed, chunked twice", head("Transfer-Encoding: gzip, chunked, chunked"), ErrHeadTransfer},
		{"compressed and chunked, with a length", head("Content-Length: 1", "Transfer-Encoding: gzip, chunked"), ErrHeadTransfer},
		{"compressed and chunked, over two lines", head("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"), ErrHeadTransfer},
		{"an empty Host", head("Host:"), ErrHeadHost},
		{"a Host with user information", head("Host: a@b"), ErrHeadHost},
		{"two Hosts in one", head("Host: a, b"), ErrHeadHost},
		{"compressed", head("Content-Encoding: gzip"), ErrHeadEncoding},
		{"identity content", head("Content-Encoding: identity"), ErrHeadEncoding},
		{"empty content encoding", head("content-encoding:"), ErrHeadEncoding},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h Head
			if err := CheckHead(c.raw, &h); !errors.Is(err, c.want) {
				t.Errorf("CheckHead = %v, want %v", err, c.want)
			}
		})
	}
}

func TestCheckHeadPicks(t *testing.T) {
	h := Head{OrgKey: []byte("of the request before"), Chunked: true}
	raw := head("Host: a", "X-ORG-KEY: \t org_x \t", "x-request-id: id", "Authorization: Bearer t", "X-MachineID-Org: o",
		"idempotency-KEY:k", "machineid-version: 1", "machineid-timeout-ms: 7000", "prefer: respond-async", "Prefer: other")
	if err := CheckHead(raw, &h); err != nil {
		t.Fatal(err)
	}
	want := Head{
		OrgKey: []byte("org_x"), RequestID: []byte("id"), Authorization: []byte("Bearer t"), Operated: []byte("o"),
		IdempotencyKey: []byte("k"), Version: []byte("1"), Timeout: []byte("7000"), Prefer: []byte("respond-async, other"),
	}
	if diff := cmp.Diff(want, h, cmpopts.IgnoreUnexported(Head{})); diff != "" {
		t.Error(diff)
	}
	for value, want := range map[string]bool{
		"close": true, "Close": true, "keep-alive, CLOSE": true, "TE ,close,x": true, "keep-alive": false, "closed": false, "": false, "x close": false,
	} {
		if err := CheckHead(head("CONNECTION: "+value), &h); err != nil || h.Close != want {
			t.Errorf("Connection: %s gives close %v, %v", value, h.Close, err)
		}
	}
	if err := CheckHead(head("Connection: close", "Connection: keep-alive"), &h); err != nil || !h.Close {
		t.Errorf("close is forgotten: %v", err)
	}
}

// TestLengths: what an int holds is read as it is, and what none holds as the largest, however many digits it has: no length wraps to one that is short.
func TestLengths(t *testing.T) {
	const largest = "9223372036854775807" // of 64 bits
	for sent, want := range map[string]int{
		"0": 0, "00": 0, "7": 7, "0000000000000000000000000000000000000000019": 19, "1048576": 1 << 20,
		"922337203685477580": math.MaxInt / 10, "9223372036854775799": math.MaxInt - 8, "9223372036854775800": math.MaxInt - 7,
		"9223372036854775806": math.MaxInt - 1, largest: math.MaxInt,
		"9223372036854775808": math.MaxInt, "9223372036854775809": math.MaxInt, "9223372036854775810": math.MaxInt, "9999999999999999999": math.MaxInt,
		"18446744073709551615": math.MaxInt, "18446744073709551616": math.MaxInt, "18446744073709551635": math.MaxInt, "99999999999999999999": math.MaxInt,
		largest + "0": math.MaxInt, largest + "000000000000000000019": math.MaxInt, "1" + strings.Repeat("0", 64): math.MaxInt, strings.Repeat("7", 7000): math.MaxInt,
	} {
		if math.MaxInt != math.MaxInt64 && len(sent) > 9 {
			continue
		}
		var h Head
		if err := CheckHead(head("Content-Length: "+sent), &h); err != nil || h.Length != want {
			t.Errorf("Content-Length %.40s is read as %d, %v, want %d", sent, h.Length, err, want)
		}
		r := Request{Head: h}
		if whole := want <= bodyAtOnce; r.whole() != whole {
			t.Errorf("with Content-Length %.40s all of it has come: %t, want %t", sent, !whole, whole)
		}
	}
	// The same of all that is near a power of two, against arithmetic that does not wrap.
	most := big.NewInt(math.MaxInt)
	for bits := range uint(130) {
		for near := int64(-20); near <= 20; near++ {
			n := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(near))
			if n.Sign() < 0 {
				continue
			}
			want := math.MaxInt
			if n.Cmp(most) < 0 {
				want = int(n.Int64())
			}
			var h Head
			if err := CheckHead(head("Content-Length: "+n.String()), &h); err != nil || h.Length != want {
				t.Errorf("Content-Length %v is read as %d, %v, want %d", n, h.Length, err, want)
			}
		}
	}
}

func TestCheckHeadForgetsTheHeadBefore(t *testing.T) {
	h := Head{OrgKey: []byte("before"), Timeout: []byte("1")}
	if err := CheckHead(head("x-request-id: a", "x-request-id: b", "Transfer-Encoding: chunked", "x-org-key:"), &h); err != nil {
		t.Fatal(err)
	}
	if h.RequestID != nil || !h.Chunked || h.OrgKey == nil || len(h.OrgKey) != 0 || h.Timeout != nil {
		t.Errorf("%+v", h)
	}
}

// hostForm is Host of RFC 9110, 7.2, but for an empty host and for what stands within brackets.
var hostForm = regexp.MustCompile(`^(\[[^\]]*\]|([A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(:[0-9]*)?$`)

// slowCheck is what CheckHead must agree with on what may stand in a head, written for clarity.
func slowCheck(raw string) bool {
	if raw == "" {
		return true
	}
	body, ok := strings.CutSuffix(raw, "\r\n\r\n")
	if !ok {
		return raw == "\r\n"
	}
	once := map[string]int{}
	for line := range strings.SplitSeq(body, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 0x7e || !tokenByte[byte(r)] }) {
			return false
		}
		for _, c := range []byte(value) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return false
			}
		}
		value = strings.Trim(value, " \t")
		name = strings.ToLower(name)
		switch name {
		case "content-encoding":
			return false
		case "content-length":
			if value == "" || strings.Trim(value, "0123456789") != "" {
				return false
			}
		case "host":
			if !hostForm.MatchString(value) {
				return false
			}
			if inner, _, ok := strings.Cut(value, "]"); ok {
				if ip := net.ParseIP(inner[1:]); ip == nil || !strings.Contains(inner, ":") {
					return false
				}
			}
		case "transfer-encoding":
			if !strings.EqualFold(value, "chunked") {
				return false
			}
		}
		once[name]++
	}
	for _, name := range []string{
		"host", "content-length", "transfer-encoding", "x-org-key", "authorization", "idempotency-key", "x-machineid-org",
		"machineid-version", "machineid-timeout-ms",
	} {
		if once[name] > 1 {
			return false
		}
	}
	return once["content-length"] == 0 || once["transfer-encoding"] == 0
}

// FuzzHead holds CheckHead to slowCheck, and to fasthttp: of what both accept they must see the same key and framing.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		typicalHead, "", "\r\n", "\n", "A: b\r\n c\r\n\r\n", "A : b\r\n\r\n", "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "Host: a\r\nContent-Length: 5\r\n\r\n",
		"Host: a\r\nx-org-key: a\r\nX-Org-Key: b\r\n\r\n", "A: b\nC: d\r\n\r\n", "A: \x7f\r\n\r\n", "A\tB: c\r\n\r\n", "Host: a\r\n1: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var h Head
		err := CheckHead(raw, &h)
		if want := slowCheck(string(raw)); (err == nil) != want {
			t.Fatalf("CheckHead(%q) = %v, want ok %v", raw, err, want)
		}
		if err != nil {
			return
		}
		var theirs fasthttp.RequestHeader
		if err := theirs.Read(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\n" + string(raw)))); err != nil {
			return // stricter than ours is fine: it is refused before
		}
		if string(theirs.RawHeaders()) != string(raw) {
			t.Fatalf("fasthttp keeps %q of %q", theirs.RawHeaders(), raw)
		}
		if string(theirs.Peek("X-Org-Key")) != string(h.OrgKey) {
			t.Fatalf("key %q, fasthttp's %q", h.OrgKey, theirs.Peek("X-Org-Key"))
		}
		if (theirs.ContentLength() == chunkedLength) != h.Chunked {
			t.Fatalf("chunked %v, fasthttp's length %d", h.Chunked, theirs.ContentLength())
		}
	})
}
