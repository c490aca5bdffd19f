package wire

import (
	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
	"machineid/shared/orgkey"
)

// ValidateRequest is what a validate asks. Its slices are good until the handler returns.
type ValidateRequest struct {
	Key      []byte // Key has the form of a key; nil if it was missing or malformed.
	DeviceID []byte // DeviceID is trimmed and valid; nil if it was not, so an answer leaves it out.
}

// ParseValidate reads a validate out of a request that is known to be GET or POST. The code is InvalidOrgKey or InvalidDeviceID
// if that is the answer, in this order, and 0 if the request is well-formed and is to be decided. The device id is read also
// when the key is at fault, for the answer to name it. It allocates nothing for bodies that DeviceIDFast reads and
// for queries without escapes.
func ParseValidate(ctx *fasthttp.RequestCtx) (v ValidateRequest, code decision.Code) {
	key := Trim(orgKeyOf(ctx))
	if orgkey.Check(key) == nil {
		v.Key = key
	} else {
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
func orgKeyOf(ctx *fasthttp.RequestCtx) []byte {
	if r := From(ctx); r != nil {
		return r.Head.OrgKey
	}
	return ctx.Request.Header.Peek("X-Org-Key")
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
