package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// crowded is an org with so many devices that a list of them is a long read.
func (n *node) crowded(devices int, metadata string) *org {
	n.t.Helper()
	o := n.sized(uint32(devices))
	for i := range devices {
		n.with(o.agent, "POST", "devices/register", fmt.Sprintf(`{"deviceId":"d%04d","metadata":%s}`, i, metadata)).want(200)
	}
	return o
}

func get(path, key string) string {
	return "GET " + wire.Base + path + " HTTP/1.1\r\nHost: a\r\nx-org-key: " + key + "\r\n\r\n"
}

func devicesIn(t *testing.T, a *answer) (ids []string) {
	t.Helper()
	var said struct{ Devices []struct{ DeviceID string } }
	if err := json.Unmarshal([]byte(a.raw), &said); err != nil {
		t.Fatal(err)
	}
	for _, d := range said.Devices {
		ids = append(ids, d.DeviceID)
	}
	return ids
}

// TestLongReads: what is read in turn is what is read at once, each caller gets all of it or 429, and no other org is refused anything.
func TestLongReads(t *testing.T) {
	n := start(t)
	noisy, quiet, large := n.crowded(300, `{}`), n.crowded(2, `{}`), n.crowded(100, `{}`)
	var want []string
	for cursor, more := "", true; more; {
		page := n.with(noisy.admin, "GET", "devices/list?limit=50"+cursor, "").want(200)
		want = append(want, devicesIn(t, page)...)
		cursor, more = "&cursor="+page.field("nextCursor"), page.field("nextCursor") != ""
	}
	if len(want) != 300 {
		t.Fatalf("%d devices", len(want))
	}
	var callers sync.WaitGroup
	var mu sync.Mutex
	answered, refused := 0, 0
	stop := make(chan struct{})
	for i := range 8 {
		path := []string{"org/export", "devices/list"}[i%2]
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond): // a bit of the machine is for the others, however slow it is
				}
				a, err := n.send(get(path, noisy.admin))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				switch {
				case a.StatusCode == http.StatusOK && slices.Equal(devicesIn(t, a), want):
					answered++
				case a.StatusCode == http.StatusTooManyRequests && a.body["error"] == "rate_limited" && a.Header.Get("Retry-After") != "":
					refused++
				case a.StatusCode == http.StatusServiceUnavailable && a.body["outcome"] == wire.OutcomeNotDone: // not in its time
				default:
					t.Errorf("HTTP %d: %.200s", a.StatusCode, a.raw)
				}
				mu.Unlock()
			}
		})
	}
	for i := range 20 {
		n.with(quiet.admin, "GET", "devices/list", "").want(200)
		n.with(quiet.admin, "GET", "org/export", "").want(200)
		n.with(quiet.admin, "GET", "usage", "").want(200)
		n.with(quiet.agent, "POST", "devices/register", device("d0001")).want(200)
		n.with(quiet.agent, "POST", "devices/validate", device("d0001")).want(200, `"ALLOW"`)
		if i%10 == 0 {
			if got := devicesIn(t, n.with(large.admin, "GET", "devices/list", "").want(200)); len(got) != 100 {
				t.Errorf("%d devices", len(got))
			}
			n.do("GET", "operator/orgs", "", "Authorization: Bearer "+operatorToken).want(200)
		}
	}
	close(stop)
	callers.Wait()
	t.Logf("%d were answered, %d refused", answered, refused)
	n.noneIsOpen(t)
	for _, path := range []string{"org/export", "devices/list"} {
		if got := devicesIn(t, n.with(noisy.admin, "GET", path, "").want(200)); !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// TestLongReadsOfOne are few at a time: more are refused at once, and answered when those before them have left.
func TestLongReadsOfOne(t *testing.T) {
	n := start(t)
	o := n.crowded(150, `{}`)
	_, open := n.hub.shut()
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			if a, err := n.send(get("org/export", o.admin)); err != nil || a.StatusCode != http.StatusOK && a.StatusCode != http.StatusTooManyRequests {
				t.Error(a, err)
			}
		})
	}
	n.await(t, "four are there", func() bool {
		return n.told("machineid_api_long_reads_waiting")+n.told("machineid_api_long_reads_open") == 4
	})
	a, err := n.send(get("devices/list", o.admin))
	if err != nil {
		t.Fatal(err)
	}
	a.want(429, `"error":"rate_limited"`, "limit")
	if a.Header.Get("Retry-After") == "" || n.counted("machineid_api_long_reads_refused_total", "own") != 1 {
		t.Errorf("%v", a.Header)
	}
	open()
	callers.Wait()
	n.noneIsOpen(t)
	n.with(o.admin, "GET", "devices/list", "").want(200)
}

// noneIsOpen waits until no long read is under way.
func (n *node) noneIsOpen(t *testing.T) {
	t.Helper()
	n.await(t, "no long read is open", func() bool {
		return n.told("machineid_api_long_reads_open")+n.told("machineid_api_long_reads_waiting")+n.told("machineid_api_long_reads_unsent_bytes") == 0
	})
}

func (n *node) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patient)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain until " + what)
		}
	}
}

// told is a gauge, or a counter without labels.
func (n *node) told(name string) (value float64) {
	n.t.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	value = -1
	for _, f := range families {
		if f.GetName() == name {
			value = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if value < 0 {
		n.t.Fatalf("no metric %s", name)
	}
	return value
}

// TestEveryLongRead is read in turn: each call that lists something, where there is much of it. A panic or a refusal in the middle gives all back.
func TestEveryLongRead(t *testing.T) {
	n := start(t)
	o := n.crowded(150, `{}`)
	n.with(o.admin, "POST", "devices/revoke_batch", `{"scope":"all_active"}`).want(200)
	for range 90 {
		a := n.with(o.admin, "POST", "org/keys", `{"scope":"validate"}`).want(200)
		n.with(o.admin, "POST", "org/keys/revoke", fmt.Sprintf(`{"keyId":%q}`, a.field("keyId"))).want(200)
	}
	for range 90 {
		n.org()
	}
	for _, path := range []string{"devices/list", "org/export", "org/keys", "audit?limit=300", "operator/audit?limit=300", "operator/orgs?limit=1000"} {
		before := n.told("machineid_api_long_reads_total")
		header := "x-org-key: " + o.admin
		if strings.HasPrefix(path, "operator/") {
			header = "Authorization: Bearer " + operatorToken
		}
		n.do("GET", path, "", header).want(200)
		if n.told("machineid_api_long_reads_total") == before {
			t.Errorf("%s took no turn", path)
		}
	}
	n.noneIsOpen(t)
}

// TestALongReadThatNobodyTakes is given back when its connection ends, and holds up nobody else.
func TestALongReadThatNobodyTakes(t *testing.T) {
	n := start(t)
	o, other := n.crowded(200, `{"x":"`+strings.Repeat("y", 3000)+`"}`), n.crowded(100, `{}`)
	c, err := n.ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(get("org/export", o.admin))); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	for range 5 {
		n.with(other.admin, "GET", "devices/list", "").want(200)
	}
	_ = c.Close()
	n.noneIsOpen(t)
	n.with(o.admin, "GET", "org/export", "").want(200)
}

// TestAPageIsBounded in bytes too.
func TestAPageIsBounded(t *testing.T) {
	n := start(t)
	o := n.crowded(1400, `{"x":"`+strings.Repeat("y", 4000)+`"}`)
	page := n.with(o.admin, "GET", "devices/list?limit=1000", "").want(200)
	if got := len(devicesIn(t, page)); got != 1000 {
		t.Errorf("%d devices, asked for 1000", got)
	}
	page = n.with(o.admin, "GET", "devices/list", "").want(200)
	first := devicesIn(t, page)
	rest := devicesIn(t, n.with(o.admin, "GET", "devices/list?cursor="+page.field("nextCursor"), "").want(200))
	if len(first) >= 1400 || len(first)+len(rest) != 1400 || len(page.raw) > 6<<20 {
		t.Errorf("%d and %d devices, %d bytes", len(first), len(rest), len(page.raw))
	}
}

// TestBatchesOfAnOrg are proposed one at a time, and another org's beside them.
func TestBatchesOfAnOrg(t *testing.T) {
	n := start(t)
	o, other := n.crowded(5, `{}`), n.crowded(5, `{}`)
	var mu sync.Mutex
	in, most := map[string]int{}, map[string]int{}
	both := make(chan struct{})
	count := func(org string, by int) {
		mu.Lock()
		defer mu.Unlock()
		in[org] += by
		if most[org] = max(most[org], in[org]); in[string(o.id[:])] > 0 && in[string(other.id[:])] > 0 {
			select {
			case <-both:
			default:
				close(both)
			}
		}
	}
	n.store.before(func(cmd *statepb.Command) {
		var org string
		switch c := cmd.GetChange().(type) {
		case *statepb.Command_RevokeBatch:
			org = string(c.RevokeBatch.GetOrgId())
		case *statepb.Command_UnrevokeBatch:
			org = string(c.UnrevokeBatch.GetOrgId())
		default:
			return
		}
		count(org, 1)
		select { // each org's first is in it until the other's is
		case <-both:
		case <-time.After(patient):
			t.Error("the orgs wait for each other")
		}
		count(org, -1)
	})
	var callers sync.WaitGroup
	for i := range 16 {
		key := []string{o.admin, other.admin}[i%2]
		path, body := []string{"devices/revoke_batch", "devices/unrevoke_batch"}[i/2%2], []string{`{"deviceIds":["d0000","d0001"]}`, `{"scope":"all_active"}`, `{"deviceIds":["d0000"]}`, `{"scope":"all_revoked"}`}
		callers.Go(func() {
			a, err := n.send(fmt.Sprintf("POST %s%s HTTP/1.1\r\nHost: a\r\nx-org-key: %s\r\nContent-Length: %d\r\n\r\n%s", wire.Base, path, key, len(body[2*(i/2%2)+i/4%2]), body[2*(i/2%2)+i/4%2]))
			if err != nil || a.StatusCode != http.StatusOK {
				t.Error(err, a)
			}
		})
	}
	callers.Wait()
	for org, n := range most {
		if n != 1 {
			t.Errorf("%x: %d at once", org, n)
		}
	}
	if len(most) != 2 {
		t.Errorf("batches of %d orgs", len(most))
	}
}
