// Package contract holds requests and answers to the OpenAPI document. It is for tests: no program imports it, nor the validator that it uses.
//
// It guarantees that an answer which Check takes has a status, headers and a body that the document tells of, every field that it calls
// required, no field and no value that it does not name, and that a request which was carried out is one that the document allows. The
// document itself leaves answers open, because fields and values may be added: it is closed here, in memory.
package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"machineid/shared/openapi"
	"machineid/shared/wire"
)

// Exchange is a request and its answer.
type Exchange struct {
	Method string
	Target string // Target is path and query, from the first slash.
	Header http.Header
	Body   string

	Status       int
	AnswerHeader http.Header
	Answer       string
}

// Contract is the closed document. It is safe for concurrent use.
type Contract struct{ doc *openapi3.T }

// New reads the document. An error says what is wrong with it.
func New() (*Contract, error) {
	text, err := closed(openapi.Document())
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, fmt.Errorf("load the document: %w", err)
	}
	return &Contract{doc}, nil
}

// template is the route's path as the document writes it, nil if it has none.
func (c *Contract) template(route *wire.Route) (string, *openapi3.PathItem) {
	for path, item := range c.doc.Paths.Map() {
		if Pattern(path) == wire.Base+route.Path {
			return path, item
		}
	}
	return "", nil
}

// Pattern is a path of the document as the shared routes write it, with a star for a parameter.
func Pattern(path string) string {
	before, rest, found := strings.Cut(path, "{")
	if !found {
		return path
	}
	_, after, _ := strings.Cut(rest, "}")
	return before + "*" + after
}

// place is what the document says about an exchange's request: the operation, or for what is none of them the answer that it gets.
func (c *Contract) place(x *Exchange) (*routers.Route, map[string]string, error) {
	path, _ := wire.SplitTarget([]byte(x.Target))
	found := &routers.Route{Spec: c.doc, Method: x.Method, Path: string(path)}
	params := map[string]string{}
	answer, status := "NotFound", "404"
	if route := wire.Match(path); route != nil {
		name, item := c.template(route)
		if item == nil {
			return nil, nil, fmt.Errorf("the document has no path %s", route.Path)
		}
		found.Path, found.PathItem, found.Operation = name, item, item.GetOperation(x.Method)
		if _, param, ok := strings.Cut(name, "{"); ok {
			param, _, _ = strings.Cut(param, "}")
			params[param] = route.Param(path)
		}
		if answer, status = "MethodNotAllowed", "405"; route.Validate {
			answer = "DecisionMethodNotAllowed"
		}
	} else if item := c.doc.Paths.Value(string(path)); item != nil {
		found.PathItem, found.Operation, answer, status = item, item.GetOperation(x.Method), "MethodNotAllowed", "405"
	}
	if found.Operation == nil {
		found.Operation = &openapi3.Operation{Responses: openapi3.NewResponses()}
		found.Operation.Responses.Delete("default")
		found.Operation.Responses.Set(status, c.doc.Components.Responses[answer])
	}
	return found, params, nil
}

// Check says what the document does not allow about an exchange, and a request that was refused for its parameters though the document
// allows it, nil for nothing.
func (c *Contract) Check(x *Exchange) error {
	route, params, err := c.place(x)
	if err != nil {
		return err
	}
	in, err := request(x, route, params)
	if err != nil {
		return err
	}
	if err := answer(x, in); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if route.PathItem == nil || route.PathItem.GetOperation(x.Method) == nil {
		return nil // nothing is said about what is no operation
	}
	fault := openapi3filter.ValidateRequest(context.Background(), in)
	switch carriedOut, param := judged(x); {
	case carriedOut && fault != nil:
		return fmt.Errorf("a request that was carried out: %w", fault)
	case param != "" && fault == nil:
		return fmt.Errorf("the document allows a request that was refused for %s", param)
	}
	return nil
}

// request makes the validator's view of the request. Nobody looks at its Content-Type.
func request(x *Exchange, route *routers.Route, params map[string]string) (*openapi3filter.RequestValidationInput, error) {
	r, err := http.NewRequestWithContext(context.Background(), x.Method, x.Target, strings.NewReader(x.Body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	r.Header = x.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if x.Body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{
		IncludeResponseStatus: true, AuthenticationFunc: present,
	}}, nil
}

// orgHeader names an org for an operator.
const orgHeader = "X-MachineID-Org"

// present judges that what a security scheme asks for was sent.
func present(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	h, op := in.RequestValidationInput.Request.Header, in.RequestValidationInput.Route.Operation
	s := in.SecurityScheme
	switch forOrg := op.Parameters.GetByInAndName("header", orgHeader) != nil; {
	case s.Type == "apiKey" && strings.TrimSpace(h.Get(s.Name)) != "",
		s.Type == "http" && strings.HasPrefix(h.Get("Authorization"), "Bearer ") && (!forOrg || h.Get(orgHeader) != ""):
		return nil
	}
	return in.NewError(errors.New("not sent"))
}

// beyond are the parameters of which the document cannot tell all that is judged, and what that is.
var beyond = map[string]string{
	"accessUntil":  "the last year is 9999",
	"address":      "it is a host and a port",
	"confirm":      "it is the caller's own org",
	"body":         "JSON may be written in ways that are refused",
	"cursor":       "it is one that was given out",
	"deviceId":     "it is counted in bytes, trimmed",
	"deviceIds":    "valid and distinct ids are counted",
	"expiresAt":    "it is a time to come",
	"externalId":   "it is counted in bytes",
	"keyId":        "an operator has no key of its own",
	"metadata":     "it is counted in bytes, as it is kept",
	"name":         "it is counted in bytes",
	"planTier":     "it is one that there is",
	"subscription": "only an operator may leave it",
	"query":        "a query may be written in ways that are refused",
}

// judged tells whether the request got past the judgement of its parameters; if it was refused there, param is the one at fault, unless only
// the state, or a rule that schemas do not have, could tell.
func judged(x *Exchange) (carriedOut bool, param string) {
	var a struct{ Code, Error, Param string }
	_ = json.Unmarshal([]byte(x.Answer), &a) // what is none, has none
	switch x.Status {
	case http.StatusBadRequest:
		if a.Error == "missing_params" && beyond[a.Param] == "" {
			return false, a.Param
		}
		return false, ""
	case http.StatusNotFound:
		return a.Error != "not_found", "" // operators' calls are none at an edge
	case http.StatusUnauthorized, http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge,
		http.StatusRequestURITooLong, http.StatusExpectationFailed, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge,
		http.StatusInternalServerError, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false, ""
	case http.StatusServiceUnavailable:
		return a.Error != "not_configured", "" // nothing was looked at
	}
	return !slices.Contains([]string{"INVALID_ORG_KEY", "INVALID_DEVICE_ID"}, a.Code), ""
}

// transport are headers that are no part of the API.
var transport = []string{"Connection", "Content-Length", "Content-Type", "Date"}

// answer judges status, headers and body.
func answer(x *Exchange, in *openapi3filter.RequestValidationInput) error {
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.Status, Header: x.AnswerHeader, Options: in.Options,
		Body: io.NopCloser(strings.NewReader(x.Answer)),
	}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		return err
	}
	told := in.Route.Operation.Responses.Status(x.Status).Value.Headers
	for name := range x.AnswerHeader {
		known := slices.Contains(transport, name)
		for one := range told {
			known = known || http.CanonicalHeaderKey(one) == name
		}
		if !known {
			return fmt.Errorf("a header that the document does not tell of: %s", name)
		}
	}
	return goes(x)
}

// goes judges what goes together with a status, which no schema sees: 200 and 202 of a change have one schema, and all decisions.
func goes(x *Exchange) error {
	var a struct {
		Code, Error, Message string
		Propagation          *struct{ Pending bool }
	}
	_ = json.Unmarshal([]byte(x.Answer), &a) // what is none, has none
	path, _ := wire.SplitTarget([]byte(x.Target))
	route := wire.Match(path)
	switch faulty := a.Code == "INVALID_ORG_KEY" || a.Code == "INVALID_DEVICE_ID"; {
	case a.Propagation != nil && a.Propagation.Pending != (x.Status == http.StatusAccepted):
		return errors.New("202, and nothing else, is for a change that is not yet in force")
	case route == nil || !route.Validate:
	case x.Status != http.StatusOK && a.Code != "INVALID_DEVICE_ID":
		return errors.New("a decision about a request that breaks a rule is INVALID_DEVICE_ID")
	case x.Status == http.StatusOK && faulty && (a.Error == "" || a.Message == ""):
		return errors.New("a decision about no key or no device says what is wrong")
	}
	return nil
}
