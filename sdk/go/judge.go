package machineid

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Object is a JSON object of the server. Numbers are json.Number.
type Object = map[string]any

// The codes that the client itself gives or looks for; docs/api.md has all of them.
const (
	CodeAllow             = "ALLOW"
	CodeSystemUnavailable = "SYSTEM_UNAVAILABLE"
)

const (
	pathValidate      = "devices/validate"
	pathValidateBatch = "devices/validate_batch"
)

// Decision is the answer to a validate.
type Decision struct {
	// Allowed is the one field to act on.
	Allowed  bool
	Code     string
	DeviceID string
	// Body is the server's whole answer; nil where the client itself had to decide.
	Body Object
	// Err says why nothing could be decided; the code is SYSTEM_UNAVAILABLE then. A denial is no error.
	Err error
}

// maxDepth is more than any answer of the server's has.
const maxDepth = 64

// parse reads one JSON object, strictly: a name given twice could mean allowed to one reader and denied to another.
func parse(body []byte) (Object, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("no JSON: invalid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	value, err := parseValue(d, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("no JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("no JSON: something follows the object")
	}
	object, ok := value.(Object)
	if !ok {
		return nil, errors.New("JSON, but no object")
	}
	return object, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	if depth == 0 {
		return nil, errors.New("nested too deep")
	}
	switch token {
	case json.Delim('{'):
		object := Object{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			key, ok := name.(string)
			if _, twice := object[key]; twice || !ok {
				return nil, errors.New("a name is given twice")
			}
			if object[key], err = parseValue(d, depth-1); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return object, err
	case json.Delim('['):
		array := []any{}
		for d.More() {
			value, err := parseValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			array = append(array, value)
		}
		_, err = d.Token()
		return array, err
	default:
		return token, nil
	}
}

// trim returns the id as the server understands it: without white space at its ends, which is all of Unicode's and U+001C to 1F, as Python's str.strip has it.
func trim(deviceID string) string {
	return strings.TrimFunc(deviceID, func(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f })
}

func trimAll(deviceIDs []string) []string {
	if deviceIDs == nil {
		return nil
	}
	trimmed := make([]string, len(deviceIDs))
	for i, id := range deviceIDs {
		trimmed[i] = trim(id)
	}
	return trimmed
}

// plain reads a decision's two fields and refuses what contradicts itself.
func plain(o Object) (allowed bool, code string, err error) {
	allowed, isBool := o["allowed"].(bool)
	code, isString := o["code"].(string)
	if !isBool || !isString || code == "" {
		return false, "", errors.New("no decision: allowed is no boolean or code no string")
	}
	if allowed != (code == CodeAllow) {
		return false, "", fmt.Errorf("allowed is %t and the code %s", allowed, code)
	}
	return allowed, code, nil
}

// judgeDecision returns what the server decided about the device; an error is no decision about it.
func judgeDecision(a *answer, deviceID string) (Decision, error) {
	body, err := parse(a.body)
	if err != nil {
		return Decision{}, err
	}
	allowed, code, err := plain(body)
	switch {
	case err != nil:
		return Decision{}, err
	case !allowed && (a.status >= 500 || a.status >= 300 && a.status < 400):
		return Decision{}, fmt.Errorf("HTTP %d", a.status) // speaks of a broken server or comes from somebody else
	case code == CodeSystemUnavailable:
		return Decision{}, errors.New("the system cannot answer now") // worth asking again
	case allowed && a.status != 200:
		return Decision{}, fmt.Errorf("ALLOW with HTTP %d", a.status)
	case allowed && body["handler"] != pathValidate:
		return Decision{}, errors.New("ALLOW from something that is not validate")
	case allowed && body["deviceId"] != trim(deviceID):
		return Decision{}, errors.New("ALLOW for another device")
	}
	return Decision{Allowed: allowed, Code: code, DeviceID: trim(deviceID), Body: body}, nil
}

// judgeBatch returns what the server decided about each device; an error if a single one does not fit.
func judgeBatch(a *answer, deviceIDs []string) ([]Decision, error) {
	body, err := parse(a.body)
	if err != nil {
		return nil, err
	}
	given, _ := body["decisions"].([]any)
	if a.status != 200 || body["handler"] != pathValidateBatch || len(given) != len(deviceIDs) {
		return nil, fmt.Errorf("HTTP %d with %d decisions for %d ids", a.status, len(given), len(deviceIDs))
	}
	decisions := make([]Decision, len(given))
	for i, one := range given {
		object, _ := one.(Object)
		allowed, code, err := plain(object)
		if err != nil {
			return nil, err
		}
		if allowed && object["deviceId"] != trim(deviceIDs[i]) {
			return nil, errors.New("ALLOW for another device")
		}
		decisions[i] = Decision{Allowed: allowed, Code: code, DeviceID: trim(deviceIDs[i]), Body: object}
	}
	return decisions, nil
}

// judgeSuccess returns the answer to a call that succeeded; an error unless it is surely that call's: a proxy's page must not pass for a revoke.
func judgeSuccess(a *answer, handler string, expect Object) (Object, error) {
	body, err := parse(a.body)
	switch {
	case err != nil:
		return nil, err
	case a.status != 200 && a.status != 202:
		return nil, fmt.Errorf("HTTP %d", a.status)
	case body["handler"] != handler:
		return nil, fmt.Errorf("the answer of another handler: %v", body["handler"])
	}
	for name, want := range expect {
		if body[name] != want {
			return nil, fmt.Errorf("%s is %v, not %v", name, body[name], want)
		}
	}
	return body, nil
}

// decided are the refusals that the server decides from the org's state. After an attempt whose outcome is unknown they settle it: the attempts
// share one Idempotency-Key, so whichever came first decided both.
var decided = map[string]bool{
	"device_not_found": true, "device_limit_reached": true, "device_revoked": true, "plan_frozen": true, "entitlement_expired": true,
	"last_admin_key": true, "key_not_found": true, "key_limit_reached": true,
}
