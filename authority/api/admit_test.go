package api_test

import (
	"context"
	"errors"
	"testing"

	"machineid/authority/state/statepb"
)

// TestAChangeIsProvedByItsCommit: what the state judges again needs no proof of leadership before; whatever answers from a view,
// a refusal included, or does more than one command, does.
func TestAChangeIsProvedByItsCommit(t *testing.T) {
	n := start(t)
	o := n.org()
	noQuorum := errors.New("no quorum")
	n.store.fail(nil, func(context.Context) error { return noQuorum })
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	n.with(o.admin, "POST", "devices/revoke", device("a")).want(200)
	n.with(o.admin, "POST", "devices/unrevoke", device("a")).want(200)
	n.with(o.admin, "POST", "devices/remove", device("a")).want(200)
	for _, c := range []struct{ key, method, path, body string }{
		{o.agent, "POST", "devices/revoke", device("a")}, // a refusal
		{o.admin, "POST", "org/keys", `{"scope":"agent"}`},
		{o.admin, "POST", "org/execution", `{"enabled":true}`},
		{o.admin, "GET", "usage", ""},
	} {
		n.with(c.key, c.method, c.path, c.body).want(503, `"outcome":"not_done"`)
	}
	n.store.fail(nil, nil)
}

// TestAChangeIsAdmittedByAnOldView: a node that is behind lets nothing through that is gone, and refuses nothing that has come.
func TestAChangeIsAdmittedByAnOldView(t *testing.T) {
	n := start(t)
	o := n.org()
	admin := n.key(o, statepb.Key_ADMIN, nil)
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	hash := n.store.lastCommand().GetCaller().GetKeyHash()

	catchUp := n.store.lag(t)
	fresh := n.key(o, statepb.Key_ADMIN, nil)
	n.with(fresh, "POST", "devices/revoke", device("a")).want(200)
	agent := &statepb.Key{Hash: hash, KeyId: o.agent[4:12], OrgId: o.id[:], Scope: statepb.Key_AGENT, CreatedAtMs: startMs, RevokedAtMs: startMs}
	n.edit(append([]byte{'k'}, hash...), agent)
	n.with(o.agent, "POST", "devices/register", device("b")).want(404, "org_not_found")
	catchUp()
	n.with(admin, "GET", "devices/get?deviceId=b", "").want(404, "device_not_found")
	n.with(admin, "GET", "devices/get?deviceId=a", "").want(200, `"status":"revoked"`)
}
