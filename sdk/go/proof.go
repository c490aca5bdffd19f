package machineid

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// unknownHandler is the server's name in what it answers to a path that it does not have.
const unknownHandler = "unknown"

// prove reads an answer and refuses one that may not be the server's answer to this very request: caches, proxies and mixed-up connections repeat old
// ones, and an old ALLOW looks like any other. So the head and the body carry the request's own id, and no cache has seen it.
func (k *call) prove(a *answer) error {
	if _, cached := a.header["Age"]; cached { // RFC 9111, 5.1: only a cache sends it, whatever it says
		return errors.New("it comes from a cache (Age)")
	}
	if ids := a.header.Values("X-Request-Id"); len(ids) != 1 || ids[0] != k.requestID {
		return errors.New("it answers another request, or none (X-Request-Id)")
	}
	if types := a.header.Values("Content-Type"); len(types) != 1 || !isJSON(types[0]) {
		return errors.New("it is no JSON (Content-Type)")
	}
	object, err := parse(a.body)
	switch {
	case err != nil:
		return err
	case object["request_id"] != k.requestID:
		return errors.New("it answers another request, or none (request_id)")
	case object["handler"] != k.handler && (a.status < 400 || object["handler"] != unknownHandler):
		return fmt.Errorf("it is the answer of another handler: %v", object["handler"])
	}
	a.object = object
	return nil
}

func isJSON(contentType string) bool {
	kind, params, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/json" && (len(params) == 0 || len(params) == 1 && strings.EqualFold(params["charset"], "utf-8"))
}

// explain makes the error of an answer that is no success. Of one that was not proved only its status counts.
func explain(k *call, a *answer, broken error) *Error {
	code, _ := a.object["error"].(string)
	message, _ := a.object["message"].(string)
	e := &Error{
		Code: code, Message: message, Status: a.status, RequestID: k.requestID, Body: a.object, Outcome: NotDone, RetryAfter: retryAfter(a.header), cause: broken,
	}
	if k.changes {
		e.Outcome = Unknown
	}
	ours := code != ""
	switch {
	case a.status >= 300 && a.status < 400:
		e.Code, e.Message = "redirected", fmt.Sprintf("HTTP %d: redirects are not followed, they would take the org key elsewhere. Is the base URL right?", a.status)
	case errors.Is(broken, errUnavailable):
		e.Code, e.Message = "system_unavailable", broken.Error()
	case a.status == http.StatusTooManyRequests:
		if e.Code = "rate_limited"; ours {
			e.Outcome = NotDone
		} else {
			e.Message = "something in front of the server wants fewer requests"
		}
	case ours && a.status >= 400 && a.status < 500 && a.status != http.StatusRequestTimeout:
		e.Refused, e.Outcome = true, NotDone
		if code == "secret_already_shown" {
			e.Outcome = Committed
		}
	case ours && a.status >= 500:
		if said, ok := a.object["outcome"].(string); ok && k.changes && (said == string(NotDone) || said == string(Committed)) {
			e.Outcome = Outcome(said)
		}
	default:
		e.Code, e.Message = "broken_answer", fmt.Sprintf("HTTP %d is no answer of a MachineID server to this %s: %v", a.status, k.path, broken)
	}
	return e
}
