package machineid

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestAnAttemptBelievesNoAnswerToOneBefore: each attempt of a call has an id of its own, and an ALLOW that was held back and comes to the next attempt is none.
func TestAnAttemptBelievesNoAnswerToOneBefore(t *testing.T) {
	var first string
	s := newScripted(t, func(w io.Writer, req seen) bool {
		first = req.Header.Get("X-Request-Id")
		return say(502, "<html>")(w, req)
	}, func(w io.Writer, _ seen) bool {
		_, err := io.WriteString(w, strings.ReplaceAll(text(200, allow), theID, first))
		return err == nil
	})
	d := s.client(t, 1, 10*time.Second).Validate(t.Context(), "a")
	got := s.got()
	if len(got) != 2 || got[0].Header.Get("X-Request-Id") == got[1].Header.Get("X-Request-Id") {
		t.Fatalf("%d attempts: %+v", len(got), got)
	}
	e, ok := errors.AsType[*Error](d.Err)
	if d.Allowed || !ok || e.RequestID != got[1].Header.Get("X-Request-Id") {
		t.Errorf("it is believed, or the error names another attempt: %+v", d)
	}
}
