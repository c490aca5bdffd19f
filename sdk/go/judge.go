package machineid

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Object is a JSON object of the server. Numbers are json.Number.
type Object = map[string]any

// The codes that the client itself gives or looks for; docs/api.md has all of them.
const (
	CodeAllow             = "ALLOW"
	CodeSystemUnavailable = "SYSTEM_UNAVAILABLE"

	codeRevoked       = "DEVICE_REVOKED"
	codeRevokedStatus = "revoked"
	statusOK          = "ok"
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

// Bounds of what is read: no answer of the server's is beyond them.
const (
	maxDepth  = 64      // objects and arrays within each other
	maxNumber = 4 << 10 // characters: a number in metadata, which agents write and whoever lists devices must be able to read
)

// parse reads one JSON object, strictly: a name given twice could mean allowed to one reader and denied to another.
func parse(body []byte) (Object, error) {
	if !utf8.Valid(body) || halved(body) {
		return nil, errors.New("no JSON: invalid UTF-8, or half of a surrogate pair")
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

// halved tells whether there is an escape of half a surrogate pair, which encoding/json would read as U+FFFD: others, as another text.
func halved(body []byte) bool {
	for {
		i := bytes.IndexByte(body, '\\')
		if i < 0 || i+1 >= len(body) {
			return false
		}
		body = body[i:]
		unit, ok := escaped(body)
		switch {
		case !ok:
			body = body[2:]
		case utf16.IsSurrogate(unit):
			if second, _ := escaped(body[6:]); utf16.DecodeRune(unit, second) == utf8.RuneError {
				return true
			}
			body = body[12:]
		default:
			body = body[6:]
		}
	}
}

// escaped reads an escape like \u00e9 at the begin of b.
func escaped(b []byte) (unit rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	if _, opens := token.(json.Delim); opens && depth == 0 {
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
		return token, measured(token)
	}
}

// measured refuses a number that others would read as another, or not at all.
func measured(token any) error {
	number, ok := token.(json.Number)
	if !ok {
		return nil
	}
	if _, err := strconv.ParseFloat(string(number), 64); err != nil || len(number) > maxNumber {
		return errors.New("a number beyond all measure")
	}
	return nil
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

// errUnavailable says that the server itself could not decide.
var errUnavailable = errors.New("the system cannot answer now")

// plain reads a decision's two fields and refuses what contradicts itself, also by the fields that older clients look at.
func plain(o Object) (allowed bool, code string, err error) {
	allowed, isBool := o["allowed"].(bool)
	code, isString := o["code"].(string)
	if !isBool || !isString || code == "" {
		return false, "", errors.New("no decision: allowed is no boolean or code no string")
	}
	if allowed != (code == CodeAllow) {
		return false, "", fmt.Errorf("allowed is %t and the code %s", allowed, code)
	}
	if valid, has := o["valid"]; has && valid != any(allowed) {
		return false, "", fmt.Errorf("allowed is %t and valid %v", allowed, valid)
	}
	if revoked, has := o["revoked"]; has && revoked != any(code == codeRevoked) {
		return false, "", fmt.Errorf("the code is %s and revoked %v", code, revoked)
	}
	if status, has := o["status"]; has {
		if text, isString := status.(string); !isString || (text == statusOK) != allowed {
			return false, "", fmt.Errorf("allowed is %t and the status %v", allowed, status)
		}
	}
	if fault, has := o["error"]; has && allowed {
		return false, "", fmt.Errorf("allowed, with the error %v", fault)
	}
	return allowed, code, nil
}

// judgeDecision returns what the server decided about the device, of an answer that is proved; an error is no decision about it.
func judgeDecision(a *answer, deviceID string) (Decision, error) {
	allowed, code, err := plain(a.object)
	switch {
	case err != nil:
		return Decision{}, err
	case code == CodeSystemUnavailable:
		return Decision{}, errUnavailable // worth asking again
	case !allowed && (a.status >= 500 || a.status != http.StatusOK && a.status < 400):
		return Decision{}, fmt.Errorf("HTTP %d", a.status) // speaks of a broken server or comes from somebody else
	case allowed && a.status != http.StatusOK:
		return Decision{}, fmt.Errorf("ALLOW with HTTP %d", a.status)
	case allowed && a.object["handler"] != pathValidate:
		return Decision{}, errors.New("ALLOW from something that is not validate")
	case allowed && a.object["deviceId"] != trim(deviceID):
		return Decision{}, errors.New("ALLOW for another device")
	}
	return Decision{Allowed: allowed, Code: code, DeviceID: trim(deviceID), Body: a.object}, nil
}

// judgeBatch returns what the server decided about each device; an error if a single one does not fit.
func judgeBatch(a *answer, deviceIDs []string) ([]Decision, error) {
	body, err := judgeSuccess(a, pathValidateBatch, nil)
	if err != nil {
		return nil, err
	}
	given, _ := body["decisions"].([]any)
	if len(given) != len(deviceIDs) {
		return nil, fmt.Errorf("%d decisions for %d ids", len(given), len(deviceIDs))
	}
	decisions := make([]Decision, len(given))
	for i, deviceID := range deviceIDs {
		object, _ := given[i].(Object)
		allowed, code, err := plain(object)
		if err != nil {
			return nil, err
		}
		if allowed && object["deviceId"] != trim(deviceID) {
			return nil, errors.New("ALLOW for another device")
		}
		decisions[i] = Decision{Allowed: allowed, Code: code, DeviceID: trim(deviceID), Body: object}
	}
	return decisions, nil
}

// successes are what status says in an answer of success, where it is not "ok" alone. That of devices/get is the device's own.
var successes = map[string][]string{
	"devices/register": {statusOK, "exists", "restored", "limit_reached"}, // the last two in generation 1
	"devices/get":      {"active", codeRevokedStatus},
}

// judgeSuccess returns a proved answer to a call that succeeded; an error unless it is surely that call's, and says that all of it was done.
func judgeSuccess(a *answer, handler string, expect Object) (Object, error) {
	body := a.object
	allowed := successes[handler]
	if allowed == nil {
		allowed = []string{statusOK}
	}
	status, has := body["status"]
	text, _ := status.(string)
	fault, fails := body["error"]
	switch {
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("HTTP %d", a.status)
	case body["handler"] != handler:
		return nil, fmt.Errorf("the answer of another handler: %v", body["handler"])
	case has && !slices.Contains(allowed, text):
		return nil, fmt.Errorf("a success with the status %v", status)
	case fails:
		return nil, fmt.Errorf("a success with the error %v", fault)
	}
	for name, want := range expect {
		if body[name] != want {
			return nil, fmt.Errorf("%s is %v, not %v", name, body[name], want)
		}
	}
	return body, nil
}

// judgeResults refuses the answer to a batch that does not tell of each device that was named, once and in order.
func judgeResults(body Object, deviceIDs []string) error {
	results, _ := body["results"].([]any)
	told := make([]string, 0, len(results))
	for _, one := range results {
		result, _ := one.(Object)
		id, isString := result["deviceId"].(string)
		if _, has := result["status"].(string); !has || !isString {
			return errors.New("a result without a device or a status")
		}
		told = append(told, id)
	}
	var asked []string
	for seen, ids := map[string]bool{}, deviceIDs; len(ids) > 0; ids = ids[1:] {
		if id := trim(ids[0]); !seen[id] {
			seen[id] = true
			asked = append(asked, id)
		}
	}
	if !slices.Equal(told, asked) {
		return fmt.Errorf("%d results, which are not those of the %d devices", len(told), len(asked))
	}
	return nil
}

// decided are the refusals that the server decides from the org's state. After an attempt whose outcome is unknown they settle it: the attempts
// share one Idempotency-Key, so whichever came first decided both.
var decided = map[string]bool{
	"device_not_found": true, "device_limit_reached": true, "device_revoked": true, "plan_frozen": true, "entitlement_expired": true,
	"last_admin_key": true, "key_not_found": true, "key_limit_reached": true,
}
