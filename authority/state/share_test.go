package state

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// by is a command that key n of an org asked for, under a name.
func by(n int, name string, c *statepb.Command) *statepb.Command {
	hash := hashOf(0, n)
	c.Caller = &statepb.Caller{KeyHash: hash[:], Scopes: []statepb.Key_Scope{statepb.Key_ADMIN, statepb.Key_AGENT}}
	c.Once = &statepb.Once{Id: fmt.Appendf(nil, "%016s", name), Request: make([]byte, onceSize), Shared: true}
	return c
}

// TestAKeyForgetsItsOwn: what one key asks for, refused or not, pushes out nothing of another's, so no late duplicate of that one's is done again. Of each key so many outcomes
// are kept, the newest, in records that hold no metadata.
func TestAKeyForgetsItsOwn(t *testing.T) {
	n := seeded(t)
	n.do(addKey(0, 1, statepb.Key_AGENT))
	metadata := bytes.Repeat([]byte{'x'}, 4096)
	described := register(0, "a")
	described.GetRegister().Metadata = metadata
	n.do(described)
	n.do(revoke(0, "a"))
	if out := n.do(by(0, "restore", unrevoke(0, "a"))); !out.Changed {
		t.Fatalf("%+v", out)
	}
	n.do(revoke(0, "a"))
	const asked = 10_400
	for i := range asked {
		n.apply(entry{raws: [][]byte{encode(by(1, strconv.Itoa(i), register(0, "a")))}})
		if i%500 == 0 {
			n.commit()
		}
	}
	n.commit()
	if out := n.do(by(0, "restore", unrevoke(0, "a"))); !out.Replayed || !out.Changed {
		t.Errorf("the duplicate of another key's: %+v", out)
	}
	if d := must(n.reader().Occupant(orgs[0], "a"))(t); d.GetRevokedAtMs() == 0 {
		t.Error("a late duplicate has restored the device")
	}
	if out := n.do(by(1, strconv.Itoa(asked-ShareMax), register(0, "a"))); !out.Replayed || out.Refusal != DeviceRevoked {
		t.Errorf("its own of so many before: %+v", out)
	}
	if out := n.do(by(1, strconv.Itoa(asked-ShareMax-1), register(0, "a"))); out.Replayed {
		t.Errorf("its own of one more before: %+v", out)
	}
	keys, size := must(keysOf(n.reader(), prefixOnce))(t), 0
	for _, k := range keys {
		v, closer, err := n.db.Get(k)
		n.ok(err)
		size = max(size, len(v))
		n.ok(closer.Close())
	}
	if len(keys) != ShareMax+1 || size > 128 {
		t.Errorf("%d outcomes are kept, of up to %d bytes", len(keys), size)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// TestAReplayTellsAll that the first was told, though the record holds no metadata: the request that is sent again has it.
func TestAReplayTellsAll(t *testing.T) {
	n := seeded(t)
	given, plain := register(0, "a"), register(0, "a")
	given.GetRegister().Metadata, given.GetRegister().Name = []byte(`{"a":1}`), new("one")
	given.GetRegister().TtlSeconds = new(int64(60))
	first, second := n.do(by(0, "given", given)), n.do(by(0, "plain", plain))
	if again := n.do(by(0, "plain", plain)); !again.Replayed || !proto.Equal(again.Device, second.Device) {
		t.Errorf("%v, want %v", again.Device, second.Device)
	}
	n.do(remove(0, "a"))
	if again := n.do(at(start+5000, by(0, "given", given))); !again.Replayed || !proto.Equal(again.Device, first.Device) || again.Plan != first.Plan {
		t.Errorf("%v, want %v", again.Device, first.Device)
	}
	if again := n.do(by(0, "plain", plain)); !again.Replayed || len(again.Device.GetMetadata()) != 0 {
		t.Errorf("what was not given, of a device that is gone: %v", again.Device)
	}
	described := register(0, "a")
	described.GetRegister().Metadata, described.GetRegister().TtlSeconds = []byte(`{"a":2}`), new(int64(60))
	n.do(described)
	for _, c := range []struct {
		at   int64
		want string
	}{{start + 64_000, `{"a":2}`}, {start + 66_000, ""}} {
		if again := n.do(at(c.at, by(0, "plain", plain))); !again.Replayed || string(again.Device.GetMetadata()) != c.want {
			t.Errorf("what was not given, of a device that ends: %v", again.Device)
		}
	}
	ids := []string{"b", "nobody", "c"}
	for _, id := range []string{"b", "c"} {
		n.do(register(0, id))
	}
	batch := func() *statepb.Command {
		return &statepb.Command{TimeMs: start, Change: &statepb.Command_RevokeBatch{RevokeBatch: &statepb.RevokeBatch{OrgId: orgs[0][:], DeviceIds: ids}}}
	}
	whole := n.do(by(0, "batch", batch()))
	if again := n.do(by(0, "batch", batch())); !again.Replayed || fmt.Sprint(again.Batch) != fmt.Sprint(whole.Batch) || len(again.Batch.Sample) != 2 {
		t.Errorf("%+v, want %+v", again.Batch, whole.Batch)
	}
}

// TestTheShareOfAKeyGoesWithIt, and what older versions remembered goes by its age.
func TestTheShareOfAKeyGoesWithIt(t *testing.T) {
	n := seeded(t)
	older := by(0, "older", register(0, "a"))
	older.Once.Shared = false
	n.do(older)
	if out := n.do(by(0, "older", register(0, "a"))); !out.Replayed {
		t.Errorf("what an older version remembered is not known: %+v", out)
	}
	n.do(addKey(0, 1, statepb.Key_AGENT))
	for i := range 5 {
		n.do(by(1, strconv.Itoa(i), register(0, "a")))
	}
	n.do(revokeKey(0, 1))
	for i := range deadKeysMax {
		n.do(at(start+1, addKey(0, 2+i, statepb.Key_AGENT)))
		n.do(at(start+1, revokeKey(0, 2+i)))
	}
	kept := func() int { return len(must(keysOf(n.reader(), prefixOnce))(t)) }
	if got := kept(); got != 6 {
		t.Errorf("%d outcomes are kept while the keys are, want 6", got)
	}
	n.do(at(start+2*deadKeysStay, addKey(0, 500, statepb.Key_AGENT)))
	if got := kept(); got != 1 {
		t.Errorf("%d outcomes are kept when the key is gone, want 1", got)
	}
	n.do(at(start+2*rememberFor, by(0, "newer", register(0, "a"))))
	if got := kept(); got != 1 {
		t.Errorf("%d outcomes are kept a day later, want the new one", got)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
	n.do(&statepb.Command{TimeMs: start + 2*rememberFor, Change: &statepb.Command_DeleteOrg{DeleteOrg: &statepb.DeleteOrg{OrgId: orgs[0][:]}}})
	for _, prefix := range []byte{prefixOnce, prefixOnceAge, prefixOnceOf, prefixShareAge, prefixShareOf} {
		if left := must(keysOf(n.reader(), prefix))(t); len(left) != 0 {
			t.Errorf("%d keys %q are left of a deleted org", len(left), prefix)
		}
	}
}
