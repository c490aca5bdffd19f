package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCap lets 64 devices come for 3 places at once.
func TestCap(t *testing.T) {
	n := start(t)
	o := n.org()
	const callers = 64
	answers := make([]*answer, callers)
	var all sync.WaitGroup
	gun := make(chan struct{})
	for i := range callers {
		all.Go(func() {
			<-gun
			answers[i] = n.with(o.agent, "POST", "devices/register", device(fmt.Sprintf("d%02d", i)))
		})
	}
	close(gun)
	all.Wait()
	granted := 0
	for _, a := range answers {
		if a.StatusCode == http.StatusOK {
			granted++
			a.want(200, `"status":"ok"`)
			continue
		}
		a.want(403, "device_limit_reached", `"devicesUsed":3`, `"remaining":0`)
	}
	if granted != 3 {
		t.Errorf("%d registered, want 3", granted)
	}
	n.with(o.admin, "GET", "usage", "").want(200, `"devicesUsed":3,"remaining":0,"overLimit":false`)
}

// TestSameDeviceAtOnce lets one device register 32 times at once: it is new once and counts once.
func TestSameDeviceAtOnce(t *testing.T) {
	n := start(t)
	o := n.org()
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			a := n.with(o.agent, "POST", "devices/register", device("d"))
			mu.Lock()
			defer mu.Unlock()
			seen[a.field("status")]++
		})
	}
	all.Wait()
	if diff := cmp.Diff(map[string]int{"ok": 1, "exists": 31}, seen); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	n.with(o.admin, "GET", "usage", "").want(200, `"devicesUsed":1`)
}

// TestTTL follows a device to its end, which nothing sweeps.
func TestTTL(t *testing.T) {
	n := start(t)
	o := n.sized(1)
	n.with(o.agent, "POST", "devices/register", `{"deviceId":"brief","ttlSeconds":10}`).
		want(200, `"expiresAt":"2026-09-21T14:13:30.000Z"`)
	n.now.Add(9_999)
	n.with(o.agent, "POST", "devices/validate", device("brief")).want(200, "ALLOW")
	n.with(o.agent, "POST", "devices/register", device("next")).want(403, "device_limit_reached")
	n.now.Add(1)
	// The state learns the time from whatever is done. Then the clock of this node goes back: what has ended stays ended.
	other := n.org()
	n.now.Add(-5_000)
	n.with(o.agent, "POST", "devices/validate", device("brief")).want(200, "DEVICE_NOT_FOUND")
	n.with(o.admin, "GET", "devices/get?deviceId=brief", "").want(404, "device_not_found")
	n.now.Add(5_000)
	n.with(other.admin, "GET", "devices/list", "").want(200, `"devices":[]`)
	n.with(o.agent, "POST", "devices/validate", device("brief")).want(200, "DEVICE_NOT_FOUND")
	n.with(o.admin, "GET", "devices/get?deviceId=brief", "").want(404, "device_not_found")
	n.with(o.admin, "GET", "devices/list", "").want(200, `"devices":[]`, `"devicesUsed":0`)
	n.with(o.admin, "GET", "usage", "").want(200, `"devicesUsed":0,"remaining":1`)
	n.with(o.admin, "POST", "devices/revoke", device("brief")).want(404, "device_not_found")
	n.with(o.agent, "POST", "devices/register", device("next")).want(200, `"status":"ok"`, `"devicesUsed":1`)
}

// TestValuesOnExists replaces what was given, leaves what was not, and writes nothing where nothing differs.
func TestValuesOnExists(t *testing.T) {
	n := start(t)
	o := n.org()
	for _, c := range []struct{ body, want string }{
		{`{"deviceId":"d","name":"a","metadata":{"z":1,"a":2}}`, `"name":"a","metadata":{"a":2,"z":1}`},
		{`{"deviceId":"d","metadata":{ "a" : 2, "z" : 1 }}`, `"name":"a","metadata":{"a":2,"z":1}`},
		{`{"deviceId":"d","name":"b"}`, `"name":"b","metadata":{"a":2,"z":1}`},
		{`{"deviceId":"d","metadata":{}}`, `"name":"b","metadata":{}`},
		{`{"deviceId":"d","name":""}`, `"name":null,"metadata":{}`},
	} {
		n.with(o.agent, "POST", "devices/register", c.body).want(200, c.want)
		n.with(o.admin, "GET", "devices/get?deviceId=d", "").want(200, c.want)
	}
	n.changedMu.Lock()
	defer n.changedMu.Unlock()
	if want := []string{"device.registered d", "device.updated d", "device.updated d", "device.updated d"}; !slices.Equal(n.changed[1:], want) {
		t.Errorf("told of %q, want %q", n.changed[1:], want)
	}
}

// TestPages walks lists of every page size and finds each device once, in order, also when one behind the cursor goes away.
func TestPages(t *testing.T) {
	n := start(t)
	o := n.sized(100)
	var want []string
	for i := range 23 {
		if i%5 == 0 {
			n.now.Add(1) // five share a time: the order among them is that of the ids
		}
		id := fmt.Sprintf("d/%02d ä&%%", i)
		n.with(o.agent, "POST", "devices/register", device(id)).want(200)
		want = append(want, id)
	}
	n.with(o.admin, "POST", "devices/revoke", device(want[7])).want(200)
	for _, limit := range []int{0, 1, 2, 5, 22, 23, 24, 1000} {
		if got := n.walk(o, limit, nil); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", limit, got)
		}
	}
	got := n.walk(o, 4, func(page int) {
		if page == 2 { // the cursor's own device, and one to come
			n.with(o.admin, "POST", "devices/remove", device(want[7])).want(200)
			n.with(o.admin, "POST", "devices/remove", device(want[8])).want(200)
		}
	})
	if rest := slices.Delete(slices.Clone(want), 8, 9); !slices.Equal(got, rest) {
		t.Errorf("with a device removed on the way: %q", got)
	}
}

// walk lists an org's devices page by page.
func (n *node) walk(o *org, limit int, after func(page int)) (ids []string) {
	n.t.Helper()
	cursor := ""
	for page := 1; ; page++ {
		query := url.Values{}
		if limit > 0 {
			query.Set("limit", strconv.Itoa(limit))
		}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		a := n.with(o.admin, "GET", "devices/list?"+query.Encode(), "").want(200)
		var list struct {
			Devices []struct {
				ID string `json:"deviceId"`
			} `json:"devices"`
		}
		if err := json.Unmarshal([]byte(a.raw), &list); err != nil {
			n.t.Fatal(err)
		}
		if limit > 0 && len(list.Devices) > limit {
			n.t.Fatalf("%d devices on a page of %d", len(list.Devices), limit)
		}
		for _, d := range list.Devices {
			ids = append(ids, d.ID)
		}
		if cursor = a.field("nextCursor"); cursor == "" {
			return ids
		}
		if after != nil {
			after(page)
		}
	}
}

// TestCursorIsOpaque changes each byte of a cursor: it must be refused, not misread.
func TestCursorIsOpaque(t *testing.T) {
	n := start(t)
	o := n.org()
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	n.with(o.agent, "POST", "devices/register", device("b")).want(200)
	cursor := n.with(o.admin, "GET", "devices/list?limit=1", "").want(200).field("nextCursor")
	n.with(o.admin, "GET", "devices/list?cursor="+cursor, "").want(200, `"deviceId":"b"`)
	bad := []string{cursor + "=", cursor + "A", cursor[:len(cursor)-1], cursor[1:], strings.Repeat("A", 20), "%00"}
	for i := range cursor {
		other := byte('A')
		if cursor[i] == other {
			other = 'B'
		}
		bad = append(bad, cursor[:i]+string(other)+cursor[i+1:])
	}
	for _, c := range bad {
		a := n.with(o.admin, "GET", "devices/list?cursor="+c, "")
		if a.StatusCode != http.StatusBadRequest || a.field("param") != "cursor" && a.field("param") != "query" {
			t.Errorf("cursor %q of %q: HTTP %d %s", c, cursor, a.StatusCode, a.raw)
		}
	}
}

// TestMetrics counts a few requests.
func TestMetrics(t *testing.T) {
	n := start(t)
	o := n.org()
	n.with(o.agent, "POST", "devices/register", device("d")).want(200)
	n.with(o.agent, "POST", "devices/revoke", device("d")).want(403)
	n.with(o.agent, "GET", "nothing", "").want(404)
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			words := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				words = append(words, l.GetValue())
			}
			if v := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()); v > 0 {
				got[strings.Join(words, " ")] = v
			}
		}
	}
	want := map[string]float64{
		"machineid_api_requests_total 2xx org_create":       1,
		"machineid_api_requests_total 2xx devices/register": 1,
		"machineid_api_requests_total 4xx devices/revoke":   1,
		"machineid_api_requests_total 4xx unknown":          1,
		"machineid_api_change_seconds":                      2,
		"machineid_api_request_seconds org_create":          1,
		"machineid_api_request_seconds devices/register":    1,
		"machineid_api_request_seconds devices/revoke":      1,
		"machineid_api_request_seconds unknown":             1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
