//go:build unix

package cli

import (
	"crypto/rand"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"machineid/shared/orgkey"
)

// waysToAuthenticate are the headers by which a caller shows who it is, right and wrong, and several at once.
func waysToAuthenticate(o *org, orgID, nobody, validateKey string) map[string]string {
	const right, wrong = "Authorization: Bearer " + clusterToken + "\r\n", "Authorization: Bearer " + clusterToken + "x\r\n"
	key := func(k string) string { return "x-org-key: " + k + "\r\n" }
	on := func(id string) string { return "X-MachineID-Org: " + id + "\r\n" }
	return map[string]string{
		"nothing":                         "",
		"an admin's key":                  key(o.admin),
		"an agent's key":                  key(o.agent),
		"a key that validates":            key(validateKey),
		"a key of no org":                 key(nobody),
		"a key that is none":              key("org_x"),
		"an empty key":                    key(""),
		"two keys":                        key(o.admin) + key(o.admin),
		"an operator":                     right + on(orgID),
		"an operator in other letters":    strings.Replace(right, "Bearer", "bEARER", 1) + on(orgID),
		"a wrong token":                   wrong + on(orgID),
		"another scheme":                  strings.Replace(right, "Bearer", "Basic", 1) + on(orgID),
		"no token":                        on(orgID),
		"an operator of no org":           right,
		"an operator, an empty org":       right + on(""),
		"an operator, an unknown org":     right + on("00000000-0000-4000-8000-000000000000"),
		"an operator, capitals":           right + on(strings.ToUpper(orgID)),
		"an operator, two orgs":           right + on(orgID) + on(orgID),
		"a wrong token, capitals":         wrong + on(strings.ToUpper(orgID)),
		"an operator with an admin's key": right + on(orgID) + key(o.admin),
		"an operator with an agent's key": right + on(orgID) + key(o.agent),
		"an operator with a key of none":  right + on(orgID) + key(nobody),
		"an operator, a key that is none": right + on(orgID) + key("org_x"),
		"an operator with an empty key":   right + on(orgID) + key(""),
		"a wrong token beside a good key": wrong + on(orgID) + key(o.admin),
		"a wrong token alone":             wrong,
	}
}

// malformedParts are requests of which a part is missing, malformed or twice there: paths with their query, and bodies by their path. Those that can be read change nothing.
func malformedParts() (gets []string, posts [][2]string) {
	many := "?" + strings.Join(strings.Split("abcdefghijklmnopq", ""), "&")
	for _, query := range []string{"", "?", "?limit=1&limit=1", "?%", "?%zz", "?a=%2", "?limit=1#x", "?#", many, "?limit=05", "?limit=0", "?limit=x", "?limit=+1", "?cursor=%00", "?limit=%31", "?&&", "?=", "?other=1"} {
		for _, path := range []string{"devices/list", "audit", "org/export"} {
			gets = append(gets, path+query)
		}
	}
	for _, query := range []string{"", "?deviceId=d1", "?deviceId=d1&deviceId=d1", "?deviceId=d1&device%49d=d1", "?deviceId=%", "?deviceId=%zz", "?deviceId=d1#a", "?deviceId=", "?deviceId=%00", "?deviceId=%ff", "?deviceId=nobody", "?deviceId=+d1+", many + "&deviceId=d1"} {
		gets = append(gets, "devices/validate"+query, "devices/get"+query)
	}
	gets = append(gets,
		"usage?%", "usage?a&a", "org?%", "org/keys?%", "billing/summary?%", "propagation", "propagation?index=%", "propagation?index=-1", "propagation?index=1&index=1", "propagation?index=99999999",
		"operator/orgs?%", "operator/orgs?limit=1&limit=1", "operator/orgs/x", "operator/orgs/00000000-0000-4000-8000-000000000000?%", "operator/plans?a&a", "operator/audit?limit=1#x", "operator/audit?limit=05", "operator/edges?%",
		"nothing?%", "devices/revoke?%")
	bodies := []string{"", "{", "[]", "null", "{}", `{"deviceId":1}`, `{"deviceId":"nobody","deviceId":"nobody"}`, `{"deviceId":"nobody","device\u0049d":"nobody"}`, `{"deviceId":""}`, `{"deviceId":"\ud800"}`, `{"deviceId":"nobody"} {}`, `{"deviceId":"nobody"}`}
	for _, path := range []string{"devices/validate", "devices/revoke", "devices/remove"} {
		for _, body := range bodies {
			posts = append(posts, [2]string{path, body})
		}
	}
	for _, body := range []string{"", "{", "{}", `{"deviceIds":`, `{"deviceIds":[]}`, `{"deviceIds":"d1"}`, `{"deviceIds":["d1",1,""]}`, `{"deviceIds":["d1"],"deviceIds":["d1"]}`} {
		posts = append(posts, [2]string{"devices/validate_batch", body})
	}
	for _, body := range []string{"", "{", "{}", `{"deviceIds":[],"scope":"all_active"}`, `{"scope":"none"}`, `{"deviceIds":["nobody",1]}`} {
		posts = append(posts, [2]string{"devices/revoke_batch", body})
	}
	return gets, append(posts,
		[2]string{"devices/register", "{"}, [2]string{"devices/register", `{"deviceId":"d1","ttlSeconds":1.5}`}, [2]string{"devices/register", `{"deviceId":"d1","metadata":[]}`},
		[2]string{"devices/list", "{}"}, [2]string{"org/delete", "{}"}, [2]string{"org/delete", `{"confirm":"x"}`}, [2]string{"org/execution", `{"enabled":1}`}, [2]string{"org/settings", `{"version":3}`},
		[2]string{"org/keys", `{"scope":"agent"`}, [2]string{"org/keys", `{"scope":"x","name":"n"}`}, [2]string{"org/keys/rotate", `{"keyId":1}`}, [2]string{"org/keys/rotate", `{"keyId":"AAAAAAAA"}`}, [2]string{"org/keys/revoke", "{}"},
		[2]string{"operator/orgs/x", "{"}, [2]string{"operator/plans", "{"}, [2]string{"operator/token/rotate", "{}"}, [2]string{"operator/token/rotate", "{"})
}

// threeHops are an edge, the node that leads and one that does not, in processes of their own.
type threeHops struct {
	addrs    map[string]string
	full     org // three active devices, d1 to d3, and the revoked d0: at its cap
	orgID    string
	validate string // a key of it that validates only
	nobody   string // a key of no org
}

func startHops(t *testing.T) *threeHops {
	t.Helper()
	c := startCluster(t, 3)
	e := startEdge(t, c.links(), "--proxy-operator")
	e.ready()
	leader := c.leader()
	h := &threeHops{addrs: map[string]string{"leader": leader.http, "edge": e.http}}
	for _, n := range c.nodes {
		if n != leader {
			h.addrs["follower"] = n.http
		}
	}
	client := newClient(t, leader.http)
	h.full = client.createOrg(t)
	client.must(t, "devices/register", h.full.admin, naming("d0"))
	client.must(t, "devices/revoke", h.full.admin, naming("d0"))
	for _, id := range []string{"d1", "d2", "d3"} {
		client.must(t, "devices/register", h.full.admin, naming(id))
	}
	view, err := client.get("org", h.full.admin)
	if err != nil {
		t.Fatal(err)
	}
	h.orgID = view.text("orgId")
	h.validate = client.must(t, "org/keys", h.full.admin, `{"name":"v","scope":"validate"}`).text("orgApiKey")
	none, err := orgkey.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h.nobody = none.Reveal()
	return h
}

// compare sends the same bytes to some hops and holds their answers to the leader's.
func (h *threeHops) compare(t *testing.T, name, raw string, ends bool, hops ...string) {
	t.Helper()
	answers := map[string][]said{}
	for _, hop := range append(hops, "leader") {
		list, err := talk(h.addrs[hop], raw, ends)
		if err != nil || len(list) == 0 {
			t.Errorf("%s, %s: %+v, %v", hop, name, list, err)
			return
		}
		for i := range list {
			list[i] = list[i].alike()
			if list[i].status/100 == 2 && list[i].body["allowed"] == nil { // it can be read, and has times of its own
				list[i].body = nil
				list[i].header.Del("Content-Length")
			}
		}
		answers[hop] = list
	}
	for _, hop := range hops {
		if diff := cmp.Diff(answers[hop], answers["leader"], cmp.AllowUnexported(said{})); diff != "" {
			t.Errorf("%s (-%s +leader):\n%s", name, hop, diff)
		}
	}
}

// TestAllHopsJudgeAlike crosses every way to authenticate with every malformed part, at an edge, at the node that leads and at one that does not: whichever hop a request
// comes to first, the answer is the same in every word. And a node that does not lead answers all of HTTP's table as the one that leads.
func TestAllHopsJudgeAlike(t *testing.T) {
	t.Parallel()
	h := startHops(t)
	gets, posts := malformedParts()
	for way, headers := range waysToAuthenticate(&h.full, h.orgID, h.nobody, h.validate) {
		head := host + headers + "Connection: close\r\n"
		for _, path := range gets {
			h.compare(t, way+", GET "+path, "GET /api/v1/"+path+" HTTP/1.1\r\n"+head+"\r\n", false, "edge", "follower")
		}
		for _, post := range posts {
			h.compare(t, way+", POST "+post[0]+" "+post[1], "POST /api/v1/"+post[0]+" HTTP/1.1\r\n"+head+"Content-Length: "+strconv.Itoa(len(post[1]))+"\r\n\r\n"+post[1], false, "edge", "follower")
		}
	}
	list, err := talk(h.addrs["leader"], document+"Connection: close\r\n\r\n", false)
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	filled := strings.NewReplacer("$AGENT", h.full.agent, "$ADMIN", h.full.admin, "$ORG", h.orgID, "$TOKEN", clusterToken, "$TAG", list[0].header.Get("ETag"))
	for name, row := range httpRows() {
		raw := filled.Replace(row.raw)
		if row.end != cut && row.end != silent {
			raw += filled.Replace("GET /api/v1/devices/get?deviceId=d1 HTTP/1.1\r\n" + host + adminKey + "Connection: close\r\n\r\n")
		}
		h.compare(t, name, raw, row.end == cut, "follower")
	}
}
