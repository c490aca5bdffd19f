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
	// Operated says that there is no key but X-MachineID-Org: an operator asks, whose token the handler judges.
	Operated bool
	Fault    *Error // Fault says what is wrong where the code is InvalidOrgKey or InvalidDeviceID, else nil.
}

// ParseValidate reads a validate out of a request that is known to be GET or POST. The code is InvalidOrgKey or InvalidDeviceID
// if that is the answer, in this order, and 0 if the request is well-formed and is to be decided. The device id is read also
// when the key is at fault, for the answer to name it. It allocates nothing for bodies that DeviceIDFast reads and
// for queries without escapes.
func ParseValidate(ctx *fasthttp.RequestCtx) (v ValidateRequest, code decision.Code) {
	r := From(ctx)
	var err error
	if v.Sum, err = orgKeyOf(ctx); err != nil {
		if v.Operated = r.Operated(); !v.Operated {
			code, v.Fault = decision.InvalidOrgKey, keyFault(r, err)
		}
	}
	if v.DeviceID, err = deviceIDOf(ctx); err != nil && code == 0 {
		code, v.Fault = decision.InvalidDeviceID, paramFault(err)
	}
	return v, code
}

// keyFault says what is wrong with an org's key.
func keyFault(r *Request, err error) *Error {
	if r != nil && len(Trim(r.Head.OrgKey)) == 0 {
		return MissingOrgKey()
	}
	return InvalidOrgKey(err)
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

// deviceIDOf returns the device's id, or nil and what is wrong.
func deviceIDOf(ctx *fasthttp.RequestCtx) ([]byte, error) {
	if ctx.IsGet() {
		_, raw := SplitTarget(ctx.Request.Header.RequestURI())
		return deviceIDInQuery(raw)
	}
	body := ctx.Request.Body()
	if id, ok := DeviceIDFast(body); ok {
		return id, nil
	}
	o, err := ParseObject(body)
	if err != nil {
		return nil, err
	}
	s, err := o.DeviceID()
	if err != nil {
		return nil, err
	}
	return []byte(s), nil
}

func deviceIDInQuery(raw []byte) ([]byte, error) {
	if value, ok := simpleQuery(raw, "deviceId="); ok {
		if id, ok := DeviceID(value); ok {
			return id, nil
		}
		return nil, badDeviceID()
	}
	q, err := ParseQuery(raw)
	if err != nil {
		return nil, &ParamError{QueryParam, err.Error()}
	}
	return q.DeviceID()
}
