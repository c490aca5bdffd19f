package edge

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"machineid/shared/wire"
)

// TestADecisionEndsInTime: what is passed on for a decision is denied within its time, wherever that goes: while it waits for its party's others, in a body that comes
// slowly, or at a node that hangs (I9).
func TestADecisionEndsInTime(t *testing.T) {
	const head = "/api/v1/devices/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer b\r\nX-MachineID-Org: o\r\n"
	body := `{"deviceId":"d"}` + strings.Repeat(" ", 10_000)
	stranger := wire.AddressParty(netip.IPv4Unspecified())
	for name, c := range map[string]struct {
		crowded bool
		slow    time.Duration // that the end of its body takes
		asked   int
	}{
		"the node hangs":                {asked: 1},
		"its party's others are first":  {crowded: true},
		"its body takes a part":         {slow: decisionBudget / 2, asked: 1},
		"its body takes all of it":      {slow: decisionBudget + time.Second/5},
		"its body takes more than that": {slow: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inSite(t, func(s *site) {
				a := s.node("a", "")
				s.e.proxy.use("a", "token")
				for range pick(c.crowded, maxConns/2, 0) {
					if !s.e.proxy.crowd.Enter(stranger) {
						t.Fatal("less than half")
					}
				}
				// One that comes free only when the time is up.
				time.AfterFunc(decisionBudget+time.Millisecond, func() {
					if c.crowded {
						s.e.proxy.crowd.Leave(stranger)
					}
				})
				began := time.Now()
				status, _, got := s.slowly("POST "+head+"Content-Length: 10016\r\n\r\n"+body[:9_000], c.slow, body[9_000:])
				if took := time.Since(began); status != 200 || got["code"] != "SYSTEM_UNAVAILABLE" || took > max(c.slow, decisionBudget) {
					t.Errorf("%d %v after %v", status, got, took)
				}
				a.mu.Lock()
				defer a.mu.Unlock()
				if a.got != c.asked {
					t.Errorf("the node was asked %d times, want %d", a.got, c.asked)
				}
			})
		})
	}
}

// slowly is raw of a request whose end comes later.
func (f *front) slowly(begin string, pause time.Duration, end string) (status int, header http.Header, body map[string]any) {
	f.t.Helper()
	c, err := f.l.Dial()
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, begin); err != nil {
		f.t.Fatal(err)
	}
	time.Sleep(pause)
	if _, err := io.WriteString(c, end); err != nil {
		f.t.Fatal(err)
	}
	return f.answer(c)
}
