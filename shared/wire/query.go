package wire

import (
	"bytes"
	"errors"
	"strconv"
)

// MaxQueryParams is the most parameters a query may have. No call reads more than three.
const MaxQueryParams = 16

// Faults of a query string, as sentences for the caller.
var (
	ErrQueryEscape   = errors.New("the query string has a bad % escape: encode each byte as % and two hexadecimal digits")
	ErrQueryRepeated = errors.New("the query string gives a name twice: give it once")
	ErrQueryTooMany  = errors.New("the query string has more than 16 parameters: leave out those the call does not read")
	ErrQueryByte     = errors.New("the query string holds a control character or #: encode it with %")
)

// unreadableQuery is a query that ParseQuery refuses for this reason, and that holds nothing that was sent.
func unreadableQuery(err error) string {
	switch {
	case errors.Is(err, ErrQueryEscape):
		return "%"
	case errors.Is(err, ErrQueryRepeated):
		return "a&a"
	case errors.Is(err, ErrQueryTooMany):
		return "a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q"
	}
	return "#" // ErrQueryByte; what nobody knows is no readable query either
}

// Query is a parsed query string. It is a value without pointers of its own: names and values alias the raw bytes, or fresh ones
// where something was encoded.
type Query struct {
	params [MaxQueryParams]param
	n      int
}

type param struct{ name, value []byte }

// ParseQuery parses what follows the question mark. Strictly: `+` is a space, a bad escape is refused rather than passed
// on, a name given twice (also when one spelling is encoded) is refused, and so is anything that is no visible ASCII byte
// or UTF-8. Parameters without `=` have an empty value, empty ones are skipped. It allocates only for encoded names and
// values.
func ParseQuery(raw []byte) (q Query, err error) {
	for _, c := range raw {
		if c < ' ' || c == 0x7f || c == '#' {
			return Query{}, ErrQueryByte
		}
	}
	for len(raw) > 0 {
		var pair []byte
		pair, raw = cutByte(raw, '&')
		if len(pair) == 0 {
			continue
		}
		name, value := cutByte(pair, '=')
		if name, err = unescape(name); err != nil {
			return Query{}, err
		}
		if value, err = unescape(value); err != nil {
			return Query{}, err
		}
		if q.n == MaxQueryParams {
			return Query{}, ErrQueryTooMany
		}
		for i := range q.n {
			if bytes.Equal(q.params[i].name, name) {
				return Query{}, ErrQueryRepeated
			}
		}
		q.params[q.n] = param{name, value}
		q.n++
	}
	return q, nil
}

// QueryParam is the parameter that a ParamError names if the query itself is at fault.
const QueryParam = "query"

// DeviceID returns the device's id. Its errors are *ParamError.
func (q *Query) DeviceID() ([]byte, error) {
	value, present := q.Get("deviceId")
	if !present {
		return nil, &ParamError{"deviceId", "deviceId is missing: send it in the query string"}
	}
	id, ok := DeviceID(value)
	if !ok {
		return nil, badDeviceID()
	}
	return id, nil
}

// simpleQuery returns the value of a query that is one parameter, given by its name and `=`, and needs no decoding. ParseQuery
// would return the same, but slower.
func simpleQuery(raw []byte, name string) (value []byte, ok bool) {
	if len(raw) < len(name) || string(raw[:len(name)]) != name {
		return nil, false
	}
	value = raw[len(name):]
	for _, c := range value {
		if c <= ' ' || c == '%' || c == '+' || c == '&' || c == '#' || c == 0x7f {
			return nil, false
		}
	}
	return value, true
}

// Get returns the decoded value of a parameter, and whether it was given.
func (q *Query) Get(name string) (value []byte, ok bool) {
	for i := range q.n {
		if string(q.params[i].name) == name {
			return q.params[i].value, true
		}
	}
	return nil, false
}

// Number returns a parameter as a number, which has one form: decimal digits, none in front that says nothing. ok: it was given, is one and fits 64 bits.
func (q *Query) Number(name string) (n uint64, present, ok bool) {
	text, present := q.Get(name)
	n, err := strconv.ParseUint(string(text), 10, 64)
	return n, present, err == nil && (text[0] != '0' || len(text) == 1)
}

func cutByte(b []byte, sep byte) (before, after []byte) {
	if i := bytes.IndexByte(b, sep); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// unescape decodes %XX and +. What needs no decoding is returned as it is.
func unescape(b []byte) ([]byte, error) {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b, nil
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(b) {
				return nil, ErrQueryEscape
			}
			hi, lo := unhex[b[i+1]], unhex[b[i+2]]
			if hi|lo > 15 {
				return nil, ErrQueryEscape
			}
			out = append(out, hi<<4|lo)
			i += 2
		default:
			out = append(out, b[i])
		}
	}
	return out, nil
}

// unhex is the value of a hexadecimal digit, 255 for other bytes.
var unhex = func() (t [256]byte) {
	for i := range t {
		switch c := byte(i); {
		case '0' <= c && c <= '9':
			t[i] = c - '0'
		case 'a' <= c && c <= 'f':
			t[i] = c - 'a' + 10
		case 'A' <= c && c <= 'F':
			t[i] = c - 'A' + 10
		default:
			t[i] = 255
		}
	}
	return t
}()
