package state

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// A replay gives what the first was told, whatever has happened since, and does nothing.
func TestOnce(t *testing.T) {
	n := seeded(t)
	ask := func(name int, c *statepb.Command, later int64) *statepb.Command {
		return at(start+later, from(0, name, c))
	}
	first := n.do(ask(1, register(0, "a"), 0))
	if !first.Changed || first.Replayed || first.Plan.Used != 1 {
		t.Fatalf("%+v", first)
	}
	n.do(register(0, "b"))
	n.do(revoke(0, "a"))
	before, audits := n.dump(), len(must(keysOf(n.reader(), prefixAudit))(t))
	again := n.do(ask(1, register(0, "a"), rememberFor-1))
	if !again.Replayed || !again.Changed || again.Refusal != Granted || again.Plan != first.Plan || !proto.Equal(again.Device, first.Device) {
		t.Errorf("%+v, want %+v", again, first)
	}
	if got := len(must(keysOf(n.reader(), prefixAudit))(t)); got != audits {
		t.Errorf("%d audit entries, were %d", got, audits)
	}
	if out := n.do(ask(1, register(0, "c"), 1)); out.Refusal != IdempotencyMismatch || out.Changed {
		t.Errorf("another body: %+v", out)
	}
	if out := n.do(ask(2, register(0, "a"), 1)); out.Refusal != DeviceRevoked || out.Replayed {
		t.Errorf("another name: %+v", out)
	}
	n.do(unrevoke(0, "a"))
	if out := n.do(ask(2, register(0, "a"), 1)); out.Refusal != DeviceRevoked || !out.Replayed {
		t.Errorf("a refusal is remembered too: %+v", out)
	}
	n.restart()
	if out := n.do(ask(1, register(0, "a"), rememberFor)); out.Replayed || !out.Existed {
		t.Errorf("after a day it is a new request: %+v", out)
	}
	if before == n.dump() {
		t.Error("nothing changed at all")
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// What has a name is an org's own.
func TestOnceIsOfAnOrg(t *testing.T) {
	n := seeded(t)
	n.do(from(0, 1, register(0, "a")))
	if out := n.do(from(1, 1, register(1, "a"))); out.Replayed || !out.Changed {
		t.Errorf("%+v", out)
	}
}

// An org's outcomes are bounded in number and in time, and no command clears away many.
func TestOnceIsBounded(t *testing.T) {
	n := seeded(t)
	named := func(i int, c *statepb.Command) *statepb.Command {
		c.Once = &statepb.Once{Id: fmt.Appendf(nil, "%016d", i), Request: make([]byte, onceSize)}
		return c
	}
	const extra = 20
	for i := range rememberMax + extra {
		n.apply(entry{raws: [][]byte{encode(named(i, revoke(0, "a")))}})
		if i%500 == 0 {
			n.commit()
		}
	}
	n.commit()
	count := func() int { return len(must(keysOf(n.reader(), prefixOnce))(t)) }
	if got := count(); got != rememberMax {
		t.Errorf("%d are kept, want %d", got, rememberMax)
	}
	if out := n.do(named(0, revoke(0, "a"))); out.Replayed {
		t.Error("the oldest is still known")
	}
	if out := n.do(named(rememberMax, revoke(0, "a"))); !out.Replayed {
		t.Error("a young one is not known any more")
	}
	before := count()
	n.do(at(start+2*rememberFor, named(1, revoke(0, "a"))))
	if got := count(); got != before+1-forgetMax {
		t.Errorf("one command left %d of %d: it must forget %d", got, before, forgetMax)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// The key is judged where the change is applied: what was revoked, has expired, or does not reach so far does nothing.
func TestCallerIsJudgedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		key  func(*statepb.Key)
		want Refusal
	}{
		"alive":     {func(*statepb.Key) {}, Granted},
		"revoked":   {func(k *statepb.Key) { k.RevokedAtMs = start }, OrgNotFound},
		"expired":   {func(k *statepb.Key) { k.ExpiresAtMs = start }, OrgNotFound},
		"other org": {func(k *statepb.Key) { k.OrgId = orgs[1][:] }, OrgNotFound},
		"scope":     {func(k *statepb.Key) { k.Scope = statepb.Key_AGENT }, InsufficientScope},
	} {
		n := seeded(t)
		n.do(register(0, "a"))
		key := must(n.reader().Key(hashOf(0, 0)))(t)
		c.key(key)
		n.apply(entry{raws: [][]byte{edit(keyKey(hashOf(0, 0)), key)}})
		n.commit()
		out := n.do(from(0, 1, revoke(0, "a")))
		if out.Refusal != c.want || out.Changed != (c.want == Granted) {
			t.Errorf("%s: %+v", name, out)
		}
		if kept := len(must(keysOf(n.reader(), prefixOnce))(t)); (kept == 1) != (c.want == Granted) {
			t.Errorf("%s: %d outcomes are remembered", name, kept)
		}
	}
	n := seeded(t)
	cmd := register(0, "a")
	cmd.Caller = &statepb.Caller{KeyHash: []byte("short"), Scopes: []statepb.Key_Scope{statepb.Key_ADMIN}}
	if out := n.do(cmd); out.Refusal != OrgNotFound {
		t.Errorf("a hash of another length: %+v", out)
	}
}
