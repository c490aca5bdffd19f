package state

import (
	"bytes"
	"testing"

	"machineid/authority/state/statepb"
)

func rotateTo(old, next []byte) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_RotateToken{RotateToken: &statepb.RotateToken{OldHash: old, NewHash: next}}}
}

// TestRotateToken: only who shows the token in force puts another in its place, so of two at once one wins; it concerns no edge, and is in the audit once.
func TestRotateToken(t *testing.T) {
	n := newNode(t, openDB(t))
	hash := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	if out := n.do(rotateTo(nil, hash(1))); out.Refusal != TokenMoved || n.m.Cluster() != nil {
		t.Errorf("before there is a cluster: %+v", out)
	}
	c := seed()
	c.GetSeed().Cluster.OperatorTokenHash = hash(1)
	n.do(c)
	is := func(want []byte) {
		t.Helper()
		if got := n.m.Cluster().GetOperatorTokenHash(); !bytes.Equal(got, want) {
			t.Errorf("the token is %x, want %x", got, want)
		}
	}
	first := n.m.Cluster()
	for _, bad := range []*statepb.Command{rotateTo(hash(2), hash(3)), rotateTo(nil, hash(3)), rotateTo(hash(1), nil), rotateTo(hash(1), hash(3)[:31])} {
		if out := n.do(bad); out.Refusal != TokenMoved || out.Changed {
			t.Errorf("%v: %+v", bad, out)
		}
	}
	is(hash(1))
	if out := n.do(rotateTo(hash(1), hash(2))); !out.Changed || len(n.heard[len(n.heard)-1].concerns) != 0 {
		t.Errorf("%+v, concerns %v", out, n.heard[len(n.heard)-1].concerns)
	}
	is(hash(2))
	if out := n.do(rotateTo(hash(1), hash(2))); out.Changed || out.Refusal != Granted {
		t.Errorf("again: %+v", out)
	}
	if out := n.do(rotateTo(hash(1), hash(3))); out.Refusal != TokenMoved {
		t.Errorf("by the old one: %+v", out)
	}
	if !bytes.Equal(first.GetOperatorTokenHash(), hash(1)) || n.m.Cluster().GetClusterId() != first.GetClusterId() || !bytes.Equal(n.m.Cluster().GetHashKey(), first.GetHashKey()) {
		t.Error("others read the record that was changed, or more than the token was changed")
	}
	n.restart()
	is(hash(2))
	if entries := must(keysOf(n.reader(), prefixAudit))(t); len(entries) != 2 { // with the cluster's beginning
		t.Errorf("%d entries in the audit", len(entries))
	}
}
