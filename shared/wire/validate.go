package wire

import (
	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
	"machineid/shared/orgkey"
)

// ValidateRequest is what a validate asks. Its slices are good until the handler returns.
type ValidateRequest struct {
	Sum      orgkey.Hash // Sum is the key's hash, zero if it was missing or malformed.
	DeviceID []byte      // DeviceID is trimmed and valid; nil if it was not, so an answer leaves it out.
}

// ParseValidate reads a validate out of a request that is known to be GET or POST. The code is InvalidOrgKey or InvalidDeviceID
// if that is the answer, in this order, and 0 if the request is well-formed and is to be decided. The device id is read also
// when the key is at fault, for the answer to name it. It allocates nothing for bodies that DeviceIDFast reads and
// for queries without escapes.
func ParseValidate(ctx *fasthttp.RequestCtx) (v ValidateRequest, code decision.Code) {
	var err error
	if v.Sum, err = orgKeyOf(ctx); err != nil {
		code = decision.InvalidOrgKey
	}
	id, ok := deviceIDOf(ctx)
	if ok {
		v.DeviceID = id
	} else if code == 0 {
		code = decision.InvalidDeviceID
	}
	return v, code
}

// orgKeyOf prefers the head that was checked: fasthttp's own header also holds what came in trailer fields.
func orgKeyOf(ctx *fasthttp.RequestCtx) (sum orgkey.Hash, err error) {
	if r := From(ctx); r != nil {
		return r.OrgKey()
	}
	key := Trim(ctx.Request.Header.Peek("X-Org-Key"))
	if err := orgkey.Check(key); err != nil {
		return orgkey.Hash{}, err
	}
	return orgkey.Sum(key), nil
}

func deviceIDOf(ctx *fasthttp.RequestCtx) (id []byte, ok bool) {
	if ctx.IsGet() {
		_, raw := SplitTarget(ctx.Request.Header.RequestURI())
		return deviceIDInQuery(raw)
	}
	body := ctx.Request.Body()
	if id, ok = DeviceIDFast(body); ok {
		return id, true
	}
	return deviceIDSlow(body)
}

func deviceIDInQuery(raw []byte) (id []byte, ok bool) {
	if value, ok := simpleQuery(raw, "deviceId="); ok {
		return DeviceID(value)
	}
	q, err := ParseQuery(raw)
	if err != nil {
		return nil, false
	}
	value, ok := q.Get("deviceId")
	if !ok {
		return nil, false
	}
	return DeviceID(value)
}

func deviceIDSlow(body []byte) (id []byte, ok bool) {
	o, err := ParseObject(body)
	if err != nil {
		return nil, false
	}
	s, err := o.DeviceID()
	if err != nil {
		return nil, false
	}
	return []byte(s), true
}
