package recovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"machineid/authority/mail"
	"machineid/authority/state"
)

// TestLimits: three an hour of each address, and bounded memory.
func TestLimits(t *testing.T) {
	l, now := newLimits(), time.Unix(1_790_000_000, 0)
	for i := range 5 {
		if ok := l.take("a", now.Add(time.Duration(i)*time.Minute)); ok != (i < perHour) {
			t.Errorf("the %d-th: %t", i, ok)
		}
	}
	if l.take("a", now.Add(time.Hour-time.Second)) || !l.take("a", now.Add(time.Hour)) || l.take("a", now.Add(time.Hour)) {
		t.Error("an hour later the first is forgotten, and no more")
	}
	for i := range limitsMax + 100 {
		l.take(strconv.Itoa(i), now)
	}
	if len(l.times) > limitsMax {
		t.Errorf("%d addresses are kept", len(l.times))
	}
	if !l.take("new", now.Add(2*time.Hour)) || len(l.times) > 10 {
		t.Errorf("%d addresses are kept after two hours", len(l.times))
	}
}

// TestAskIsTheSame: asking does the same work for every address, and whatever depends on it is done by Run. Limits count both sides.
func TestAskIsTheSame(t *testing.T) {
	var asked []string
	done := make(chan struct{}, 10)
	s := New(Config{
		Customers: func(_ context.Context, address string) ([]string, error) {
			asked = append(asked, address)
			done <- struct{}{}
			return nil, errors.New("Stripe is down")
		},
		Send: mail.NewPrinter(new(strings.Builder)), PublicURL: "https://m.example.com",
		Now: func() time.Time { return time.Unix(1_790_000_000, 0) },
	})
	for _, c := range []struct{ address, client string }{
		{"a@example.com", "192.0.2.1"},
		{"no address", "192.0.2.1"},
		{"b@example.com", "192.0.2.1"},
		{"c@example.com", "192.0.2.1"}, // its fourth
		{"A@example.com", "2001:db8::1"},
		{"a@EXAMPLE.com", "2001:db8::2"},
		{"a@example.com", "2001:db8:0:1::"}, // to a the fourth
		{"d@example.com", "2001:db8::3"},
		{"e@example.com", "2001:db8::4"}, // of that network the fourth
	} {
		s.Ask(c.address, Asker{Address: c.client})
	}
	if len(asked) != 0 {
		t.Errorf("asked before it was answered: %v", asked)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		s.Run(ctx)
		close(ended)
	}()
	for range 5 {
		<-done
	}
	stop()
	<-ended
	if got := fmt.Sprint(asked); got != "[a@example.com b@example.com A@example.com a@EXAMPLE.com d@example.com]" {
		t.Errorf("asked for %s", got)
	}
	for range 2 * queueMax { // nobody works any more, and nobody waits
		s.queueOne(t)
	}
}

func (s *Service) queueOne(t *testing.T) {
	t.Helper()
	s.limits = newLimits()
	s.Ask("x@example.com", Asker{Address: "192.0.2.9"})
}

// TestParse: what never was a token is none.
func TestParse(t *testing.T) {
	for _, bad := range []string{"", "x", strings.Repeat("A", 64), strings.Repeat("_", 63), strings.Repeat("_", 65), strings.Repeat("=", 64)} {
		if org, _, ok := Parse(bad); ok || org != (state.OrgID{}) {
			t.Errorf("%q is a token", bad)
		}
	}
	if _, _, ok := Parse(" " + strings.Repeat("_", 64) + "\n"); !ok {
		t.Error("a token with space around it is none")
	}
}
