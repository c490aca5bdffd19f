package wire

import "bytes"

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

	Get  bool // Get tells that GET is served.
	Post bool // Post tells that POST is served.

	// MaxBody is the most a body may hold, in bytes.
	MaxBody int
	// Query lists the names a GET may carry; the edge forwards these and no others.
	Query []string
	// Validate marks the one route whose every answer is a decision.
	Validate bool
}

// routes is the shared table. The edge builds what it forwards from it, so what is not here cannot be reached through an
// edge.
var routes = []Route{
	{Path: "devices/validate", Get: true, Post: true, Query: []string{"deviceId"}, Validate: true},
	{Path: "devices/register", Post: true},
	{Path: "devices/list", Get: true, Query: []string{"limit", "cursor"}},
	{Path: "devices/get", Get: true, Query: []string{"deviceId"}},
	{Path: "devices/revoke", Post: true},
	{Path: "devices/unrevoke", Post: true},
	{Path: "devices/remove", Post: true},
	{Path: "usage", Get: true},
	{Path: "org", Get: true},
	{Path: "org/create", Handler: "org_create", Post: true},
	{Path: "org/execution", Post: true},
}

// Table finds routes by path. It is safe for concurrent use.
type Table struct {
	byPath   map[string]*Route
	list     []*Route
	validate *Route // tried first: nearly every request of an edge is one
}

// NewTable makes a table of rs. Handler and MaxBody take their defaults (Path and MaxBody) where they are zero; a route for
// which no handler name is sent needs a table of its own, see Server.Match.
func NewTable(rs []Route) *Table {
	t := &Table{byPath: make(map[string]*Route, len(rs))}
	for i := range rs {
		r := rs[i]
		if r.Handler == "" {
			r.Handler = r.Path
		}
		if r.MaxBody == 0 {
			r.MaxBody = MaxBody
		}
		t.byPath[r.Path] = &r
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
	return t.byPath[string(path)]
}

// Allows tells whether the route serves the method, which is compared in its case (RFC 9110, 9.1). HEAD is not served.
func (r *Route) Allows(method []byte) bool {
	switch string(method) {
	case "GET":
		return r.Get
	case "POST":
		return r.Post
	}
	return false
}

// Allow is the value of the header of the same name in a 405 (RFC 9110, 10.2.1).
func (r *Route) Allow() string {
	switch {
	case r.Get && r.Post:
		return "GET, POST"
	case r.Get:
		return "GET"
	case r.Post:
		return "POST"
	}
	return ""
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
