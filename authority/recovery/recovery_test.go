package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"machineid/authority/mail"
	"machineid/authority/state"
)

// TestLimits: three at once of each address of either kind, then one every 20 minutes. Who fills the tables shuts nobody out, and a site of IPv6 is not 65,536 clients.
func TestLimits(t *testing.T) {
	start := time.Unix(1_790_000_000, 0)
	for name, take := range map[string]func(*limits, string, time.Time) bool{
		"192.0.2.1": (*limits).client, "2001:db8::1": (*limits).client, "a@example.com": func(l *limits, a string, now time.Time) bool {
			ok := l.mail(a, now)
			l.settle(a, now, true)
			return ok
		},
	} {
		l := newLimits(start)
		for i := range 5 {
			if ok := take(l, name, start); ok != (i < perHour) {
				t.Errorf("%s: the %d-th: %t", name, i, ok)
			}
		}
		later := start.Add(time.Hour / perHour)
		if take(l, name, later.Add(-1)) || !take(l, name, later) || take(l, name, later) {
			t.Errorf("%s: 20 minutes later there is one more", name)
		}
	}
	l := newLimits(start)
	for i := range 40_000 {
		l.client(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String(), start)
		l.mail(strconv.Itoa(i)+"@example.com", start)
		l.settle(strconv.Itoa(i)+"@example.com", start, true)
	}
	for i := range perHour + 1 {
		if a, b := l.client("192.0.2.1", start), l.mail("new@example.com", start); a != (i < perHour) || b != a {
			t.Errorf("after a flood, the %d-th of others: %t, %t", i, a, b)
		}
	}
	n := 0
	for i := range 1000 {
		if l.client(fmt.Sprintf("2001:db8:0:%x::1", i), start) {
			n++
		}
	}
	if n > 10*perHour {
		t.Errorf("the hosts of one site were heard %d times", n)
	}
	l.mail("held@example.com", start)
	l.settle("held@example.com", start, false)
	for i := range perHour {
		if !l.mail("HELD@example.com", start) {
			t.Errorf("what was not mailed counts: %d", i)
		}
	}
}

// TestAFullQueue makes room for whoever comes: of the site that fills it, or by chance.
func TestAFullQueue(t *testing.T) {
	q := newQueue()
	for i := range 10 {
		q.put(ask{fmt.Sprint("quiet", i), siteOf(fmt.Sprint("192.0.2.", i)), Asker{}})
	}
	for i := range 3_000 {
		q.put(ask{"loud", siteOf(fmt.Sprintf("2001:db8:0:%x::1", i)), Asker{}})
	}
	if dropped, full := q.put(ask{"new", siteOf("192.0.2.99"), Asker{}}); !full || dropped.address != "loud" {
		t.Errorf("for a new one %q was dropped, full %t", dropped.address, full)
	}
	for i := range 10 {
		if a, _ := q.take(); a.address != fmt.Sprint("quiet", i) {
			t.Errorf("%q waits longest", a.address)
		}
	}
	for i := range 3_000 {
		q.put(ask{strconv.Itoa(i), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Asker{}})
	}
	late := 0
	for a, ok := q.take(); ok; a, ok = q.take() {
		if n, _ := strconv.Atoi(a.address); n >= 1500 {
			late++
		}
	}
	if late == 0 {
		t.Error("nobody who comes late gets into a queue that many fill")
	}
}

// TestWhoWasDroppedMayAskAgain as often as before: nothing was mailed.
func TestWhoWasDroppedMayAskAgain(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	s := New(Config{Now: func() time.Time { return now }})
	waits := map[string]bool{}
	for i := range queueMax + 1 {
		address := strconv.Itoa(i) + "@example.com"
		s.Ask(address, Asker{Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()})
		waits[address] = true
	}
	for a, ok := s.queue.take(); ok; a, ok = s.queue.take() {
		delete(waits, a.address)
	}
	if len(waits) != 1 {
		t.Fatalf("%d were dropped, want one", len(waits))
	}
	for address := range waits {
		for i := range perHour + 1 {
			if ok := s.limits.mail(address, now); ok != (i < perHour) {
				t.Errorf("who was dropped asks for the %d-th time: %t", i, ok)
			}
		}
	}
}

// TestAFloodIsHeardSeldom: thousands of requests are a line a minute, and none of it keeps others out.
func TestAFloodIsHeardSeldom(t *testing.T) {
	var out strings.Builder
	asked := make(chan string, 2*queueMax)
	s := New(Config{
		Customers: func(_ context.Context, address string) ([]string, error) {
			asked <- address
			return nil, errors.New("Stripe is down")
		},
		Send: mail.NewPrinter(new(strings.Builder)), PublicURL: "https://m.example.com", Logger: slog.New(slog.NewTextHandler(&out, nil)),
		Now: func() time.Time { return time.Unix(1_790_000_000, 0) },
	})
	for i := range 3_000 {
		s.Ask(fmt.Sprintf("x%d@example.com", i), Asker{Address: fmt.Sprintf("2001:db8:%x:%x::1", i/30, i%30)})
	}
	s.Ask("mine@example.com", Asker{Address: "192.0.2.1"})
	s.Ask("mine@example.com", Asker{Address: "192.0.2.1"})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		s.Run(ctx)
		close(ended)
	}()
	mine := 0
	for range queueMax {
		if <-asked == "mine@example.com" {
			mine++
		}
	}
	stop()
	<-ended
	if mine == 0 {
		t.Error("who asks in a flood is not heard")
	}
	if lines := strings.Count(out.String(), "\n"); lines > 20 {
		t.Errorf("%d lines: %s", lines, out.String())
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
	s.limits = newLimits(s.cfg.Now())
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
