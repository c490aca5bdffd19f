package wire

import (
	"bytes"
	"strings"
)

// Base is the path below which the API lives.
const Base = "/api/v1/"

// Limits of bodies in bytes.
const (
	MaxBody      = 64 << 10 // MaxBody holds for every route that says nothing else.
	MaxBatchBody = 1 << 20  // MaxBatchBody holds for batches and webhooks.
)

// Handler names that answers carry.
const (
	ValidateHandler = "devices/validate"
	UnknownHandler  = "unknown" // UnknownHandler stands in answers about paths that no route has.
)

// Route is one path of the API and what may be sent to it. Routes are shared and never changed.
type Route struct {
	Path    string // Path below Base, without slashes at its ends: "devices/register".
	Handler string // Handler is what answers name: Path, but for org/create. "" for operators' calls, which name none.

	Get    bool // Get tells that GET is served.
	Post   bool // Post tells that POST is served.
	Put    bool // Put tells that PUT is served.
	Patch  bool // Patch tells that PATCH is served.
	Delete bool // Delete tells that DELETE is served.

	// MaxBody is the most a body may hold, in bytes.
	MaxBody int
	// Headers lists those that this route alone reads; they are passed on with it.
	Headers []string
	// Query lists the names a GET may carry; the edge forwards these and no others.
	Query []string
	// Open marks a call that takes neither an org's key nor needs an operator's token. Without what a call takes nothing large is read.
	Open bool
	// Proves says which credential a success proves.
	Proves Proof
	// Validate marks the one route whose every answer is a decision.
	Validate bool
	// Decides marks the call that answers with several decisions. Edges answer it, as validate.
	Decides bool
	// Operator marks a call of operators: edges pass it on only where they are told to, and its answers name no handler.
	Operator bool
	// OK has every answer about the route carry `ok` beside `status`.
	OK bool
	// Repeats marks a change that an org's key and an Idempotency-Key make safe to send again, whatever became of it: what answers then is the first.
	Repeats bool
	// Stream marks a call whose success is no JSON and of any length: no edge passes it on.
	Stream bool
	// Local marks a call that each authority node answers for itself, whoever leads.
	Local bool
}

// routes is the shared table. The edge builds what it forwards from it, so what is not here cannot be reached through an
// edge.
var routes = []Route{
	{Path: "devices/validate", Proves: ProvesNothing, Get: true, Post: true, Query: []string{"deviceId"}, Validate: true},
	{Path: "devices/validate_batch", Proves: ProvesNothing, Post: true, MaxBody: MaxBatchBody, Decides: true},
	{Path: "devices/register", Proves: ProvesKey, Post: true, Repeats: true},
	{Path: "devices/list", Proves: ProvesKey, Get: true, Query: []string{"limit", "cursor"}},
	{Path: "devices/get", Proves: ProvesKey, Get: true, Query: []string{"deviceId"}},
	{Path: "devices/revoke", Proves: ProvesKey, Post: true, Repeats: true},
	{Path: "devices/unrevoke", Proves: ProvesKey, Post: true, Repeats: true},
	{Path: "devices/remove", Proves: ProvesKey, Post: true, Repeats: true},
	{Path: "devices/revoke_batch", Proves: ProvesKey, Post: true, MaxBody: MaxBatchBody, Repeats: true},
	{Path: "devices/unrevoke_batch", Proves: ProvesKey, Post: true, MaxBody: MaxBatchBody, Repeats: true},
	{Path: "usage", Proves: ProvesKey, Get: true},
	{Path: "org", Proves: ProvesKey, Get: true},
	{Path: "org/create", Proves: ProvesNothing, Open: true, Handler: "org_create", Post: true},
	{Path: "org/execution", Proves: ProvesKey, Post: true, Repeats: true},
	{Path: "org/settings", Proves: ProvesKey, Post: true, Repeats: true},
	{Path: "org/delete", Proves: ProvesKey, Post: true},
	{Path: "org/export", Proves: ProvesKey, Get: true, Query: []string{"limit", "cursor"}},
	{Path: "org/keys", Proves: ProvesKey, Get: true, Post: true},
	{Path: "org/keys/rotate", Proves: ProvesKey, Post: true},
	{Path: "org/keys/revoke", Proves: ProvesKey, Post: true},
	{Path: "audit", Proves: ProvesKey, Get: true, Query: []string{"limit", "cursor"}},
	{Path: "operator/audit", Proves: ProvesToken, Get: true, Query: []string{"limit", "cursor"}, Operator: true},
	{Path: "billing/summary", Proves: ProvesKey, Get: true, OK: true},
	{Path: "billing/checkout", Proves: ProvesKey, Post: true, OK: true},
	{Path: "billing/portal", Proves: ProvesKey, Post: true, OK: true},
	{Path: "webhooks/stripe", Proves: ProvesNothing, Open: true, Post: true, OK: true, MaxBody: MaxBatchBody, Headers: []string{"Stripe-Signature"}},
	{Path: "org/recover", Proves: ProvesNothing, Open: true, Post: true},
	{Path: "org/recover/confirm", Proves: ProvesNothing, Open: true, Post: true},
	{Path: "operator/billing/sync", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/orgs", Proves: ProvesToken, Get: true, Post: true, Query: []string{"limit", "cursor"}, Operator: true},
	{Path: "operator/orgs/*", Proves: ProvesToken, Get: true, Patch: true, Delete: true, Operator: true},
	{Path: "operator/token/rotate", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/plans", Proves: ProvesToken, Get: true, Put: true, Operator: true},
	{Path: "propagation", Proves: ProvesKey, Get: true, Query: []string{"index"}},
	{Path: "operator/edges", Proves: ProvesToken, Get: true, Operator: true},
	{Path: "operator/cluster", Proves: ProvesToken, Get: true, Operator: true, Local: true},
	{Path: "operator/cluster/init", Proves: ProvesToken, Post: true, Operator: true, Local: true},
	{Path: "operator/cluster/members", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/cluster/members/*", Proves: ProvesToken, Delete: true, Operator: true},
	{Path: "operator/cluster/members/*/promote", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/cluster/members/*/address", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/cluster/members/*/demote", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/cluster/format", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/cluster/transfer", Proves: ProvesToken, Post: true, Operator: true},
	{Path: "operator/cluster/snapshot", Proves: ProvesToken, Post: true, Operator: true, Local: true, Stream: true},
}

// Table finds routes by path. It is safe for concurrent use.
type Table struct {
	byPath   map[string]*Route
	list     []*Route
	patterns []*Route // with a parameter
	validate *Route   // tried first: nearly every request of an edge is one
}

// NewTable makes a table of rs. Handler and MaxBody take their defaults (Path and MaxBody) where they are zero; a route for
// which no handler name is sent needs a table of its own, see Server.Match.
func NewTable(rs []Route) *Table {
	t := &Table{byPath: make(map[string]*Route, len(rs))}
	for i := range rs {
		r := rs[i]
		if r.Handler == "" && !r.Operator {
			r.Handler = r.Path
		}
		if r.MaxBody == 0 {
			r.MaxBody = MaxBody
		}
		if r.isPattern() {
			t.patterns = append(t.patterns, &r)
		} else {
			t.byPath[r.Path] = &r
		}
		t.list = append(t.list, &r)
		if r.Validate {
			t.validate = &r
		}
	}
	return t
}

var table = NewTable(routes)

// Routes lists the shared table. The routes must not be changed.
func Routes() []*Route { return table.list }

// Match returns the shared route that the raw path of a request names, or nil. See Table.Match.
func Match(path []byte) *Route { return table.Match(path) }

// Match returns the route that the raw path of a request names, or nil. The path is compared byte by byte, neither decoded
// nor normalised: what is encoded, doubled, dotted or in another case is another path and has no route. One trailing slash
// is accepted. It allocates nothing.
func (t *Table) Match(path []byte) *Route {
	if len(path) <= len(Base) || string(path[:len(Base)]) != Base {
		return nil
	}
	path = path[len(Base):]
	if path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	if v := t.validate; v != nil && string(path) == v.Path {
		return v
	}
	if r := t.byPath[string(path)]; r != nil {
		return r
	}
	for _, r := range t.patterns {
		if _, ok := r.param(path); ok {
			return r
		}
	}
	return nil
}

// Param returns what a raw path of this route, which has a parameter, holds in its place. It is taken as it is.
func (r *Route) Param(path []byte) string {
	value, _ := r.param(bytes.TrimSuffix(bytes.TrimPrefix(path, []byte(Base)), []byte("/")))
	return string(value)
}

// param matches a path below Base with the route's pattern: one segment of unreserved characters (RFC 3986, 2.3) in the place of
// the star. The segments that mean another one (5.2.4) match nothing: a proxy on the way may resolve them.
func (r *Route) param(path []byte) (value []byte, ok bool) {
	before, after, _ := strings.Cut(r.Path, "*")
	if len(path) <= len(before)+len(after) || string(path[:len(before)]) != before || string(path[len(path)-len(after):]) != after {
		return nil, false
	}
	value = path[len(before) : len(path)-len(after)]
	for _, c := range value {
		if !unreserved(c) {
			return nil, false
		}
	}
	return value, string(value) != "." && string(value) != ".."
}

func (r *Route) isPattern() bool { return strings.Contains(r.Path, "*") }

// with is the path of a pattern with its parameter.
func (r *Route) with(value string) string { return Base + strings.Replace(r.Path, "*", value, 1) }

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// Allows tells whether the route serves the method, which is compared in its case (RFC 9110, 9.1). HEAD is not told apart here: it is served where GET is.
func (r *Route) Allows(method []byte) bool {
	switch string(method) {
	case "GET":
		return r.Get
	case "POST":
		return r.Post
	case "PUT":
		return r.Put
	case "PATCH":
		return r.Patch
	case "DELETE":
		return r.Delete
	}
	return false
}

// Allow is the value of the header of the same name in a 405 (RFC 9110, 10.2.1).
func (r *Route) Allow() string {
	var methods []string
	for _, m := range []struct {
		name   string
		served bool
	}{{"GET", r.Get}, {"HEAD", r.Get}, {"POST", r.Post}, {"PUT", r.Put}, {"PATCH", r.Patch}, {"DELETE", r.Delete}} {
		if m.served {
			methods = append(methods, m.name)
		}
	}
	return strings.Join(methods, ", ")
}

// SplitTarget splits a raw request target into its path and its query, without the question mark. The absolute form
// (http://host/path), which RFC 9112, 3.2.2 has servers accept, gives the same path as the plain form. The results alias
// target.
func SplitTarget(target []byte) (path, query []byte) {
	if len(target) > 0 && target[0] != '/' {
		target = cutAuthority(target)
	}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		return target[:i], target[i+1:]
	}
	return target, nil
}

// cutAuthority returns what follows the authority of a target in the absolute form, and other targets as they are.
func cutAuthority(target []byte) []byte {
	var rest []byte
	switch {
	case len(target) > 7 && equalFold(target[:7], "http://"):
		rest = target[7:]
	case len(target) > 8 && equalFold(target[:8], "https://"):
		rest = target[8:]
	default:
		return target
	}
	if i := bytes.IndexAny(rest, "/?"); i > 0 && rest[i] == '/' {
		return rest[i:]
	}
	return target
}

// equalFold compares with a string of lower-case letters and other bytes from 20 to 3F, ignoring the case of ASCII letters. b must hold no
// control characters: setting the bit that makes a letter lower-case would turn them into others.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c|0x20 != lower[i] {
			return false
		}
	}
	return true
}
