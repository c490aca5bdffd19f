package machineid

import (
	"fmt"
	"time"
)

// Outcome tells what became of a call that failed, over all of its attempts.
type Outcome string

const (
	// NotDone says that nothing was changed, and nothing will be by this call.
	NotDone Outcome = "not_done"
	// Unknown says that the change may have been made, or may still be: count on neither, and call again.
	Unknown Outcome = "unknown"
	// Committed says that the change is made but that not every edge is known to have it: call again to wait for that.
	Committed Outcome = "committed"
)

// worse is the outcome of two attempts together: what was made stays made, and what may have been made may still.
func (o Outcome) worse(other Outcome) Outcome {
	rank := map[Outcome]int{NotDone: 0, Unknown: 1, Committed: 2}
	if rank[other] > rank[o] {
		return other
	}
	return o
}

// Error is a call that came to no success.
type Error struct {
	// Refused: the server understood the call and says no (a wrong key or scope, an unknown device, the plan's limit), or the client does not send it
	// (invalid_argument); trying again changes nothing. Otherwise nothing could be decided or proved.
	Refused bool
	// Code is for programs: the server's, or timeout, connection_failed, broken_answer, redirected, cancelled, invalid_argument.
	Code string
	// Message is for people.
	Message string
	Outcome Outcome
	// Status is the HTTP status of the last answer, 0 if there was none.
	Status     int
	RequestID  string
	RetryAfter time.Duration
	// Body is the answer as it was parsed, nil if it was no JSON object.
	Body Object

	cause error
}

func (e *Error) Error() string {
	text := e.Code + ": " + e.Message
	if e.Outcome != NotDone {
		text += " (outcome: " + string(e.Outcome) + ")"
	}
	if e.RequestID == "" {
		return text
	}
	return text + " [request " + e.RequestID + "]"
}

// invalid is the error of a call that was not sent, because it could not be as it was meant.
func invalid(format string, args ...any) *Error {
	return &Error{Refused: true, Code: "invalid_argument", Message: fmt.Sprintf(format, args...), Outcome: NotDone}
}

// unfit is the error of an answer that is no answer to what was asked.
func unfit(body Object, format string, args ...any) *Error {
	id, _ := body["request_id"].(string)
	return &Error{Code: "broken_answer", Message: fmt.Sprintf(format, args...), Outcome: NotDone, Status: 200, RequestID: id, Body: body}
}

// Unwrap returns what the network or the context said.
func (e *Error) Unwrap() error { return e.cause }

// DeniedError is why guarded work had to stop. Do not go on working after it.
type DeniedError struct {
	DeviceID string
	Decision Decision
}

func (d *DeniedError) Error() string {
	if d.Decision.Err != nil {
		return fmt.Sprintf("%q may not work: %s: %v", d.DeviceID, d.Decision.Code, d.Decision.Err)
	}
	return fmt.Sprintf("%q may not work: %s", d.DeviceID, d.Decision.Code)
}

// Unwrap returns why nothing could be decided, nil if the server said no.
func (d *DeniedError) Unwrap() error { return d.Decision.Err }
