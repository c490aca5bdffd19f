package wire

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Has tells whether a member was given, and not as null.
func (o Object) Has(name string) bool {
	_, ok := o.value(name)
	return ok
}

// Null tells whether a member was given as null, for the few that mean by it that there is none.
func (o Object) Null(name string) bool {
	v, ok := o.members[name]
	return ok && v.Kind() == jsontext.KindNull
}

func (o Object) value(name string) (jsontext.Value, bool) {
	v, ok := o.members[name]
	return v, ok && v.Kind() != jsontext.KindNull
}

// String returns a member that must be a string if given, with its escapes decoded and nothing trimmed.
func (o Object) String(name string) (value string, present bool, err error) {
	v, ok := o.value(name)
	if !ok {
		return "", false, nil
	}
	value, ok = textOf(v)
	if !ok {
		return "", true, &ParamError{name, name + " is no string: send a JSON string"}
	}
	return value, true, nil
}

// Int returns a member that must be an integer if given: a number without fraction and exponent that fits 64 bits.
func (o Object) Int(name string) (value int64, present bool, err error) {
	v, ok := o.value(name)
	if !ok {
		return 0, false, nil
	}
	value, convErr := strconv.ParseInt(string(v), 10, 64)
	if v.Kind() != jsontext.KindNumber || convErr != nil {
		return 0, true, &ParamError{name, name + " is no integer: send a JSON number without fraction or exponent"}
	}
	return value, true, nil
}

// Bool returns a member that must be true or false if given.
func (o Object) Bool(name string) (value, present bool, err error) {
	v, ok := o.value(name)
	if !ok {
		return false, false, nil
	}
	switch v.Kind() {
	case jsontext.KindTrue:
		return true, true, nil
	case jsontext.KindFalse:
		return false, true, nil
	default:
		return false, true, &ParamError{name, name + " is neither true nor false: send a JSON boolean"}
	}
}

// Raw returns a member that must be an object if given, such as metadata, in one form: without white space, names sorted, strings
// at their shortest, so that equal objects have equal bytes. Numbers stay as they were written: RFC 8785 would make doubles
// of them and lose digits. In that form it may have limit bytes at most. The result is fresh memory.
func (o Object) Raw(name string, limit int) (value json.RawMessage, present bool, err error) {
	v, ok := o.value(name)
	if !ok {
		return nil, false, nil
	}
	if v.Kind() != jsontext.KindBeginObject {
		return nil, true, &ParamError{name, name + " is no object: send a JSON object"}
	}
	v = v.Clone()
	if v.Format(jsontext.ReorderRawObjects(true)) != nil {
		return nil, true, &ParamError{name, name + " is no valid JSON object: check its syntax"}
	}
	if len(v) > limit {
		return nil, true, &ParamError{name, name + " is larger than " + strconv.Itoa(limit) + " bytes: send less"}
	}
	return json.RawMessage(v), true, nil
}

// DeviceID returns the required member deviceId, trimmed.
func (o Object) DeviceID() (string, error) {
	const name = "deviceId"
	s, present, err := o.String(name)
	if err != nil {
		return "", err
	}
	if !present {
		return "", &ParamError{name, "deviceId is missing: send it as a string"}
	}
	id, ok := DeviceID([]byte(s))
	if !ok {
		return "", badDeviceID()
	}
	return string(id), nil
}

func badDeviceID() *ParamError {
	return &ParamError{"deviceId", "deviceId is no device id: send 1 to 256 bytes of UTF-8 without control characters"}
}

// Item is one element of an array.
type Item struct{ raw jsontext.Value }

// String returns the element if it is a string, with its escapes decoded and nothing trimmed.
func (i Item) String() (value string, ok bool) { return textOf(i.raw) }

// Object returns the element if it is an object. It is as strict as ParseObject was with the body that holds it.
func (i Item) Object() (Object, bool) {
	if i.raw.Kind() != jsontext.KindBeginObject {
		return Object{}, false
	}
	o, err := ParseObject(i.raw)
	return o, err == nil
}

// Items returns a member that must be an array if given. Its elements may be of any kind. Of more than most elements the first most+1 come, which tells
// that there are too many: a body of 1 MiB can hold half a million, and to take them all costs 40 MiB.
func (o Object) Items(name string, most int) (items []Item, present bool, err error) {
	v, ok := o.value(name)
	if !ok {
		return nil, false, nil
	}
	if v.Kind() != jsontext.KindBeginArray {
		return nil, true, &ParamError{name, name + " is no array: send a JSON array"}
	}
	// The body was found valid, as strictly as it must be.
	d := jsontext.NewDecoder(bytes.NewReader(v), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadToken(); err != nil {
		return nil, true, &ParamError{name, name + " is no array: send a JSON array"}
	}
	for len(items) <= most && d.PeekKind() != jsontext.KindEndArray {
		raw, err := d.ReadValue()
		if err != nil {
			return nil, true, &ParamError{name, name + " is no array: send a JSON array"}
		}
		items = append(items, Item{raw.Clone()})
	}
	return items, true, nil
}

// textOf decodes a JSON string that ParseObject has found valid.
func textOf(v jsontext.Value) (string, bool) {
	if v.Kind() != jsontext.KindString {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}
