package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"machineid/authority/billing"
	"machineid/authority/hub"
	"machineid/authority/recovery"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// FuzzCursor: what parseCursor takes is the one text of a place that can be.
func FuzzCursor(f *testing.F) {
	for _, c := range []state.Cursor{{CreatedAt: 1, ID: "a"}, {CreatedAt: 1 << 60, ID: "\u00a0worker/α"}} {
		f.Add([]byte(cursorText(c)))
		f.Add([]byte(cursorText(c)[:5] + "\n" + cursorText(c)[5:]))
	}
	f.Add([]byte("AAAAAAAAAAAAAAAAAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, ok := parseCursor(text)
		if !ok {
			return
		}
		if again := cursorText(c); again != string(text) || c.CreatedAt < 0 {
			t.Fatalf("%q is %+v, which is %q", text, c, again)
		}
		if !wire.WellFormed([]byte(c.ID)) {
			t.Fatalf("%q is of the device %q", text, c.ID)
		}
	})
}

// quotedText is a quoted-string of RFC 9110, 5.6.4, also one that does not end.
var quotedText = regexp.MustCompile(`(?s)"(\\.|[^"\\])*("|\\?$)`)

// FuzzPrefer holds prefers to the same rule, read the slow way: without what is quoted, the names before = and ; of a list.
func FuzzPrefer(f *testing.F) {
	for _, s := range []string{
		"respond-async", "wait=10, Respond-Async;x=1", `a="respond-async, b`, `a="\", respond-async", respond-async`, ";respond-async", ",,", `respond-async="x"`, `"`, `a="\`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		want := false
		for one := range strings.SplitSeq(quotedText.ReplaceAllString(string(header), `"`), ",") {
			if i := strings.IndexAny(one, ";="); i >= 0 {
				one = one[:i]
			}
			want = want || strings.EqualFold(strings.TrimSpace(one), respondAsync)
		}
		if got := prefers(header, respondAsync); got != want {
			t.Fatalf("prefers(%q) = %v, want %v", header, got, want)
		}
	})
}

// FuzzOrgID: an id of an org has one text.
func FuzzOrgID(f *testing.F) {
	for _, s := range []string{"b2469749-4abd-45c1-946a-799ce518d2b7", "B2469749-4ABD-45C1-946A-799CE518D2B7", "{b2469749-4abd-45c1-946a-799ce518d2b7}", "b24697494abd45c1946a799ce518d2b7", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := parseOrg(text); err == nil && id.String() != text {
			t.Fatalf("%q is %s", text, id)
		}
	})
}

// FuzzAuthorization: nothing but the token, behind the word, is the operator's.
func FuzzAuthorization(f *testing.F) {
	const token = "a token of at least thirty-two characters"
	sum := sha256.Sum256([]byte(token))
	cluster := &statepb.Cluster{OperatorTokenHash: sum[:]}
	for _, s := range []string{"Bearer " + token, "bearer  " + token + "\t", "Bearer" + token, "Basic " + token, "Bearer", " Bearer " + token, ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		text := string(header)
		want := len(text) > 7 && strings.EqualFold(text[:7], "Bearer ") && string(wire.Trim([]byte(text[7:]))) == token
		if got := operates(cluster, header); got != want {
			t.Fatalf("operates(%q) = %v", header, got)
		}
		if operates(nil, header) || operates(&statepb.Cluster{}, header) {
			t.Fatalf("%q operates a cluster without a token", header)
		}
	})
}

// fuzzedStore takes commands and makes none of them.
type fuzzedStore struct{ got []*statepb.Command }

func (s *fuzzedStore) Propose(_ context.Context, cmd *statepb.Command) (uint64, state.Outcome, error) {
	s.got = append(s.got, cmd)
	return 0, state.Outcome{}, raftstore.ErrNotLeader
}

func (*fuzzedStore) Read(context.Context) (*raftstore.View, error) {
	return nil, raftstore.ErrNotLeader
}

func (*fuzzedStore) View() (*raftstore.View, error) { return nil, raftstore.ErrNotLeader }

type fuzzedHub struct{}

func (fuzzedHub) Settle(context.Context, uint64) (hub.Propagation, error) {
	return hub.Propagation{}, hub.ErrNotLeading
}
func (fuzzedHub) SettleOrg(context.Context, uint64, state.OrgID) error { return hub.ErrNotLeading }
func (fuzzedHub) EdgesMayBeBehind() bool                               { return false }
func (fuzzedHub) Edge(string) string                                   { return "" }
func (fuzzedHub) Sessions() []hub.Session                              { return nil }
func (fuzzedHub) Seen(state.OrgID, string, int64)                      {}
func (fuzzedHub) Used([32]byte, int64)                                 {}
func (fuzzedHub) Progress(context.Context, uint64, state.OrgID) (hub.Progress, error) {
	return hub.Progress{}, hub.ErrNotLeading
}

// complaints is a log that ought to stay empty: the API logs what it did not expect.
type complaints struct{ text strings.Builder }

func (c *complaints) Write(p []byte) (int, error) { return c.text.Write(p) }

// FuzzCalls hands any query, path parameter and body to any call. Whatever they are, the call refuses them with an answer of the contract,
// or proposes a change of exactly the devices that another reader of JSON finds named.
func FuzzCalls(f *testing.F) {
	paths := slices.Sorted(maps.Keys(calls))
	for i := range paths {
		for _, body := range []string{
			`{"deviceId":" a\n","name":"n","metadata":{"b":1,"a":[]},"ttlSeconds":60,"enabled":true,"version":1,"scope":"agent","expiresAt":"2031-01-01T00:00:00Z","confirm":"x"}`,
			`{"deviceIds":["a"," a","\u0062",7,null,"",{"a":1}]}`, `{"scope":"all_active"}`, `{"keyId":"AAAAAAAA","graceSeconds":0,"planTier":"pro","hold":true,"accessUntil":null,"limit":5}`,
			`{"plans":[{"planTier":"free","limit":3}],"graceDays":7,"to":1,"id":"a2","address":"h:1","voter":true}`, `{"plan":"pro","email":"a@example.com","token":"` + strings.Repeat("A", 64) + `"}`,
		} {
			f.Add(byte(i), byte(i), "limit=5&cursor=x&index=7&deviceId=a", []byte(body))
		}
	}
	store, log := &fuzzedStore{}, &complaints{}
	api := New(Config{
		Store: store, Hub: fuzzedHub{}, Cluster: func() *statepb.Cluster { return &statepb.Cluster{} }, Now: func() int64 { return 1_790_000_000_000 },
		Billing: billing.New(billing.Config{}), Logger: slog.New(slog.NewTextHandler(log, nil)), Recover: func(string, recovery.Asker) {},
	})
	f.Fuzz(func(t *testing.T, which, method byte, query string, body []byte) {
		path := paths[int(which)%len(paths)]
		c := calls[path]
		var served []string
		route := wire.Match([]byte(wire.Base + strings.Replace(path, "*", "a1", 1)))
		for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			if route.Allows([]byte(m)) {
				served = append(served, m)
			}
		}
		ctx := &fasthttp.RequestCtx{}
		ctx.Init(&fasthttp.Request{}, nil, nil)
		ctx.Request.Header.SetMethod(served[int(method)%len(served)])
		ctx.Request.SetBodyRaw(body)
		param := "b2469749-4abd-45c1-946a-799ce518d2b7"
		if wire.Match([]byte(wire.Base+strings.Replace(path, "*", query, 1))) == route {
			param = query
		}
		ctx.Request.Header.SetRequestURI(wire.Base + strings.Replace(path, "*", param, 1))
		in := &wire.Request{Route: route, Query: []byte(query), ID: []byte("r")}
		in.Head.OrgKey = []byte("k")
		r := api.request(ctx, in, time.Now())
		r.actor, r.scope, r.org = &statepb.Actor{Type: statepb.Actor_KEY, Id: "AAAAAAAA"}, statepb.Key_ADMIN, state.OrgID{1}
		store.got = nil
		log.text.Reset()

		err := r.parameters(&c)
		var do step
		if err == nil {
			do, err = c.parse(r)
		}
		proposes := err == nil && do.change != nil && !strings.HasPrefix(path, "operator/cluster")
		if proposes {
			_, err = do.change(t.Context())
		}
		if err != nil {
			e := r.fault(err)
			if e.HTTP < 400 && e.Code == "" || e.HTTP >= 500 && e.HTTP != 503 || e.HTTP == 503 && !proposes || !utf8.ValidString(e.Message) || log.text.Len() > 0 {
				t.Fatalf("%s %s?%q %q: %+v, logged %q", ctx.Method(), path, query, body, e, log.text.String())
			}
		}
		for _, cmd := range store.got {
			holdCommand(t, cmd, body)
		}
	})
}

// holdCommand compares the devices that a command is about with those that encoding/json finds in the body.
func holdCommand(t *testing.T, cmd *statepb.Command, body []byte) {
	t.Helper()
	var members map[string]json.RawMessage
	var named string
	var listed []json.RawMessage
	if len(body) > 0 && strings.TrimSpace(string(body)) != "" && json.Unmarshal(body, &members) != nil {
		t.Fatalf("%q: encoding/json reads no object, and %v is proposed", body, cmd)
	}
	_ = json.Unmarshal(members["deviceId"], &named)
	_ = json.Unmarshal(members["deviceIds"], &listed)
	if _, err := netip.ParseAddr(cmd.GetAddress()); err != nil {
		t.Fatalf("by %q", cmd.GetAddress())
	}
	one := []string{string(wire.Trim([]byte(named)))}
	var want []string
	for _, raw := range listed {
		var id *string
		if json.Unmarshal(raw, &id) != nil || id == nil {
			continue
		}
		if id, ok := wire.DeviceID([]byte(*id)); ok && !slices.Contains(want, string(id)) {
			want = append(want, string(id))
		}
	}
	var got []string
	switch {
	case cmd.GetRegister() != nil:
		got, want = []string{cmd.GetRegister().GetDeviceId()}, one
	case cmd.GetRevoke() != nil:
		got, want = []string{cmd.GetRevoke().GetDeviceId()}, one
	case cmd.GetUnrevoke() != nil:
		got, want = []string{cmd.GetUnrevoke().GetDeviceId()}, one
	case cmd.GetRemove() != nil:
		got, want = []string{cmd.GetRemove().GetDeviceId()}, one
	case cmd.GetRevokeBatch() != nil:
		if got = cmd.GetRevokeBatch().GetDeviceIds(); cmd.GetRevokeBatch().GetAll() != nil {
			holdScope(t, members, "all_active", got)
			return
		}
	case cmd.GetUnrevokeBatch() != nil:
		if got = cmd.GetUnrevokeBatch().GetDeviceIds(); cmd.GetUnrevokeBatch().GetAll() != nil {
			holdScope(t, members, "all_revoked", got)
			return
		}
	default:
		return // is about no device
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q: the change is about %q, encoding/json finds %q", body, got, want)
	}
}

func holdScope(t *testing.T, members map[string]json.RawMessage, want string, ids []string) {
	t.Helper()
	var scope string
	if json.Unmarshal(members["scope"], &scope) != nil || scope != want || len(ids) > 0 {
		t.Fatalf("all devices, of the scope %s with %q", members["scope"], ids)
	}
}

// FuzzDeviceQuery: the device of a query is the one that net/url reads there.
func FuzzDeviceQuery(f *testing.F) {
	for _, s := range []string{"deviceId=a", "deviceId=+a%20&x=1", "deviceId=%CE%B1", "deviceId=a&deviceId=b", "deviceid=a", "%64eviceId=a", "deviceId=a%00", "deviceId"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := wire.ParseQuery([]byte(raw))
		if err != nil {
			return
		}
		id, err := (&request{query: q}).queriedDevice()
		if err != nil {
			return
		}
		theirs, err := url.ParseQuery(strings.ReplaceAll(raw, ";", "%3B")) // they refuse a bare semicolon
		if err != nil || len(theirs["deviceId"]) != 1 || string(wire.Trim([]byte(theirs["deviceId"][0]))) != id {
			t.Fatalf("%q is about %q, for net/url about %q", raw, id, theirs["deviceId"])
		}
	})
}
