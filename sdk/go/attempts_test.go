package machineid

import (
	"errors"
	"io"
	"log"
	"os"
	"strings"
	"sync"
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

// TestNoLogHasAKey: net/http quotes an answer that comes twice in the program's log. One with a key it never sees the second of.
func TestNoLogHasAKey(t *testing.T) {
	var logged lockedBuffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	twice := func(body Object) reply {
		return func(w io.Writer, req seen) bool {
			for range 2 {
				if !say(200, body)(w, req) {
					return false
				}
			}
			return true
		}
	}
	const secret = "org_AAAA_SECRET"
	s := newScripted(t,
		twice(Object{"status": "ok", "request_id": theID, "handler": "org/keys", "orgApiKey": secret, "scope": "agent"}),
		twice(Object{"status": "ok", "request_id": theID, "handler": "org/keys/rotate", "orgApiKey": secret}),
		twice(Object{"status": "ok", "request_id": theID, "handler": "org/keys", "keys": []any{}}),
	)
	c := s.client(t, 0, 10*time.Second)
	made, err := c.OrgKeysCreate(t.Context(), "n", "agent", "")
	if err != nil || made["orgApiKey"] != secret {
		t.Fatalf("%v, %v", made, err)
	}
	if made, err = c.OrgKeysRotate(t.Context(), "k", 0); err != nil || made["orgApiKey"] != secret {
		t.Fatalf("%v, %v", made, err)
	}
	if _, err := c.OrgKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(logged.String(), "Unsolicited"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what came twice is not logged: does this test still try what it says?")
		}
	}
	if said := logged.String(); strings.Contains(said, "SECRET") {
		t.Errorf("the log has a key:\n%s", said)
	}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
