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
	// Refused: the server understood the call and says no (a wrong key or scope, an unknown device, the plan's limit), and trying again changes
	// nothing. Otherwise nothing could be decided or proved.
	Refused bool
	// Code is for programs: the server's, or timeout, connection_failed, broken_answer, redirected, cancelled.
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
	return text + " [request " + e.RequestID + "]"
}

// Unwrap returns what the network or the context said.
func (e *Error) Unwrap() error { return e.cause }

// DeniedError is why guarded work had to stop. Do not go on working after it.
type DeniedError struct {
	DeviceID string
	Decision Decision
}

func (d *DeniedError) Error() string {
	return fmt.Sprintf("%q may not work: %s", d.DeviceID, d.Decision.Code)
}
