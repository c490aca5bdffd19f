package edge

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/shared/wire"
)

// TestADecisionEndsInTime: what is passed on for a decision is denied within its time, wherever that goes: while it waits for its party's others, or at a node that
// hangs (I9). The time counts from when all of the question was there, as at the authority: how long that takes is not the edge's.
func TestADecisionEndsInTime(t *testing.T) {
	const head = "/api/v1/devices/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer b\r\nX-MachineID-Org: o\r\n"
	body := `{"deviceId":"d"}` + strings.Repeat(" ", 10_000)
	stranger := wire.AddressParty(netip.IPv4Unspecified())
	for name, c := range map[string]struct {
		crowded bool
		slow    time.Duration // that the end of its body takes
		asked   int
	}{
		"the node hangs":                 {asked: 1},
		"its party's others are first":   {crowded: true},
		"its body takes half as long":    {slow: decisionBudget / 2, asked: 1},
		"its body takes a little longer": {slow: decisionBudget + time.Second/5, asked: 1},
		"its body takes far longer":      {slow: 9 * time.Second, asked: 1},
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
				time.AfterFunc(c.slow+decisionBudget+time.Millisecond, func() {
					if c.crowded {
						s.e.proxy.crowd.Leave(stranger)
					}
				})
				began := time.Now()
				status, _, got := s.slowly("POST "+head+"Content-Length: 10016\r\n\r\n"+body[:9_000], c.slow, body[9_000:])
				if took := time.Since(began); status != 200 || got["code"] != "SYSTEM_UNAVAILABLE" || took > c.slow+decisionBudget {
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

// ofOrg is an answer in which the authority says whose key it was.
func ofOrg(org string) string {
	return strings.Replace(okAnswer, "\r\n\r\n", "\r\n"+wire.KeyOrgHeader+": "+org+"\r\n\r\n", 1)
}

// TestNoPartyTakesAllConnections to the authority: an org's calls have half at most, by whichever of its keys, also where the edge knows these by no validate. Each
// call gives its place back, and no client sees whose key it was (I14).
func TestNoPartyTakesAllConnections(t *testing.T) {
	const one, two = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	for name, c := range map[string]struct {
		says   []string // of three keys
		reach  int      // of two calls with each of the first two keys
		served bool     // the third key's call, at once
	}{
		"of one org":                 {[]string{ofOrg(one), ofOrg(one), ofOrg(two)}, 2, true},
		"of two":                     {[]string{ofOrg(one), ofOrg(two), ofOrg(two)}, 4, false},
		"the authority does not say": {[]string{okAnswer, okAnswer, okAnswer}, 4, true},
		"nor in what is no org's id": {[]string{ofOrg(one[1:]), ofOrg(one[1:] + "x"), ofOrg(one + "00")}, 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			inSite(t, func(s *site) {
				const places = 4
				s.e.proxy.crowd = wire.NewCrowd(places, crowdWait)
				a := s.node("a", append(c.says, "")...)
				s.e.proxy.use("a", "token")
				call := func(key byte) (int, any) {
					status, header, body := s.raw(callWith("GET", "usage", keyOf(key).Reveal()))
					if header.Get(wire.KeyOrgHeader) != "" {
						t.Errorf("the client sees whose key it is: %v", header)
					}
					return status, body["outcome"]
				}
				for key := range byte(3) {
					call(key)
				}
				var calls sync.WaitGroup
				for _, key := range []byte{0, 0, 1, 1} {
					calls.Go(func() {
						if status, outcome := call(key); status != 503 || outcome != wire.OutcomeNotDone {
							t.Errorf("%d %v", status, outcome)
						}
					})
				}
				time.Sleep(crowdWait / 2)
				a.mu.Lock()
				if got := a.got - 3; got != c.reach {
					t.Errorf("%d calls reached the authority, want %d", got, c.reach)
				}
				a.say = []string{okAnswer}
				a.mu.Unlock()
				began := time.Now()
				if status, _ := call(2); c.served != (status == 200 && time.Since(began) < crowdWait/4) {
					t.Errorf("another's: %d after %v", status, time.Since(began))
				}
				calls.Wait()
				for i := range 3 * places {
					if status, outcome := call(byte(i % 2)); status != 200 {
						t.Errorf("when all places have come back: %d %v", status, outcome)
					}
				}
			})
		})
	}
}
