package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"slices"
)

// The faults of a head. Each is one sentence for the caller, names no value that was sent, and is answered with 400 (headFault has the exceptions) and the
// end of the connection, because where the next request begins is no longer certain.
var (
	ErrHeadSyntax       = errors.New("a header line is no name, colon and value: send each header as `Name: value` on one line")
	ErrHeadFolded       = errors.New("a header is folded over several lines: send each header on one line")
	ErrHeadSpace        = errors.New("a header's name holds or ends with white space: put the colon right after the name")
	ErrHeadLine         = errors.New("a header line does not end with CR LF: end every line of the head with CR LF")
	ErrHeadControl      = errors.New("a header's value holds a control character: send visible characters, spaces and tabs only")
	ErrHeadRepeated     = errors.New("a header that may be sent once is repeated: send it once")
	ErrHeadBothLengths  = errors.New("Content-Length and Transfer-Encoding are both sent: send one of them")
	ErrHeadLength       = errors.New("Content-Length is no plain number: send one decimal number")
	ErrHeadTransfer     = errors.New("Transfer-Encoding is other than chunked: send chunked, or Content-Length")
	ErrHeadEncoding     = errors.New("Content-Encoding is sent: send the body as it is, not compressed")
	ErrHeadTrailer      = errors.New("the chunked body has trailer fields: send every header in the head")
	ErrHeadHTTPVersion  = errors.New("the HTTP version is not 1.0 or 1.1: send HTTP/1.1")
	ErrHeadChunkedLater = errors.New("a chunked body is sent with a later version than HTTP/1.1: send Content-Length, or HTTP/1.1")
	ErrHeadCoding       = errors.New("Transfer-Encoding names a coding that this server does not have: send chunked alone, or Content-Length")
	ErrHeadExpect       = errors.New("the header Expect names something other than 100-continue: send that, or leave Expect out")
	ErrHeadHost         = errors.New("the header Host is missing, empty or no host with an optional port: send `Host: name` or `Host: name:port`")
	ErrHeadTarget       = errors.New("the target is neither a path nor an http URL without user information: send the path and the query only")
)

// Head is what one pass over a head finds. The slices alias the raw head and are good until the handler returns. A field that
// was not sent is nil; one that was sent empty is empty and not nil. All but RequestID and Prefer are known to have been
// sent at most once.
type Head struct {
	OrgKey         []byte // x-org-key
	RequestID      []byte // X-Request-Id; nil also if it was repeated
	Authorization  []byte // Authorization
	Operated       []byte // X-MachineID-Org, the org that an operator acts for
	IdempotencyKey []byte // Idempotency-Key
	Version        []byte // MachineID-Version
	Timeout        []byte // MachineID-Timeout-Ms
	Prefer         []byte // Prefer; of several lines one list
	Length         int    // Content-Length, 0 if none was sent; what no int holds is the largest
	Chunked        bool   // Transfer-Encoding: chunked
	Close          bool   // Connection: close, in any case and place of its list

	unexpected bool // Expect has something other than 100-continue
	seen       fieldSet
}

// fieldSet notes which of the known headers came.
type fieldSet uint16

const (
	fieldHost fieldSet = 1 << iota
	fieldLength
	fieldTransfer
	fieldOrgKey
	fieldRequestID
	fieldAuthorization
	fieldOperated
	fieldIdempotency
	fieldVersion
	fieldTimeout
	fieldPrefer
)

// CheckHead judges the raw header lines of a request (fasthttp's RequestHeader.RawHeaders: all after the request line, with the
// empty line at the end) and picks the headers that the API reads. It allocates nothing, and returns one of the ErrHead
// errors. The rules are those of RFC 9112 (2.2, 5.1, 5.2, 6.1 to 6.3) read strictly: what that RFC lets a server repair
// is refused, since two servers may repair it differently.
func CheckHead(raw []byte, h *Head) error {
	*h = Head{}
	if len(raw) == 0 {
		return nil // HTTP/1.0 without any header: fasthttp keeps not even the empty line
	}
	// Lines are found by their control characters, eight bytes at a time, which finds those that may not be there as well.
	start := 0
	for at := 0; at < len(raw); at += 8 {
		var eight uint64
		if at+8 <= len(raw) {
			eight = binary.LittleEndian.Uint64(raw[at : at+8])
		} else {
			eight = lastWord(raw[at:])
		}
		for mask := controls(eight); mask != 0; mask &= mask - 1 {
			i := at + bits.TrailingZeros64(mask)/8
			switch raw[i] {
			case '\t', '\r': // a tab is judged with its line, a CR with the LF that must follow
				if raw[i] == '\r' && (i+1 == len(raw) || raw[i+1] != '\n') {
					return ErrHeadLine
				}
			case '\n':
				if i == 0 || raw[i-1] != '\r' {
					return ErrHeadLine
				}
				if i == start+1 && i+1 == len(raw) {
					return nil
				}
				if err := h.line(raw[start : i-1]); err != nil {
					return err
				}
				start = i + 1
			default:
				return ErrHeadControl
			}
		}
	}
	return ErrHeadLine
}

// line takes one line, without its end.
func (h *Head) line(line []byte) error {
	for i, c := range line {
		if tokenByte[c] {
			continue
		}
		if c != ':' || i == 0 {
			return nameFault(line, i)
		}
		return h.note(line[:i], trimBlank(line[i+1:]))
	}
	return ErrHeadSyntax
}

// nameFault says what is wrong with a line that has something else than the colon after n bytes of a name.
func nameFault(line []byte, n int) error {
	switch {
	case line[n] != ' ' && line[n] != '\t':
		return ErrHeadSyntax
	case n == 0:
		return ErrHeadFolded
	}
	return ErrHeadSpace
}

// note takes one header. Names are told apart by length first: most headers are none of ours and cost one comparison.
func (h *Head) note(name, value []byte) error {
	switch len(name) {
	case 4:
		if equalFold(name, "host") {
			if !validHost(value) {
				return ErrHeadHost
			}
			return h.once(fieldHost)
		}
	case 6:
		if equalFold(name, "prefer") {
			h.notePrefer(value)
		}
		if equalFold(name, "expect") {
			h.unexpected = h.unexpected || !listOnly(value, "100-continue")
		}
	case 9:
		if equalFold(name, "x-org-key") {
			h.OrgKey = value
			return h.once(fieldOrgKey)
		}
	case 10:
		if equalFold(name, "connection") {
			h.Close = h.Close || listHas(value, "close")
		}
	case 12:
		if equalFold(name, "x-request-id") {
			h.RequestID = value
			if h.once(fieldRequestID) != nil {
				h.RequestID = nil // proxies add their own: two are as good as none
			}
		}
	case 13:
		if equalFold(name, "authorization") {
			h.Authorization = value
			return h.once(fieldAuthorization)
		}
	case 14:
		if equalFold(name, "content-length") {
			return h.noteLength(value)
		}
	case 15:
		if equalFold(name, "idempotency-key") {
			h.IdempotencyKey = value
			return h.once(fieldIdempotency)
		}
		if equalFold(name, "x-machineid-org") {
			h.Operated = value
			return h.once(fieldOperated)
		}
	case 16:
		if equalFold(name, "content-encoding") {
			return ErrHeadEncoding
		}
	case 17:
		if equalFold(name, "transfer-encoding") {
			return h.noteTransfer(value)
		}
		if equalFold(name, "machineid-version") {
			h.Version = value
			return h.once(fieldVersion)
		}
	case 20:
		if equalFold(name, "machineid-timeout-ms") {
			h.Timeout = value
			return h.once(fieldTimeout)
		}
	}
	return nil
}

func (h *Head) once(f fieldSet) error {
	if h.seen&f != 0 {
		return ErrHeadRepeated
	}
	h.seen |= f
	return nil
}

// noteLength takes Content-Length: digits only, so that neither a list nor a sign is read in two ways (RFC 9110, 8.6).
func (h *Head) noteLength(value []byte) error {
	if len(value) == 0 {
		return ErrHeadLength
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return ErrHeadLength
		}
		if digit := int(c - '0'); h.Length > (math.MaxInt-digit)/10 {
			h.Length = math.MaxInt // and so it stays, whatever follows
		} else {
			h.Length = 10*h.Length + digit
		}
	}
	if h.seen&fieldTransfer != 0 {
		return ErrHeadBothLengths
	}
	return h.once(fieldLength)
}

// notePrefer takes a line of Prefer. Further lines add to the list (RFC 9110, 5.3); they are seldom, and allocate.
func (h *Head) notePrefer(value []byte) {
	if h.seen&fieldPrefer == 0 {
		h.seen |= fieldPrefer
		h.Prefer = value
		return
	}
	h.Prefer = slices.Concat(h.Prefer, []byte(", "), value)
}

// noteTransfer takes Transfer-Encoding. Where chunked is the last of several codings the body's end is known, but not what it means; else not even
// that (RFC 9112, 6.1 and 6.3).
func (h *Head) noteTransfer(value []byte) error {
	if !equalFold(value, "chunked") {
		if i := bytes.LastIndexByte(value, ','); i >= 0 && !listOnly(value[:i], "") && h.seen&(fieldTransfer|fieldLength) == 0 &&
			equalFold(trimBlank(value[i+1:]), "chunked") && !listHas(value[:i], "chunked") {
			return ErrHeadCoding
		}
		return ErrHeadTransfer
	}
	if h.seen&fieldLength != 0 {
		return ErrHeadBothLengths
	}
	h.Chunked = true
	return h.once(fieldTransfer)
}

// listHas finds an element of a comma-separated list without parameters. It is given in lower case, see equalFold.
func listHas(value []byte, element string) bool {
	for len(value) > 0 {
		var first []byte
		first, value = cutByte(value, ',')
		if equalFold(trimBlank(first), element) {
			return true
		}
	}
	return false
}

// listOnly tells whether a list has no other element, whatever its empty ones (RFC 9110, 5.6.1).
func listOnly(value []byte, element string) bool {
	for len(value) > 0 {
		var first []byte
		first, value = cutByte(value, ',')
		if first = trimBlank(first); len(first) > 0 && !equalFold(first, element) {
			return false
		}
	}
	return true
}

// tokenByte is tchar of RFC 9110, 5.6.2.
var tokenByte = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		t[c] = true
	}
	return t
}()

// trimBlank cuts spaces and tabs (OWS of RFC 9110, 5.6.3).
func trimBlank(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// lastWord is what is left of a head, fewer than eight bytes, the first one lowest, filled up with spaces.
func lastWord(b []byte) uint64 {
	w := uint64(0x2020202020202020)
	for i, c := range b {
		w ^= uint64(c^' ') << (8 * i)
	}
	return w
}

// controls has the top bit of each byte set that is 00-1F or 7F in w.
func controls(w uint64) uint64 {
	const (
		ones = 0x0101010101010101
		low7 = 0x7f * ones
		tops = 0x80 * ones
	)
	// Without its top bit, a byte plus 60 has it set if it was 20 or more, and plus 1 if it was 7F. No byte carries into the next.
	printable, del := w&low7+0x60*ones, w&low7+ones
	return (^printable | del) & ^w & tops
}
