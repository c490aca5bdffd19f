//go:build linux

package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// played is a call whose answer docs/api.md shows, and what is to be done before it.
type played struct {
	method, path, body string
	headers            []string
	before             func()
	agent              bool
}

// notPlayed are answers in docs/api.md that a healthy pair of an authority and an edge does not give.
var notPlayed = map[string]string{
	"propagation":        "a change that waits: authority/api, TestRespondAsync",
	"billing/checkout":   "it needs Stripe: authority/api, TestBilling",
	"devices/revoke 503": "an edge that does not acknowledge: authority/api, TestOutcomes",
}

// chance are members whose values are of this run: only their kind is compared.
var chance = []string{
	"request_id", "index", "elapsedMs", "createdAt", "expiresAt", "at", "id", "keyId", "orgApiKey", "agentKey", "orgId", "address", "nextCursor", "target", "targets", "lastSeenAt",
}

// shownAnswers are the JSON answers in the code blocks of a document, in order, with what is typed for each, "" if that is not shown. `...` leaves members out.
func shownAnswers(tb testing.TB, text string) (list []struct {
	typed string
	body  map[string]any
	whole bool
},
) {
	tb.Helper()
	for i, block := range strings.Split(text, "```") {
		if i%2 == 0 || !strings.Contains(block, `"handler"`) {
			continue
		}
		typed := ""
		for _, part := range regexp.MustCompile(`(?m)^(\$ .*|\{(?:.*\n)(?: .*\n)*)`).FindAllString(block, -1) {
			if strings.HasPrefix(part, "$ ") {
				typed = part
				continue
			}
			whole := strings.ReplaceAll(part, ",...", "")
			var body map[string]any
			if err := json.Unmarshal([]byte(whole), &body); err != nil {
				tb.Errorf("%v: %s", err, part)
				continue
			}
			list = append(list, struct {
				typed string
				body  map[string]any
				whole bool
			}{typed, body, whole == part})
			typed = ""
		}
	}
	return list
}

// differs says how an answer is another than the shown one, nothing if it is not.
func differs(at string, shown, got any, whole bool) (list []string) {
	switch shown := shown.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return []string{at + " is no object"}
		}
		for _, name := range slices.Sorted(maps.Keys(shown)) {
			value, ok := got[name]
			switch {
			case !ok:
				list = append(list, at+"."+name+" is not there")
			case slices.Contains(chance, name):
				if name == "lastSeenAt" {
					continue // an edge reports in its own time
				}
				if s, g := reflect.TypeOf(shown[name]), reflect.TypeOf(value); s != g {
					list = append(list, fmt.Sprintf("%s.%s: shown is %v, got %v", at, name, shown[name], value))
				}
			default:
				list = append(list, differs(at+"."+name, shown[name], value, whole)...)
			}
		}
		for name := range got {
			if _, ok := shown[name]; !ok && whole {
				list = append(list, at+"."+name+" is not shown")
			}
		}
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(shown) {
			return []string{fmt.Sprintf("%s: shown is %v, got %v", at, shown, got)}
		}
		for i := range shown {
			list = append(list, differs(fmt.Sprintf("%s[%d]", at, i), shown[i], got[i], whole)...)
		}
	default:
		if !reflect.DeepEqual(shown, got) {
			list = append(list, fmt.Sprintf("%s: shown is %v, got %v", at, shown, got))
		}
	}
	return list
}

// TestAnswersOfTheAPI: what docs/api.md shows of the calls is what they answer, through an edge, if the page is played from its top: all members, and all values that are not of
// chance.
func TestAnswersOfTheAPI(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "--lease", "5s") // for a machine that stands still a while
	a.start()
	e := startEdge(t, a.link, "--max-wait", "900ms")
	e.ready()
	c := newClient(t, e.http)
	made := c.must(t, "org/create", "", `{"name":"dev"}`)
	admin, agent := made.text("orgApiKey"), made.text("agentKey")
	const second = `{"deviceId":"agent-02","name":"build runner","metadata":{"region":"eu","rank":2},"ttlSeconds":86400}`
	must := func(path, body string) func() { return func() { c.must(t, path, admin, body) } }
	allowed := func(id string) {
		eventually(t, patient, id+" is allowed", func() bool { return c.validate(t, agent, id) == codeAllow })
	}
	keyID := func(key string) string { return key[len("org_"):][:8] }
	calls := []played{
		{method: "POST", path: "devices/validate", body: naming("agent-01"), before: must("devices/register", naming("agent-01"))},
		{method: "POST", path: "devices/validate", body: naming("agent-01"), headers: []string{"Content-Encoding: gzip"}},
		{method: "POST", path: "devices/validate_batch", body: `{"deviceIds":["agent-01","nobody",7]}`},
		{method: "POST", path: "devices/register", body: second, agent: true},
		{method: "POST", path: "devices/revoke", body: naming("agent-01")},
		{method: "POST", path: "devices/remove", body: naming("agent-02"), before: func() { allowed("agent-02") }},
		{method: "POST", path: "devices/revoke_batch", body: `{"deviceIds":["agent-01","nobody",7]}`, before: func() {
			must("devices/unrevoke", naming("agent-01"))()
			allowed("agent-01")
		}},
		{method: "POST", path: "devices/unrevoke_batch", body: `{"scope":"all_revoked"}`},
		{method: "GET", path: "devices/list?limit=1", before: must("devices/register", second)},
		{method: "GET", path: "devices/get?deviceId=agent-02"},
		{method: "POST", path: "org/create", body: `{}`},
		{method: "POST", path: "org/execution", body: `{"enabled":false}`},
		{method: "GET", path: "org", before: must("org/execution", `{"enabled":true}`)},
		{method: "GET", path: "usage"},
		{method: "POST", path: "org/keys/rotate", body: `{"keyId":"` + keyID(agent) + `","graceSeconds":3600}`},
		{method: "GET", path: "audit?limit=1"},
		{method: "POST", path: "devices/register", body: `{"deviceId":"agent-03","ttlSeconds":0}`},
	}
	played := 0
	for _, shown := range shownAnswers(t, page(t, "docs/api.md")) {
		handler, _ := shown.body["handler"].(string)
		if notPlayed[handler] != "" || shown.body["outcome"] == "committed" {
			continue
		}
		if played == len(calls) {
			t.Fatalf("docs/api.md shows one more answer, of %s: how is it called?", handler)
		}
		call := calls[played]
		played++
		if call.before != nil {
			call.before()
		}
		key := admin
		if call.agent {
			key = agent
		}
		if path, _, _ := strings.Cut(call.path, "?"); path == "org/create" {
			key = ""
		}
		var a *reply
		eventually(t, patient, call.path+" is decided", func() bool { // for a machine that stands still a while
			var err error
			if a, err = c.do(call.method, call.path, key, call.body, call.headers...); err != nil {
				t.Fatalf("%s: %v", call.path, err)
			}
			return !strings.HasPrefix(call.path, "devices/validate") || !strings.Contains(a.raw, codeUnsure)
		})
		for _, fault := range differs(handler, shown.body, a.body, shown.whole) {
			t.Errorf("%s %s: %s\n%s", call.method, call.path, fault, a.raw)
		}
		if shown.typed != "" && !strings.Contains(shown.typed, call.path) {
			t.Errorf("typed is %s, played %s", shown.typed, call.path)
		}
		if _, body, found := strings.Cut(shown.typed, " -d '"); found && call.path != "org/keys/rotate" && strings.TrimSuffix(strings.TrimSpace(body), "'") != call.body {
			t.Errorf("typed is %s, played %s", shown.typed, call.body)
		}
	}
	if played != len(calls) {
		t.Errorf("docs/api.md shows %d of %d answers", played, len(calls))
	}
}

// formOf is a command's output without what another run changes: names of clusters, times, addresses, versions, figures.
func formOf(text string) string {
	for _, r := range []struct{ pattern, with string }{
		{`[0-9a-f]{32}`, "NAME"},
		{`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`, "TIME"},
		{`127\.0\.0\.1:[0-9]+`, "ADDRESS"},
		{`\bv[0-9]+\.[0-9]+\.[0-9]+[-\w.]*`, "VERSION"},
		{`[0-9]+(?:\.[0-9]+)?(?:[KMGT]iB|ms|s|%)`, "FIGURE"},
		{`(?m)(^| )[0-9]+(?:\.[0-9]+)?`, "${1}FIGURE"},
		{`(?m)(  )-( |$)`, "${1}FIGURE$2"},
		{`(?m) +`, " "},
		{`(?m) $`, ""},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines) // members come in the order in which they joined
	return strings.Join(lines, "\n")
}

// TestWordsOfOperations: the lines of the log and the reasons of /readyz that docs/operations.md explains are texts of the program.
func TestWordsOfOperations(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	literals(t, func(_, text string) { all.WriteString(text + "\n") })
	said := func(part string) bool { return strings.Contains(all.String(), part) }
	operations := page(t, "docs/operations.md")
	words := 0
	for _, row := range rows(t, operations, "| line | level | meaning |") {
		line, _, _ := strings.Cut(row[0], ", with ")
		for _, text := range quotedIn(line) {
			if words++; !said(text) {
				t.Errorf("the log has no line %q", text)
			}
		}
	}
	for _, row := range rows(t, operations, "| tier | reason begins with | meaning |") {
		for _, text := range quotedIn(row[1]) {
			text, _, _ = strings.Cut(text, "...")
			text, _, _ = strings.Cut(text, "ADDRESS")
			for part := range strings.SplitSeq(text, ": ") {
				if part = strings.TrimSuffix(strings.TrimSpace(part), ":"); part != "" && !said(part) {
					t.Errorf("/readyz has no reason %q: no text has %q", text, part)
				}
				words++
			}
		}
	}
	if words < 50 {
		t.Errorf("%d texts are compared", words)
	}
}

// TestOutputsOfOperations: what docs/operations.md shows of a cluster of three nodes and an edge is what the commands print of one, but for what another run changes.
func TestOutputsOfOperations(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	e := startEdge(t, c.links())
	e.ready()
	file := filepath.Join(t.TempDir(), "s.bin")
	client := newClient(t, e.http)
	client.validate(t, client.createOrg(t).agent, "agent-01")
	if out, code := c.operate("snapshot", "save", file); code != exitDone {
		t.Fatalf("exit code %d: %s", code, out)
	}
	text, compared := page(t, "docs/operations.md"), 0
	for i, block := range strings.Split(text, "```") {
		typed, shown, _ := strings.Cut(strings.TrimPrefix(block, "\n"), "\n")
		command, ok := strings.CutPrefix(typed, "$ ")
		if i%2 == 0 || !ok || shown == "" {
			continue
		}
		var got string
		switch words := strings.Fields(command); {
		case words[0] == "curl":
			resp, err := opsClient.Get("http://" + e.ops + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			var b json.RawMessage
			if err := json.NewDecoder(resp.Body).Decode(&b); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			got = string(b)
		case words[1] == "snapshot":
			_, got, _ = commandLine("snapshot", "inspect", file)
		default:
			eventually(t, patient, command+" knows everybody", func() bool {
				if v := c.view(); v.Leader != nil && *v.Leader != "a1" {
					c.transfer("a1") // the page's
				}
				if words[1] == "edges" {
					got, _ = c.operate("edges")
					return strings.Contains(got, "connected")
				}
				got, _ = c.operate(words[1:]...)
				return strings.Count(got, "Follower") == 2 && !strings.Contains(got, "note: ")
			})
		}
		compared++
		if formOf(got) != formOf(shown) {
			t.Errorf("%s prints\n%s\nthe page shows\n%s", command, got, shown)
		}
	}
	if compared != 4 {
		t.Errorf("%d outputs are compared", compared)
	}
}
