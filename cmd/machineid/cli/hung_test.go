//go:build linux

package cli

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestAHungLeaderIsNotWaitedFor stops the leader under the calls that the other nodes have handed on to it: as soon as another leads they go there, or, where it
// would not be safe to repeat them, are answered that it is not known. What the stopped one does when it goes on changes nothing.
func TestAHungLeaderIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	const (
		whole = 8 * time.Second         // what a call has in all (docs/api.md)
		wait  = 2500 * time.Millisecond // less than a node waits for an election
	)
	c := startCluster(t, 3, "--plans", "free=10")
	o := newClient(t, c.nodes[0].http).createOrg(t)
	leader := c.leader()
	var others []*authorityNode
	for _, n := range c.nodes {
		if n != leader {
			others = append(others, n)
			newClient(t, n.http).must(t, "devices/register", o.admin, naming("at-"+n.id)) // it knows where the leader is
			newClient(t, n.http).must(t, "devices/register", o.admin, naming("key-at-"+n.id))
		}
	}
	type call struct {
		what, method, path, body string
		header                   []string
		lost                     bool // it may be unknown
	}
	var work sync.WaitGroup
	leader.pause()
	for _, n := range others {
		for _, k := range []call{
			{what: "a change with a key", method: "POST", path: "devices/revoke", body: naming("key-at-" + n.id), header: []string{"Idempotency-Key: once-at-" + n.id}},
			{what: "a change without", method: "POST", path: "devices/revoke", body: naming("at-" + n.id), lost: true},
			{what: "a read", method: "GET", path: "usage"},
		} {
			conn := newClient(t, n.http)
			work.Go(func() {
				began := time.Now()
				a, err := conn.do(k.method, k.path, o.admin, k.body, k.header...)
				took := time.Since(began)
				if err != nil {
					t.Errorf("%s at %s: %v after %s", k.what, n.id, err, took)
					return
				}
				t.Logf("%s at %s: HTTP %d %s after %s", k.what, n.id, a.StatusCode, a.text("outcome"), took.Round(time.Millisecond))
				switch done := a.StatusCode == http.StatusOK; {
				case took > whole:
					t.Errorf("%s at %s took %s", k.what, n.id, took)
				case done && k.path == "devices/revoke" && a.body["changed"] != true:
					t.Errorf("%s at %s changed nothing: %s", k.what, n.id, a.raw)
				case !done && a.text("outcome") == "unknown" && k.method == http.MethodGet,
					!done && !k.lost && took < wait:
					t.Errorf("%s at %s: %s after %s", k.what, n.id, a.raw, took)
				}
			})
		}
	}
	work.Wait()
	leader.resume()
	for _, n := range others {
		newClient(t, n.http).must(t, "devices/revoke", o.admin, naming("at-"+n.id)) // whatever became of it
	}
	for _, n := range c.nodes {
		eventually(t, patient, n.id+" is ready", func() bool { return readyAt(n.ops) })
		for _, at := range others {
			for _, id := range []string{"at-" + at.id, "key-at-" + at.id} {
				if code := newClient(t, n.http).validate(t, o.agent, id); code != "DEVICE_REVOKED" {
					t.Errorf("%s says %s of %s", n.id, code, id)
				}
			}
		}
	}
}
