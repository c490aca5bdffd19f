//go:build unix

package cli

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// attempt is one of many calls made at once.
type attempt struct{ path, id string }

// atOnce makes all calls at the same moment, each on a connection of its own that is open already, and returns the answers in
// the order of the calls. The connections go to the addresses in turn.
func atOnce(t *testing.T, o org, calls []attempt, addrs ...string) []*reply {
	t.Helper()
	var (
		ready, done sync.WaitGroup
		begin       = make(chan struct{})
		answers     = make([]*reply, len(calls))
		errs        = make([]error, len(calls))
	)
	for i, call := range calls {
		c := newClient(t, addrs[i%len(addrs)])
		ready.Add(1)
		done.Go(func() {
			defer c.close()
			_, errs[i] = c.get("usage", o.admin)
			ready.Done()
			<-begin
			if errs[i] == nil {
				answers[i], errs[i] = c.post(call.path, o.admin, naming(call.id))
			}
		})
	}
	ready.Wait()
	close(begin)
	done.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s %s: %v", calls[i].path, calls[i].id, err)
		}
	}
	return answers
}

// TestCapIsExact proves that 64 concurrent calls get exactly the three places of a free org: registrations of new devices,
// registrations beside restorations, and of one device only one counts. Through the edge, directly, and mixed.
func TestCapIsExact(t *testing.T) {
	t.Parallel()
	const callers, places = 64, 3
	s := startTiers(t)
	admin := newClient(t, s.authority.http)
	for name, addrs := range map[string][]string{
		"edge": {s.edge.http}, "authority": {s.authority.http}, "both": {s.edge.http, s.authority.http},
	} {
		t.Run(name, func(t *testing.T) {
			o := admin.createOrg(t)
			calls := make([]attempt, callers)
			for i := range calls {
				calls[i] = attempt{"devices/register", fmt.Sprint("agent-", i)}
			}
			winners := judgeCap(t, calls, atOnce(t, o, calls, addrs...), places)
			used(t, admin, o, places)

			// The three are revoked and compete for their places with those that had none.
			for _, id := range winners {
				admin.must(t, "devices/revoke", o.admin, naming(id))
			}
			used(t, admin, o, 0)
			for i, id := range winners {
				calls[i*20] = attempt{"devices/unrevoke", id}
			}
			for i := range calls {
				if calls[i].path == "devices/register" {
					calls[i].id = fmt.Sprint("other-", i)
				}
			}
			judgeCap(t, calls, atOnce(t, o, calls, addrs...), places)
			used(t, admin, o, places)

			o = admin.createOrg(t)
			for i := range calls {
				calls[i] = attempt{"devices/register", "agent-01"}
			}
			made := map[string]int{}
			for _, a := range atOnce(t, o, calls, addrs...) {
				made[a.text("status")]++
			}
			if made["ok"] != 1 || made["exists"] != callers-1 {
				t.Errorf("one device registered by %d callers: %v", callers, made)
			}
			used(t, admin, o, 1)
		})
	}
}

// judgeCap returns the ids that got a place and fails unless they are as many as there are places and all others were told why not.
func judgeCap(t *testing.T, calls []attempt, answers []*reply, places int) (winners []string) {
	t.Helper()
	for i, a := range answers {
		switch {
		case a.StatusCode == http.StatusOK && a.text("status") == "ok":
			winners = append(winners, calls[i].id)
		case a.StatusCode == http.StatusForbidden && a.text("status") == "blocked" && a.text("error") == "device_limit_reached" &&
			a.number("limit") == places && a.number("devicesUsed") == places && a.number("remaining") == 0:
		default:
			t.Errorf("%s %s: HTTP %d: %s", calls[i].path, calls[i].id, a.StatusCode, a.raw)
		}
	}
	if len(winners) != places {
		t.Errorf("%d calls got a place (%v), want %d", len(winners), winners, places)
	}
	return winners
}

// used compares what usage and list count.
func used(t *testing.T, c *client, o org, want int) {
	t.Helper()
	usage, err := c.get("usage", o.admin)
	if err != nil || usage.number("devicesUsed") != want {
		t.Errorf("usage: %v, %+v, want %d used", err, usage, want)
	}
	list, err := c.get("devices/list", o.admin)
	if err != nil {
		t.Fatal(err)
	}
	active := 0
	devices, _ := list.body["devices"].([]any)
	for _, d := range devices {
		if entry, _ := d.(map[string]any); entry["status"] == "active" {
			active++
		}
	}
	if active != want || list.number("devicesUsed") != want {
		t.Errorf("%d devices of the list are active, want %d: %s", active, want, list.raw)
	}
}
