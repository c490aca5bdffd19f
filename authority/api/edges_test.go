package api_test

import (
	"testing"

	"machineid/authority/api"
	"machineid/authority/hub"
)

// TestShowEdges: what an edge has not reported yet is null, and a node that does not lead knows of none.
func TestShowEdges(t *testing.T) {
	n := start(t, func(c *api.Config) { c.Nodes = &fakeNodes{} })
	ask := func() *answer {
		return n.with("", "GET", "operator/edges", "", "Authorization: Bearer "+operatorToken)
	}
	a := ask()
	a.want(200, `"node":"a1","edges":[{"id":"e1","address":"10.0.0.1:5","version":"v1","state":"connected","since":"`,
		`"leaseLeftMs":2900,"acked":7,"behind":0,"behindMs":0,"ackMs":0.4,"hits":75,"misses":25,"hitRate":0.75,"entries":12}`,
		`{"id":"e2","address":"","version":"","state":"gone","since":"`,
		`"leaseLeftMs":0,"acked":0,"behind":2,"behindMs":1000,"ackMs":null,"hits":null,"misses":null,"hitRate":null,"entries":null}]`)
	n.hub.fail(hub.ErrNotLeading)
	ask().want(503, `"outcome":"not_done"`)
}
