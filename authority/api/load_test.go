package api_test

import (
	"strings"
	"testing"
)

// TestWhoMakesTheLoad: calls are counted for the key that makes them, and changes that are in force are timed, not those that were refused.
func TestWhoMakesTheLoad(t *testing.T) {
	n := start(t)
	busy, quiet := n.org(), n.org()
	for range 40 {
		n.with(busy.admin, "GET", "org", "").want(200)
	}
	n.with(quiet.admin, "POST", "devices/register", `{"deviceId":"d"}`).want(200)
	n.with(quiet.admin, "POST", "devices/revoke", `{"deviceId":"nobody"}`).want(404)
	n.with("org_"+strings.Repeat("x", 43), "GET", "org", "").want(401)
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	rates, changes := map[string]float64{}, uint64(0)
	for _, f := range families {
		switch f.GetName() {
		case "machineid_api_top_requests":
			for _, m := range f.GetMetric() {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, l.GetValue())
				}
				rates[strings.Join(labels, " ")] = m.GetGauge().GetValue()
			}
		case "machineid_api_change_seconds":
			changes = f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	if len(rates) != 3 { // the two, and the operator who made their orgs
		t.Errorf("the clients are %v", rates)
	}
	low, high := 1e9, 0.0
	for _, r := range rates {
		low, high = min(low, r), max(high, r)
	}
	if high < 15*low {
		t.Errorf("one made twenty times the calls of the other: %v", rates)
	}
	if changes != 3 { // two orgs and a device
		t.Errorf("%d changes are timed", changes)
	}
}
