package api_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/authority/api"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/format"
)

// fakeNodes are a cluster that does what the test says, and notes what it was asked.
type fakeNodes struct {
	asked []string
	err   error
	slow  bool
	doubt error
	phase api.Phase // "": InCluster

	others  []raftstore.Member
	changes uint64
	then    func() // runs when it is asked for something
}

func (f *fakeNodes) Status() raftstore.NodeStatus {
	return raftstore.NodeStatus{ID: "a1", Store: "s1", Leader: "a2", Term: 7}
}
func (f *fakeNodes) Reasons() []string { return nil }

func (f *fakeNodes) Members(context.Context) ([]raftstore.Member, error) {
	return []raftstore.Member{
		{Life: raftstore.Life{ID: "a1", Store: "s1"}, Address: "h1:7072", Voter: true, Status: raftstore.NodeStatus{
			ID: "a1", Raft: "h9:7072", State: "Follower", About: map[string]string{"http": "h1:7070", "link": "h1:7071"}, TimeMs: time.Now().UnixMilli(),
		}},
		{Life: raftstore.Life{ID: "a2", Store: "s2"}, Address: "h2:7072", Voter: true, Leader: true, Err: errors.New("no answer")},
	}, nil
}

func (f *fakeNodes) Backup(context.Context) (*raftstore.Backup, error) {
	if f.err != nil {
		return nil, f.err
	}
	const archive = "an archive"
	return &raftstore.Backup{ReadCloser: io.NopCloser(strings.NewReader(archive)), Size: int64(len(archive)), Doubt: f.doubt}, nil
}

// Configured is a1 alone, and what the test says.
func (f *fakeNodes) Configured() (index uint64, members []raftstore.Member, err error) {
	return 1 + f.changes, append([]raftstore.Member{{Life: raftstore.Life{ID: "a1", Store: "s1"}, Address: "h1:7072", Voter: true}}, f.others...), nil
}

// have makes others the members beside a1.
func (f *fakeNodes) have(others ...raftstore.Member) {
	f.changes++
	f.others = others
}

func (f *fakeNodes) do(ctx context.Context, what ...string) error {
	f.asked = append(f.asked, fmt.Sprint(what))
	if f.then != nil {
		f.then()
	}
	if f.slow {
		<-ctx.Done()
		return fmt.Errorf("%w: %w", raftstore.ErrOutcomeUnknown, ctx.Err())
	}
	return f.err
}

func (f *fakeNodes) AddNonvoter(ctx context.Context, id, addr string) error {
	return f.do(ctx, "add", id, addr)
}

func (f *fakeNodes) Replace(ctx context.Context, id, addr string) error {
	return f.do(ctx, "replace", id, addr)
}

func (f *fakeNodes) Readdress(ctx context.Context, id, addr string) error {
	return f.do(ctx, "readdress", id, addr)
}

func (f *fakeNodes) Phase() api.Phase { return cmp.Or(f.phase, api.InCluster) }

func (f *fakeNodes) Init(ctx context.Context, _ api.Asker, ignore bool) (string, error) {
	return "c1", f.do(ctx, "init", strconv.FormatBool(ignore))
}

func (f *fakeNodes) Promote(ctx context.Context, id string) error { return f.do(ctx, "promote", id) }
func (f *fakeNodes) Demote(ctx context.Context, id string) error  { return f.do(ctx, "demote", id) }
func (f *fakeNodes) Remove(ctx context.Context, id string) error  { return f.do(ctx, "remove", id) }
func (f *fakeNodes) TransferLeadership(ctx context.Context, id string) error {
	return f.do(ctx, "transfer", id)
}

func (f *fakeNodes) RaiseFormat(ctx context.Context, to int) (int, error) {
	return max(to, 1), f.do(ctx, "raise", strconv.Itoa(to))
}

// TestARaiseThatEdgesDoNotUnderstand is refused and names them, unless it is forced; one that is of the nodes alone is not.
func TestARaiseThatEdgesDoNotUnderstand(t *testing.T) {
	const right = "Authorization: Bearer " + operatorToken
	for of, refused := range map[string]bool{"machineid.link.v1.Report.hits": true, "machineid.state.v1.Command.note": false} {
		nodes := &fakeNodes{}
		n := start(t, func(c *api.Config) {
			c.Nodes = nodes
			c.Formats = &format.Table{Newest: format.Newest + 1, Features: []format.Feature{{Name: "tests", Format: format.Newest + 1, Fields: []protoreflect.FullName{protoreflect.FullName(of)}}}}
		})
		to := strconv.Itoa(format.Newest + 1)
		a := n.with("", "POST", "operator/cluster/format", `{"to":`+to+`}`, right)
		if got := a.StatusCode == http.StatusConflict && strings.Contains(a.raw, "e1 (version v1") && strings.Contains(a.raw, "--force"); got != refused || (len(nodes.asked) == 0) != refused {
			t.Errorf("%s: HTTP %d %s; asked %q", of, a.StatusCode, a.raw, nodes.asked)
		}
		if a := n.with("", "POST", "operator/cluster/format", `{"to":`+to+`,"force":true}`, right); a.StatusCode != http.StatusOK {
			t.Errorf("%s, forced: HTTP %d %s", of, a.StatusCode, a.raw)
		}
	}
}

// TestOperatorsCalls: each needs the token, before its parameters are looked at, and does one thing.
func TestOperatorsCalls(t *testing.T) {
	nodes := &fakeNodes{}
	n := start(t, func(c *api.Config) { c.Nodes = nodes })
	const right = "Authorization: Bearer " + operatorToken
	for _, c := range []struct {
		method, path, body string
		status             int
		param              string
		asked              []string
	}{
		{"GET", "operator/edges", "", 200, "", nil},
		{"GET", "operator/cluster", "", 200, "", nil},
		{"POST", "operator/cluster/members", `{"id":"a3","address":"h3:7072"}`, 200, "", []string{"[add a3 h3:7072]"}},
		{"POST", "operator/cluster/members", `{"id":"a3","address":"h3:7072","voter":true}`, 200, "", []string{"[add a3 h3:7072]", "[promote a3]"}},
		{"POST", "operator/cluster/members", `{"address":"h3:7072"}`, 400, "id", nil},
		{"POST", "operator/cluster/members", `{"id":"../a3","address":"h3:7072"}`, 400, "id", nil},
		{"POST", "operator/cluster/members", `{"id":"a3"}`, 400, "address", nil},
		{"POST", "operator/cluster/members", `{"id":"a3","address":"h3"}`, 400, "address", nil},
		{"POST", "operator/cluster/members", `{"id":"a3","address":":7072"}`, 400, "address", nil},
		{"POST", "operator/cluster/members", `{"id":"a3","address":"h3:1","voter":"yes"}`, 400, "voter", nil},
		{"POST", "operator/cluster/members", `{"id":"a3","address":"h3:7072","voter":true,"replaceLost":true}`, 200, "", []string{"[replace a3 h3:7072]", "[promote a3]"}},
		{"POST", "operator/cluster/members", `{"id":"a3","address":"h3:7072","replaceLost":1}`, 400, "replaceLost", nil},
		{"POST", "operator/cluster/members", `[`, 400, "body", nil},
		{"POST", "operator/cluster/members/a3/address", `{"address":"h4:7072"}`, 200, "", []string{"[readdress a3 h4:7072]"}},
		{"POST", "operator/cluster/members/a3/address", `{"address":"h4"}`, 400, "address", nil},
		{"POST", "operator/cluster/members/a3/address", `{}`, 400, "address", nil},
		{"POST", "operator/cluster/init", ``, 200, "", []string{"[init false]"}},
		{"POST", "operator/cluster/init", `{"ignoreUnreachable":true}`, 200, "", []string{"[init true]"}},
		{"POST", "operator/cluster/init", `{"ignoreUnreachable":"a2"}`, 400, "ignoreUnreachable", nil},
		{"POST", "operator/cluster/members/a-3.x/promote", ``, 200, "", []string{"[promote a-3.x]"}},
		{"POST", "operator/cluster/members/a3/demote", `{}`, 200, "", []string{"[demote a3]"}},
		{"DELETE", "operator/cluster/members/a3", ``, 200, "", []string{"[remove a3]"}},
		{"DELETE", "operator/cluster/members/a3/", ``, 200, "", []string{"[remove a3]"}},
		{"POST", "operator/cluster/members/a3", `{}`, 405, "", nil},
		{"DELETE", "operator/cluster/members/a%33", ``, 404, "", nil},
		{"POST", "operator/cluster/transfer", `{"to":"a2"}`, 200, "", []string{"[transfer a2]"}},
		{"POST", "operator/cluster/transfer", ``, 200, "", []string{"[transfer ]"}},
		{"POST", "operator/cluster/transfer", `{"to":2}`, 400, "to", nil},
		{"POST", "operator/cluster/format", ``, 200, "", []string{"[raise 0]"}},
		{"POST", "operator/cluster/format", `{"to":2}`, 200, "", []string{"[raise 2]"}},
		{"POST", "operator/cluster/format", `{"to":0}`, 400, "to", nil},
		{"POST", "operator/cluster/format", `{"to":99999999999}`, 400, "to", nil},
		{"POST", "operator/cluster/format", `{"to":"2"}`, 400, "to", nil},
		{"POST", "operator/cluster/format", `{"force":true}`, 200, "", []string{"[raise 0]"}},
		{"POST", "operator/cluster/format", `{"force":"yes"}`, 400, "force", nil},
	} {
		nodes.asked = nil
		a := n.with("", c.method, c.path, c.body, right)
		if a.StatusCode != c.status || (c.param != "" && a.field("param") != c.param) || !slices.Equal(nodes.asked, c.asked) {
			t.Errorf("%s %s %s: HTTP %d %s; asked %q", c.method, c.path, c.body, a.StatusCode, a.raw, nodes.asked)
		}
		if c.status != 200 && c.status != 400 {
			continue
		}
		nodes.asked = nil
		for _, header := range []string{"Authorization: Bearer " + operatorToken + "x", "X-Other: 1", "Authorization: Basic " + operatorToken} {
			a := n.with("", c.method, c.path, c.body, header)
			if c.param == "body" {
				continue // cannot be read at all
			}
			if a.StatusCode != http.StatusUnauthorized || a.field("error") != "invalid_operator_token" || nodes.asked != nil {
				t.Errorf("%s %s with %.20q: HTTP %d %s", c.method, c.path, header, a.StatusCode, a.raw)
			}
		}
	}
}

// TestOutcomesOfTheCluster: done, refused, not done, unknown.
func TestOutcomesOfTheCluster(t *testing.T) {
	nodes := &fakeNodes{}
	n := start(t, func(c *api.Config) {
		c.Nodes = nodes
		c.FromNode = func(*fasthttp.RequestCtx) bool { return true } // so that it may say how little time is left
	})
	for _, c := range []struct {
		err     error
		slow    bool
		status  int
		error   string
		outcome string
	}{
		{nil, false, 200, "", ""},
		{fmt.Errorf("promote a3: %w: it has not caught up", raftstore.ErrRefused), false, 409, "refused", ""},
		{fmt.Errorf("remove a3: %w; the members are a1, a2", raftstore.ErrNotMember), false, 404, "member_not_found", ""},
		{fmt.Errorf("add a3: %w: %w", raftstore.ErrRefused, raftstore.ErrOtherStore), false, 409, "other_store", ""},
		{fmt.Errorf("%w: %w: a1 is a member of cluster c", raftstore.ErrRefused, raftstore.ErrInCluster), false, 409, "cluster_exists", ""},
		{raftstore.ErrNotLeader, false, 503, "system_unavailable", "not_done"},
		{raftstore.ErrOutcomeUnknown, false, 503, "system_unavailable", "unknown"},
		{nil, true, 503, "system_unavailable", "unknown"},
	} {
		nodes.err, nodes.slow = c.err, c.slow
		method, path, body := "DELETE", "operator/cluster/members/a3", ""
		switch c.error { // what only these answer
		case "other_store":
			method, path, body = "POST", "operator/cluster/members", `{"id":"a3","address":"h3:7072"}`
		case "cluster_exists":
			method, path = "POST", "operator/cluster/init"
		}
		a := n.with("", method, path, body, "Authorization: Bearer "+operatorToken, "MachineID-Timeout-Ms: 1100")
		outcome, _ := a.body["outcome"].(string)
		code, _ := a.body["error"].(string)
		if a.StatusCode != c.status || code != c.error || outcome != c.outcome {
			t.Errorf("%v, slow %v: HTTP %d %s", c.err, c.slow, a.StatusCode, a.raw)
		}
	}
}

// TestShowCluster tells who cannot be reached, and why.
func TestShowCluster(t *testing.T) {
	n := start(t, func(c *api.Config) {
		c.Nodes, c.Debris = &fakeNodes{}, func() state.Debris { return state.Debris{Orgs: 2, Devices: 70_000, Removed: 5} }
	})
	a := n.with("", "GET", "operator/cluster", "", "Authorization: Bearer "+operatorToken)
	if left, _ := a.body["debris"].(map[string]any); len(left) != 2 || left["orgs"] != 2.0 || left["devices"] != 70_000.0 {
		t.Errorf("what deleted orgs have left: %s", a.raw)
	}
	members, _ := a.body["members"].([]any)
	if a.body["leader"] != "a2" || a.body["node"] != "a1" || len(members) != 2 {
		t.Fatal(a.raw)
	}
	first, _ := members[0].(map[string]any)
	second, _ := members[1].(map[string]any)
	if a.body["phase"] != "member" || a.body["store"] != "s1" || first["store"] != "s1" || first["advertised"] != "h9:7072" || second["advertised"] != nil {
		t.Error(a.raw)
	}
	if first["http"] != "h1:7070" || first["link"] != "h1:7071" || first["reachable"] != true || first["error"] != nil ||
		second["reachable"] != false || second["error"] != "no answer" || second["leader"] != true {
		t.Error(a.raw)
	}
}

// TestBackupSaysWhatItMayLack in a header of one line, and is a stream of known length all the same.
func TestBackupSaysWhatItMayLack(t *testing.T) {
	nodes := &fakeNodes{}
	n := start(t, func(c *api.Config) { c.Nodes = nodes })
	for _, c := range []struct {
		doubt, err error
		status     int
		header     string
		say        string
	}{
		{nil, nil, 200, "", "an archive"},
		{errors.Join(raftstore.ErrNoLeader, errors.New("ask a2:\tno\r\nanswer")), nil, 200, "no leader is known ask a2: no answer", "an archive"},
		{nil, fmt.Errorf("%w: 4 backups are being read already", raftstore.ErrOverloaded), 503, "", "4 backups are being read already"},
		{nil, raftstore.ErrClosed, 503, "", "not_done"},
	} {
		nodes.doubt, nodes.err = c.doubt, c.err
		a, err := n.send("POST /api/v1/operator/cluster/snapshot HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: Bearer " + operatorToken + "\r\n\r\n")
		if a == nil { // that it is no JSON is no fault
			t.Fatal(err)
		}
		if a.StatusCode != c.status || a.Header.Get("MachineID-Doubt") != c.header || !strings.Contains(a.raw, c.say) {
			t.Errorf("%v, %v: HTTP %d, doubt %q, %s", c.doubt, c.err, a.StatusCode, a.Header.Get("MachineID-Doubt"), a.raw)
		}
	}
}

// keepingNodes notes which backups are kept.
type keepingNodes struct {
	fakeNodes

	kept []raftstore.Position
}

func (k *keepingNodes) Kept(at raftstore.Position) error {
	if at.Index > 9 {
		return raftstore.ErrRefused
	}
	k.kept = append(k.kept, at)
	return nil
}

// TestABackupIsKeptWhenItsReceiverSaysSo: and not sent again for that.
func TestABackupIsKeptWhenItsReceiverSaysSo(t *testing.T) {
	nodes := &keepingNodes{}
	n := start(t, func(cfg *api.Config) { cfg.Nodes = nodes })
	call := func(body string) *answer {
		return n.with("", "POST", "operator/cluster/snapshot", body, "Authorization: Bearer "+operatorToken)
	}
	call(`{"keptIndex":7,"keptTerm":2}`).want(200, `"status":"ok"`)
	if len(nodes.kept) != 1 || nodes.kept[0] != (raftstore.Position{Index: 7, Term: 2}) {
		t.Errorf("noted %v", nodes.kept)
	}
	call(`{"keptIndex":10,"keptTerm":2}`).want(409, "refused")
	for _, body := range []string{`{"keptIndex":7}`, `{"keptTerm":2}`, `{"keptIndex":0,"keptTerm":2}`, `{"keptIndex":"7","keptTerm":2}`} {
		call(body).want(400, "missing_params")
	}
}

// TestBeforeThereIsACluster: a node that waits tells how it is, and begins a cluster, for whoever has the token that it was started with. Nothing
// else is served, and a token that it does not have opens nothing.
func TestBeforeThereIsACluster(t *testing.T) {
	const started = "the-token-that-this-node-was-started-with"
	sum := sha256.Sum256([]byte(started))
	for _, c := range []struct {
		token        []byte
		sent         string
		status       int
		error, phase string
	}{
		{sum[:], started, 200, "", "waiting"},
		{sum[:], started + "x", 401, "invalid_operator_token", ""},
		{sum[:], "", 401, "invalid_operator_token", ""},
		{sum[:], operatorToken, 401, "invalid_operator_token", ""},
		{nil, started, 409, "refused", ""},
		{nil, "", 409, "refused", ""},
	} {
		nodes := &fakeNodes{phase: api.Waiting}
		n := start(t, func(cfg *api.Config) {
			cfg.Nodes, cfg.StartToken, cfg.Cluster = nodes, c.token, func() *statepb.Cluster { return nil }
		})
		header := "Authorization: Bearer " + c.sent
		shown, begun := n.with("", "GET", "operator/cluster", "", header), n.with("", "POST", "operator/cluster/init", "{}", header)
		for _, a := range []*answer{shown, begun} {
			if code, _ := a.body["error"].(string); a.StatusCode != c.status || code != c.error {
				t.Errorf("token %q: HTTP %d %s", c.sent, a.StatusCode, a.raw)
			}
		}
		if phase, _ := shown.body["phase"].(string); phase != c.phase {
			t.Errorf("token %q: %s", c.sent, shown.raw)
		}
		if want := c.status == 200; (begun.body["clusterId"] == "c1") != want || (len(nodes.asked) == 1) != want {
			t.Errorf("token %q: %s, asked %q", c.sent, begun.raw, nodes.asked)
		}
		nodes.asked = nil
		for _, path := range []string{"operator/cluster/members/a3/promote", "operator/cluster/snapshot"} {
			if a := n.with("", "POST", path, "", header); a.StatusCode != http.StatusServiceUnavailable || nodes.asked != nil {
				t.Errorf("%s: HTTP %d %s", path, a.StatusCode, a.raw)
			}
		}
	}
}
