package state

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// valueText is a value as a test writes it.
func valueText(v *statepb.Value) string {
	switch v := v.GetValue().(type) {
	case *statepb.Value_Flag:
		return strconv.FormatBool(v.Flag)
	case *statepb.Value_Number:
		return strconv.FormatInt(v.Number, 10)
	case *statepb.Value_Text:
		return v.Text
	case *statepb.Value_TimeMs:
		return fmt.Sprintf("+%d", v.TimeMs-start)
	case *statepb.Value_Json:
		return string(v.Json)
	case *statepb.Value_Digest:
		return v.Digest
	case *statepb.Value_Plans:
		var tiers []string
		for _, p := range v.Plans.GetPlans() {
			tiers = append(tiers, fmt.Sprintf("%s=%d", p.GetTier(), p.GetLimit()))
		}
		return strings.Join(tiers, ",")
	}
	return "-"
}

// toldOf is an entry as a test writes it: the action, the target, the targets, and each setting.
func toldOf(e *statepb.AuditEntry) string {
	target := e.GetTarget()
	for i, id := range orgs {
		target = strings.ReplaceAll(target, id.String(), fmt.Sprintf("org%d", i))
	}
	said := e.GetAction() + " " + target
	if e.GetTargets() != nil {
		said += fmt.Sprint(e.GetTargets())
	}
	if e.GetCount() != 1 {
		said += fmt.Sprintf(" (%d)", e.GetCount())
	}
	var set []string
	for _, s := range e.GetSettings() {
		set = append(set, fmt.Sprintf(" %s:%s>%s", s.GetName(), valueText(s.GetBefore()), valueText(s.GetAfter())))
	}
	return said + strings.Join(set, "")
}

// digestOf is what is told of a text that is too large.
func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:digestSize])
}

// members is what members the cluster has, each as "id store address", and "voter" if it is one.
func members(index uint64, list ...string) *statepb.Command {
	c := &statepb.Members{Index: index}
	for _, text := range list {
		m := strings.Fields(text)
		c.Members = append(c.Members, &statepb.Member{Id: m[0], Store: m[1], Address: m[2], Voter: len(m) > 3})
	}
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_SetMembers{SetMembers: &statepb.SetMembers{Members: c}}}
}

// told runs a command and returns what the audit says of it.
func (n *node) told(t *testing.T, cmd *statepb.Command) (said []string) {
	t.Helper()
	out := n.do(cmd)
	list, _, err := n.reader().Audit(OrgID{}, Place{}, 20, 0)
	n.ok(err)
	for _, e := range slices.Backward(list) {
		if e.Index == n.at.Index {
			said = append(said, toldOf(e.AuditEntry))
		}
	}
	if (out.Action != "") != (len(said) > 0) || len(said) > 0 && !strings.HasPrefix(said[0], out.Action+" ") {
		t.Errorf("the outcome says %q, the audit %q", out.Action, said)
	}
	return said
}

// TestAuditTells holds S9: who reads the audit sees what was changed, of what, and how it was before and after.
func TestAuditTells(t *testing.T) {
	n := newNode(t, openDB(t))
	c := seed()
	c.GetSeed().Cluster.OperatorTokenHash = make([]byte, 32)
	large := strings.Repeat("x", settingMax)
	described := func(name, metadata string, ttl int64) *statepb.Command {
		c := register(0, "a")
		c.GetRegister().Name, c.GetRegister().Metadata = &name, []byte(metadata)
		if ttl > 0 {
			c.GetRegister().TtlSeconds = &ttl
		}
		return c
	}
	key := func(i int) string { return fmt.Sprintf("key%05d", i) }
	for _, step := range []struct {
		cmd  *statepb.Command
		want []string
	}{
		{c, []string{"cluster.begun c1 plans:->free=3,pro=25 graceDays:->0 operatorToken:->" + TokenID(make([]byte, 32))}},
		{setLink(1, true), []string{"cluster.link_changed c1 lease:->3s cacheTtl:->0s clockBoundPpm:->0"}},
		{setLink(1, false), nil},
		{createOrg(0), []string{
			"org.created org0 name:->an org executionEnabled:->true hold:->false planTier:->free version:->2",
			"key.created " + key(0) + " scope:->admin", "key.created " + key(1) + " scope:->admin",
		}},
		{setExecution(0, false), []string{"org.disabled org0 executionEnabled:true>false"}},
		{setExecution(0, true), []string{"org.enabled org0 executionEnabled:false>true"}},
		{setPlan(0, func(c *statepb.UpdateOrg) {
			c.Held, c.PlanTier, c.Limit, c.AccessUntilMs, c.Version = new(true), new("pro"), new(uint32(7)), new(start+5), new(uint32(1))
		}), []string{
			"org.frozen org0 hold:false>true", "org.plan_changed org0 planTier:free>pro", "org.limit_changed org0 limit:->7",
			"org.access_changed org0 accessUntil:->+5", "org.version_changed org0 version:2>1",
		}},
		{setPlan(0, func(c *statepb.UpdateOrg) { c.Held, c.NoLimit, c.AccessUntilMs = new(false), true, new(int64(0)) }), []string{
			"org.unfrozen org0 hold:true>false", "org.limit_changed org0 limit:7>-", "org.access_changed org0 accessUntil:+5>-",
		}},
		{setPlans(4, "free", "pro"), []string{"plans.changed plans plans:free=3,pro=25>free=4,pro=25 graceDays:0>3"}},
		{described("one", "{}", 0), []string{"device.registered a name:->one metadata:->{}"}},
		{described("two", large, 0), []string{"device.updated a name:one>two metadata:{}>" + large}},
		{described("two", large+"y", 0), []string{"device.updated a metadata:" + large + ">513 bytes, SHA-256 " + digestOf(large+"y")}},
		{described("two", large+"z", 9), []string{"device.updated a metadata:513 bytes, SHA-256 " + digestOf(large+"y") + ">513 bytes, SHA-256 " + digestOf(large+"z") + " expiresAt:->+9000"}},
		{revoke(0, "a"), []string{"device.revoked a"}},
		{unrevokeBatchOf(0, "a", "nobody"), []string{"devices.restored a[a]"}},
		{register(0, "b"), []string{"device.registered b"}},
		{revokeBatchOf(0, "a", "b"), []string{"devices.revoked org0[a b] (2)"}},
		{allOf(unrevokeBatchOf(0)), []string{"devices.restored all_revoked[a b] (2)"}},
		{remove(0, "b"), []string{"device.removed b"}},
		{addKey(0, 2, statepb.Key_ADMIN), []string{"key.created " + key(2) + " name:->a key scope:->admin"}},
		{rotateKey(0, 2, 3, 60), []string{"key.rotated " + key(2) + " keyId:" + key(2) + ">" + key(3) + " expiresAt:->+60000"}},
		{revokeKey(0, 3), []string{"key.revoked " + key(3) + " name:a key>- scope:admin>-"}},
		{rotateTo(make([]byte, 32), slices.Repeat([]byte{1}, 32)), []string{
			"operator.token_rotated " + TokenID(slices.Repeat([]byte{1}, 32)) + " operatorToken:" + TokenID(make([]byte, 32)) + ">" + TokenID(slices.Repeat([]byte{1}, 32)),
		}},
		{setBilling(0, 0, "", sub("sub_1", "pro", statepb.Subscription_ACTIVE)), []string{
			"billing.changed sub_1 customer:->cus_0 subscription:->sub_1 subscriptionStatus:->ACTIVE paidTier:->pro",
		}},
		{&statepb.Command{Change: &statepb.Command_Note{Note: &statepb.Note{
			Action: "cluster.member_added", Target: "a2", Settings: []*statepb.Setting{Setting("voter", nil, Flag(true)), Setting("address", Text("x"), Text("x"))},
		}}}, []string{"cluster.member_added a2 voter:->true"}},
		{members(9, "a1 s1 h1 voter", "a2 s2 h2"), []string{
			"cluster.member_added a1 store:->s1 address:->h1 voter:->true", "cluster.member_added a2 store:->s2 address:->h2 voter:->false",
		}},
		{members(9, "a1 s1 h1 voter"), nil}, // of the same time
		{members(10, "a1 s1 h1 voter", "a2 s2 h2"), nil},
		{members(11, "a1 s1 h1 voter", "a2 s2 h2 voter"), []string{"cluster.member_promoted a2 voter:false>true"}},
		{members(12, "a1 s1 h9", "a2 s3 h2 voter"), []string{
			"cluster.member_readdressed a1 address:h1>h9", "cluster.member_demoted a1 voter:true>false", "cluster.member_replaced a2 store:s2>s3",
		}},
		{members(13, "a2 s3 h2 voter"), []string{"cluster.member_removed a1 store:s1>- address:h9>- voter:false>-"}},
		{members(12, "a1 s1 h9", "a2 s3 h2 voter"), nil}, // of before
		{deleteOrg(0), []string{"org.deleted org0 name:an org>- executionEnabled:true>- hold:false>- planTier:pro>- version:1>-"}},
	} {
		if got := n.told(t, step.cmd); !slices.Equal(got, step.want) {
			t.Errorf("%v is told as %q, want %q", step.cmd.GetChange(), got, step.want)
		}
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// TestAuditBoundsTargets: a batch names the first of its devices, by number and by bytes, and counts all of them.
func TestAuditBoundsTargets(t *testing.T) {
	n, ids := many(t, 300)
	n.do(revokeBatchOf(0, ids...))
	list := audits(t, n.reader())
	if e := list[len(list)-1]; len(e.GetTargets()) != targetsMax || e.GetCount() != 300 || !slices.Equal(e.GetTargets(), ids[:targetsMax]) {
		t.Errorf("%d targets of %d", len(e.GetTargets()), e.GetCount())
	}
	var long []string
	for i := range 30 {
		long = append(long, fmt.Sprintf("%0256d", i))
		n.do(register(0, long[i]))
	}
	n.do(revokeBatchOf(0, long...))
	list = audits(t, n.reader())
	if e := list[len(list)-1]; len(e.GetTargets()) != targetsBytes/256 || e.GetCount() != 30 {
		t.Errorf("%d targets of %d", len(e.GetTargets()), e.GetCount())
	}
}

// TestAuditIsBounded holds S9: who changes a name again and again writes a hundred entries an hour and one that counts the rest; what gives or takes rights is
// always told, also by the same caller and in the midst of it; and others' are told as if there were nobody else.
func TestAuditIsBounded(t *testing.T) {
	n := seeded(t)
	by := func(key string, c *statepb.Command) *statepb.Command {
		c.Actor = &statepb.Actor{Type: statepb.Actor_KEY, Id: key}
		return c
	}
	rename := func(device string, i int) *statepb.Command {
		c := by("agent000", register(0, device))
		c.GetRegister().Name = new(fmt.Sprintf("name %d", i))
		return c
	}
	n.do(by("agent000", register(0, "a")))
	n.do(by("agent000", register(0, "b")))
	before := len(audits(t, n.reader()))
	const many = 3 * writtenMax
	for i := range many {
		n.restartIf(i == writtenMax+7)
		if out := n.do(rename("a", i)); out.Action != "device.updated" || out.Target != "a" {
			t.Fatalf("%+v", out)
		}
	}
	n.do(rename("b", 0))
	list := audits(t, n.reader())[before:]
	sum := list[len(list)-1]
	if len(list) != writtenMax+1 || !sum.GetLeftOut() || sum.GetCount() != many-writtenMax+1 || toldOf(sum) != "device.updated org0[a b] (201)" || sum.GetActor().GetId() != "agent000" {
		t.Fatalf("%d entries, and then %v", len(list), sum)
	}
	never := []*statepb.Command{
		by("agent000", registerFor(0, "a", 60)), by("agent000", registerFor(0, "a", 30)), // its end is of another kind
		by("agent000", register(0, "c")), by("agent000", revoke(0, "a")), by("agent000", unrevoke(0, "a")), by("agent000", remove(0, "a")),
		by("agent000", setExecution(0, false)), by("agent000", addKey(0, 2, statepb.Key_AGENT)), by("agent000", revokeKey(0, 2)),
		by("another0", func() *statepb.Command { c := register(0, "b"); c.GetRegister().Name = new("x"); return c }()),
		by("agent000", setPlan(0, func(c *statepb.UpdateOrg) { c.Version = new(uint32(1)) })),
	}
	for _, c := range never {
		if said := n.told(t, c); len(said) != 1 {
			t.Errorf("%v is told as %q", c.GetChange(), said)
		}
	}
	// An hour after the window began there is another.
	n.do(at(start+writtenWindow-1, rename("b", 1)))
	if got := toldOf(audits(t, n.reader())[before+writtenMax]); got != "device.updated org0[a b] (202)" {
		t.Errorf("at the end of the hour: %s", got)
	}
	if said := n.told(t, at(start+writtenWindow, rename("b", 2))); len(said) != 1 || said[0] != "device.updated b name:name 1>name 2" {
		t.Errorf("after an hour: %q", said)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// asAgent is a command that an org's key 2 asked for, which is an agent's.
func asAgent(c *statepb.Command) *statepb.Command {
	hash := hashOf(0, 2)
	c.Caller = &statepb.Caller{KeyHash: hash[:], Scopes: []statepb.Key_Scope{statepb.Key_ADMIN, statepb.Key_AGENT}}
	c.Actor = &statepb.Actor{Type: statepb.Actor_KEY, Id: "key00002"}
	return c
}

// TestAnAgentsAuditIsBounded holds S9: whatever an agent's key does, again and again, writes so many entries an hour of each kind and one that counts the rest. Ids
// that end by themselves and come anew, others or the same, are no way round it. What admins and operators do meanwhile has its entry.
func TestAnAgentsAuditIsBounded(t *testing.T) {
	n := seeded(t)
	n.do(addKey(0, 2, statepb.Key_AGENT))
	before := len(audits(t, n.reader()))
	now := start
	const many = othersMax + 250
	for i := range many {
		n.restartIf(i == othersMax+7)
		now += 1000 // what was registered before has ended, and its seat is free
		device := fmt.Sprintf("d%d", i)
		if i%2 == 1 {
			device = "again"
		}
		out, _ := n.apply(entry{raws: [][]byte{encode(at(now, asAgent(registerFor(0, device, 1))))}})[0].(Outcome)
		if out.Action != "device.registered" || out.Target != device || out.Existed {
			t.Fatalf("%d: %+v", i, out)
		}
	}
	n.commit()
	list := audits(t, n.reader())[before:]
	sum := list[len(list)-1]
	if len(list) != othersMax+1 || !sum.GetLeftOut() || sum.GetCount() != many-othersMax || sum.GetAction() != "device.registered" ||
		len(sum.GetTargets()) != targetsMax || sum.GetTarget() != orgs[0].String() || sum.GetActor().GetId() != "key00002" {
		t.Fatalf("%d entries, and then %v", len(list), sum)
	}
	// What others do is told, and of the agent what is of another kind.
	adminsOwn := register(0, "admins")
	hash := hashOf(0, 0)
	adminsOwn.Caller = &statepb.Caller{KeyHash: hash[:], Scopes: asAgent(register(0, "x")).GetCaller().GetScopes()}
	adminsOwn.Actor = &statepb.Actor{Type: statepb.Actor_KEY, Id: "key00002"} // even then: it is the key's scope that counts
	for _, c := range []*statepb.Command{
		adminsOwn, register(0, "operators"), revoke(0, "admins"), unrevoke(0, "admins"), remove(0, "admins"), setExecution(0, false), setExecution(0, true), revokeBatchOf(0, "operators"),
		revokeKey(0, 1), setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(true) }), setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(false) }),
	} {
		if said := n.told(t, at(now, c)); len(said) != 1 || strings.Contains(said[0], "(2") {
			t.Errorf("%v is told as %q", c.GetChange(), said)
		}
	}
	n.do(at(now, asAgent(register(0, "late"))))
	if sum = audits(t, n.reader())[before+othersMax]; sum.GetCount() != many-othersMax+1 {
		t.Errorf("in the same hour: %v", sum)
	}
	if said := n.told(t, at(now, asAgent(registerFor(0, "late", 60)))); len(said) != 1 {
		t.Errorf("a device that is to end is told as %q", said)
	}
	// An hour after the window began there is another.
	if said := n.told(t, at(start+1000+writtenWindow, asAgent(register(0, "anew")))); len(said) != 1 || said[0] != "device.registered anew" {
		t.Errorf("after an hour: %q", said)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// TestAuditBoundsEveryKind: each thing that is left out is bounded by itself.
func TestAuditBoundsEveryKind(t *testing.T) {
	for name, c := range map[string]struct {
		most  int
		flood func(i int) *statepb.Command
	}{
		"metadata": {writtenMax, func(i int) *statepb.Command {
			c := register(0, "a")
			c.GetRegister().Metadata = fmt.Appendf(nil, `{"a":%d}`, i)
			return c
		}},
		"later ends":   {writtenMax, func(i int) *statepb.Command { return registerFor(0, "a", int64(9002+i)) }},
		"earlier ends": {shortensMax, func(i int) *statepb.Command { return registerFor(0, "a", int64(9000-i)) }},
		"versions":     {writtenMax, func(i int) *statepb.Command { return setVersion(0, uint32(1+(i+1)%2)) }},
	} {
		n := seeded(t)
		n.do(registerFor(0, "a", 9001))
		before := len(audits(t, n.reader()))
		many := 2*c.most + 50
		for i := range many {
			n.do(c.flood(i))
		}
		told := 0
		list := audits(t, n.reader())[before:]
		for _, e := range list {
			told += int(e.GetCount())
		}
		if len(list) != c.most+1 || told < many-1 || told > many {
			t.Errorf("%s: %d entries tell of %d changes, want of %d", name, len(list), told, many)
		}
	}
}

// TestOperatorIsJudgedAgain holds S12: what was asked for with a token that is not the cluster's any more does nothing.
func TestOperatorIsJudgedAgain(t *testing.T) {
	n := newNode(t, openDB(t))
	first, second := slices.Repeat([]byte{1}, 32), slices.Repeat([]byte{2}, 32)
	as := func(token []byte, c *statepb.Command) *statepb.Command {
		c.OperatorHash = token
		return c
	}
	if out := n.do(as(first, createOrg(0))); out.Refusal != TokenMoved || must(n.reader().Org(orgs[0]))(t) != nil {
		t.Errorf("before there is a cluster: %+v", out)
	}
	c := seed()
	c.GetSeed().Cluster.OperatorTokenHash = first
	n.do(c)
	if out := n.do(as(first, createOrg(0))); out.Refusal != Granted {
		t.Fatalf("%+v", out)
	}
	n.do(register(0, "a"))
	if out := n.do(as(first, rotateTo(first, second))); !out.Changed {
		t.Fatalf("%+v", out)
	}
	before := n.dump()
	for _, c := range []*statepb.Command{
		createOrg(1), revoke(0, "a"), revokeBatchOf(0, "a"), remove(0, "a"), setExecution(0, false), addKey(0, 2, statepb.Key_ADMIN), rotateKey(0, 0, 2, 0), revokeKey(0, 1),
		setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(true) }), setPlans(4, "free", "pro"), deleteOrg(0), setBilling(0, 0, "", nil),
	} {
		if out := n.do(as(first, c)); out.Refusal != TokenMoved || out.Changed || out.Action != "" {
			t.Errorf("%v: %+v", c.GetChange(), out)
		}
	}
	unmarked := func(dump string) []string {
		return slices.DeleteFunc(strings.Split(dump, "\n"), func(line string) bool { return strings.HasPrefix(line, "6d ") })
	}
	if !slices.Equal(unmarked(n.dump()), unmarked(before)) {
		t.Error("a token that is none any more has changed something")
	}
	if out := n.do(as(first, rotateTo(first, second))); out.Refusal != Granted || out.Changed {
		t.Errorf("the same rotation again: %+v", out)
	}
	if out := n.do(as(second, revoke(0, "a"))); !out.Changed {
		t.Errorf("by the new token: %+v", out)
	}
}

// TestRenewalIsTold: a state that became another cluster's says so, each time, behind all that it held.
func TestRenewalIsTold(t *testing.T) {
	n := seeded(t)
	renew := func(action, from, to string) {
		t.Helper()
		w := n.db.NewBatch()
		n.ok(Renewing(action, "a7")(n.db, w, from, to))
		n.ok(w.Commit(pebble.NoSync))
	}
	renew(Restored, "c", "d")
	renew(Recovered, "d", "e")
	n.restart()
	n.do(register(0, "a"))
	list, _, err := n.reader().Audit(OrgID{}, Place{}, 3, 0)
	n.ok(err)
	var said []string
	for _, e := range list {
		said = append(said, toldOf(e.AuditEntry))
	}
	if want := []string{"device.registered a", "cluster.recovered e clusterId:d>e", "cluster.restored d clusterId:c>d"}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
	if by := list[1].GetActor(); by.GetId() != "a7" || list[1].Index != list[2].Index || list[1].N != list[2].N+1 {
		t.Errorf("by %v at %v and %v", by, list[1].Place, list[2].Place)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// TestAuditOfOldLogs: a command of the first form is told in it, whatever this program would say.
func TestAuditOfOldLogs(t *testing.T) {
	n := seeded(t)
	for i := range 2 * writtenMax {
		c := register(0, "a")
		c.GetRegister().Name = new(strconv.Itoa(i))
		n.apply(entry{raws: [][]byte{bytesOf(c)}})
		n.commit()
	}
	list := audits(t, n.reader())
	if want := (&statepb.AuditEntry{AtMs: start, Action: "device.updated", OrgId: orgs[0][:], Target: "a", Count: 1}); !proto.Equal(list[len(list)-1], want) || len(list) != 7+2*writtenMax {
		t.Errorf("%d entries, %v", len(list), list[len(list)-1])
	}
}

// TestAgentsOfOldLogs: what an agent's key did before there was a bound has its entry, also where the audit was told as it is today.
func TestAgentsOfOldLogs(t *testing.T) {
	n := seeded(t)
	n.do(addKey(0, 2, statepb.Key_AGENT))
	before := len(audits(t, n.reader()))
	const many = othersMax + 50
	for i := range many {
		c := at(start+int64(i)*1000, asAgent(registerFor(0, "a", 1)))
		c.AuditForm = 1
		n.apply(entry{raws: [][]byte{bytesOf(c)}})
	}
	n.commit()
	if list := audits(t, n.reader())[before:]; len(list) != many || list[many-1].GetLeftOut() {
		t.Errorf("%d entries of %d", len(list), many)
	}
}
