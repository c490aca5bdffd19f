package api

import (
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// request is one request on its way. It belongs to the goroutine of its handler.
type request struct {
	api      *API
	http     *fasthttp.RequestCtx
	in       *wire.Request
	deadline time.Time // nothing is proposed after it
	trusted  bool      // an edge or a node of ours handed it on
	byEdge   bool      // it came from an edge of ours, at this node or at another
	status   int       // of a success

	body  wire.Object // of a POST
	query wire.Query  // of a GET

	// Known once the caller was admitted. org is zero for calls that belong to none, caller nil for calls without an org's key.
	actor  *statepb.Actor
	org    state.OrgID
	caller *statepb.Caller
	// token is the SHA-256 of the operator's token, nil if the caller is no operator: the state judges it again (state.authorize).
	token []byte
	// scope is the caller's, ADMIN for operators.
	scope    statepb.Key_Scope
	rejudged bool // of the step
	// reads says that the call only reads, and is paced; reading is set in its turn (paced).
	reads   bool
	reading *reading
	// part counts the commands of a call that makes more than one.
	part int
	// saw is the newest index of a view that was not waited for and may be told of beside a change, 0 for none (settled).
	saw uint64
	// committed says that a change was granted.
	committed bool
}

func (a *API) request(ctx *fasthttp.RequestCtx, in *wire.Request, began time.Time) *request {
	r := &request{api: a, http: ctx, in: in, status: fasthttp.StatusOK}
	if token, ok := single(ctx, wire.EdgeHeader); ok {
		r.byEdge = a.cfg.Hub.Edge(token) != ""
	}
	r.trusted = r.byEdge || (a.cfg.FromNode != nil && a.cfg.FromNode(ctx))
	r.deadline = began.Add(wire.Budget(in.Head.Timeout, r.trusted))
	return r
}

// single returns a header that was sent exactly once and is not empty.
func single(ctx *fasthttp.RequestCtx, name string) (string, bool) {
	values := ctx.Request.Header.PeekAll(name)
	if len(values) != 1 || len(values[0]) == 0 {
		return "", false
	}
	return string(values[0]), true
}

// address is the client's, as far as we can know it.
func (r *request) address() string {
	from := wire.PeerHeader
	if r.byEdge {
		from = wire.ClientHeader
	}
	if text, ok := single(r.http, from); ok && r.trusted {
		if ip, err := netip.ParseAddr(text); err == nil {
			return ip.Unmap().WithZone("").String()
		}
	}
	ip, _ := netip.AddrFromSlice(r.http.RemoteIP()) // never without an address: 0.0.0.0 if the connection has none
	return ip.Unmap().String()
}

// parameters parses the body of a POST or the query of a GET; the other of the two is ignored.
func (r *request) parameters(c *call) (err error) {
	switch {
	case c.raw:
	case r.http.IsGet():
		if r.query, err = wire.ParseQuery(r.in.Query); err != nil {
			return &wire.ParamError{Param: wire.QueryParam, Message: err.Error()}
		}
	case c.empty:
		r.body, err = wire.ParseOptional(r.http.Request.Body())
	default:
		r.body, err = wire.ParseObject(r.http.Request.Body())
	}
	return err
}

// queriedDevice is the device id in a query.
func (r *request) queriedDevice() (string, error) {
	id, err := r.query.DeviceID()
	return string(id), err
}

// maxText is the most bytes a name may have.
const maxText = 256

// text returns an optional member that is shown to people, nil if it was not given. It may be empty.
func (r *request) text(name string) (*string, error) {
	s, present, err := r.body.String(name)
	if err != nil || !present {
		return nil, err
	}
	if len(s) > maxText || !printable(s) {
		return nil, &wire.ParamError{
			Param: name, Message: name + " is no plain text: send at most 256 bytes of UTF-8 without control characters",
		}
	}
	return &s, nil
}

func printable(s string) bool {
	for _, c := range s {
		if unicode.IsControl(c) { // U+0000-1F and U+007F-9F
			return false
		}
	}
	return utf8.ValidString(s)
}

// version is the API generation in whose form this request is answered.
func (r *request) version(org *statepb.Org) uint32 {
	switch string(r.in.Head.Version) {
	case "1":
		return 1
	case "2":
		return 2
	}
	if v := org.GetVersion(); v != 0 {
		return v
	}
	return r.api.cfg.DefaultVersion
}
