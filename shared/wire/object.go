package wire

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep objects and arrays may nest in a body, the outermost counting as one.
const MaxDepth = 32

// MaxMetadata is the most bytes a metadata object may have, in the compact form in which it is kept.
const MaxMetadata = 4 << 10

// ParamError says which parameter of a request is wrong, and how. It becomes missing_params by its AsError.
type ParamError struct {
	Param   string // Param is the name of the parameter: "body" if the body is no object at all.
	Message string // Message is a sentence for the caller.
}

// Error is the message.
func (e *ParamError) Error() string { return e.Message }

// AsError is the answer that tells the caller: 400 missing_params.
func (e *ParamError) AsError() *Error { return MissingParams(e.Param, e.Message) }

// BodyParam is the parameter that a ParamError names if the body itself is at fault.
const BodyParam = "body"

func bodyError(message string) error { return &ParamError{BodyParam, message} }

// Object is a parsed body: the members of one JSON object. Its values alias the body that was parsed. The zero Object has
// no members. It is read-only and so safe for concurrent use.
//
// A member whose value is null counts as absent: some clients send every field they know.
type Object struct {
	members map[string]jsontext.Value
}

// ParseObject parses a body that must be one JSON object, strictly (RFC 8259, RFC 7493): names and strings must be valid
// UTF-8 without unpaired surrogates, a name given twice in an object (also when one spelling is escaped) is refused at
// any depth, as are nesting deeper than MaxDepth, trailing bytes, a byte order mark and an empty body. Unknown names are
// allowed. Its errors are *ParamError.
func ParseObject(body []byte) (Object, error) {
	if skipJSONSpace(body, 0) == len(body) {
		return Object{}, bodyError("the body is empty: send a JSON object")
	}
	if tooDeep(body) {
		return Object{}, bodyError("the body nests deeper than 32 levels: flatten it")
	}
	// jsontext reads out of a bytes.Buffer in place, so its values alias body.
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if dec.PeekKind() != jsontext.KindBeginObject {
		return Object{}, bodyError("the body is no JSON object: send one, for example {}")
	}
	if _, err := dec.ReadToken(); err != nil {
		return Object{}, syntaxError(err)
	}
	members := make(map[string]jsontext.Value, 4)
	for dec.PeekKind() != jsontext.KindEndObject {
		token, err := dec.ReadToken()
		if err != nil {
			return Object{}, syntaxError(err)
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			return Object{}, syntaxError(err)
		}
		members[name] = value
	}
	if _, err := dec.ReadToken(); err != nil {
		return Object{}, syntaxError(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return Object{}, bodyError("the body goes on after its JSON object: send one object only")
	}
	return Object{members}, nil
}

// ParseOptional is ParseObject for calls all of whose parameters are optional (org/create): an empty body counts as {}.
func ParseOptional(body []byte) (Object, error) {
	if skipJSONSpace(body, 0) == len(body) {
		return Object{}, nil
	}
	return ParseObject(body)
}

// syntaxError turns an error of jsontext, which may quote what was sent, into one of ours, which does not.
func syntaxError(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return bodyError("the body gives a name twice in one object: give it once")
	}
	return bodyError("the body is no valid JSON: check its syntax, and that it is UTF-8 without unpaired surrogates")
}

// tooDeep looks ahead of the decoder, whose own limit is 10,000 levels. It need not see whether the JSON is valid: until the first
// fault it counts right, and behind it nothing is read.
func tooDeep(body []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString:
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
