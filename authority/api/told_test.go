package api_test

import (
	"testing"

	"machineid/authority/api"
)

// TestWhatIsToldAndWhatIsStamped: answers are judged by the time that may be told, which can be behind; commands carry and are judged by the authority's own (I11).
func TestWhatIsToldAndWhatIsStamped(t *testing.T) {
	var told func() int64
	n := start(t, func(c *api.Config) { c.Told = func() int64 { return told() } })
	told = n.now.Load
	o := n.org()
	n.with(o.admin, "POST", "devices/register", `{"deviceId":"d","ttlSeconds":5}`).want(200)
	told = func() int64 { return startMs + 4999 }
	n.now.Store(startMs + 6000)
	n.with(o.admin, "GET", "devices/get?deviceId=d", "").want(200, `"deviceId":"d"`)
	n.with(o.admin, "GET", "devices/validate?deviceId=d", "").want(200, "ALLOW")
	n.with(o.admin, "POST", "devices/register", `{"deviceId":"d","ttlSeconds":5}`).want(200, `"status":"ok"`) // another life: the command knows of the end
	told = func() int64 { return startMs + 20_000 }
	n.now.Store(startMs + 20_000)
	n.with(o.admin, "GET", "devices/get?deviceId=d", "").want(404, "device_not_found")
}

// TestNoEndIsToldWhileEdgesMayBeBehind: a validate waits for no edge, so it says that it does not know; of what has no end, or one to come, it knows. What is not there
// may have ended: a command of its org has swept it then (I11).
func TestNoEndIsToldWhileEdgesMayBeBehind(t *testing.T) {
	n := start(t)
	o := n.org()
	n.with(o.admin, "POST", "devices/register", `{"deviceId":"ends","ttlSeconds":5}`).want(200)
	n.with(o.admin, "POST", "devices/register", `{"deviceId":"stays"}`).want(200)
	look := func(ends, nobody string) {
		t.Helper()
		n.with(o.admin, "GET", "devices/validate?deviceId=ends", "").want(200, ends)
		n.with(o.admin, "GET", "devices/validate?deviceId=stays", "").want(200, "ALLOW")
		n.with(o.admin, "GET", "devices/validate?deviceId=nobody", "").want(200, nobody)
	}
	n.hub.behind.Store(true)
	look("ALLOW", "SYSTEM_UNAVAILABLE")
	n.now.Add(5000)
	look("SYSTEM_UNAVAILABLE", "SYSTEM_UNAVAILABLE")
	n.with(o.admin, "POST", "devices/register", `{"deviceId":"another"}`).want(200)
	look("SYSTEM_UNAVAILABLE", "SYSTEM_UNAVAILABLE")
	n.hub.behind.Store(false)
	look("DEVICE_NOT_FOUND", "DEVICE_NOT_FOUND")
}
