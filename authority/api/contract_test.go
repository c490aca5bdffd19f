package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"machineid/shared/openapi/contract"
	"machineid/shared/wire"
)

// held holds what a test asks and is answered to the OpenAPI document, and keeps one exchange of each kind.
type held struct {
	contract *contract.Contract

	all  bool // else only the first few of each kind are held: the validator is slow
	mu   sync.Mutex
	kept map[string]*contract.Exchange
}

// few is how many exchanges of a kind are held, by whichever tests.
const few = 3

// kinds counts the exchanges that were held.
var kinds = struct {
	sync.Mutex
	held map[string]int
}{held: map[string]int{}}

// first tells whether an exchange is one of the first few of its kind.
func first(kind string) bool {
	kinds.Lock()
	defer kinds.Unlock()
	kinds.held[kind]++
	return kinds.held[kind] <= few
}

// document is read once.
var document = sync.OnceValues(contract.New)

func newHeld(tb testing.TB) *held {
	tb.Helper()
	c, err := document()
	if err != nil {
		tb.Fatal(err)
	}
	return &held{contract: c, kept: map[string]*contract.Exchange{}}
}

// check is safe for concurrent use. It does nothing if h is nil, for answers that a test forges.
func (h *held) check(tb testing.TB, method, path, body string, headers []string, a *answer) {
	tb.Helper()
	if h == nil {
		return
	}
	if !strings.HasPrefix(path, "/") {
		path = wire.Base + path
	}
	call := path
	if route := wire.Match([]byte(strings.SplitN(path, "?", 2)[0])); route != nil {
		call = route.Path
	}
	kind := fmt.Sprint(method, call, a.StatusCode, a.body["status"], a.body["error"], a.body["param"], slices.Sorted(maps.Keys(a.body)))
	if !first(kind) && !h.all {
		return
	}
	shown := a.Header.Clone()
	shown.Del(wire.KeyOrgHeader) // an edge's, which clients do not see
	x := &contract.Exchange{
		Method: method, Target: path, Header: http.Header{}, Body: body,
		Status: a.StatusCode, AnswerHeader: shown, Answer: a.raw,
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		x.Header.Set(name, value)
	}
	if err := h.contract.Check(x); err != nil {
		tb.Errorf("%s %s %s: not as openapi.json says: %v\n%s", method, path, body, err, a.raw)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept[kind] = x
}

// optional are the fields that an answer may lack.
var optional = []string{
	"nextCursor", "reason", "results", "orgId", "targetsLeftOut", "leftOut", // in lists, batches and audits
	"handler", // operators' errors have none
}

// mutate is the proof that check can fail: in each answer that was kept, every field, also in the objects and lists in it, is taken away, renamed
// and given another type, and each is found.
func (h *held) mutate(t *testing.T) {
	t.Helper()
	mutants, done := 0, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(h.kept)) {
		x := h.kept[name]
		var body map[string]any
		if err := json.Unmarshal([]byte(x.Answer), &body); err != nil {
			t.Fatal(err)
		}
		found := func(what, field string) {
			t.Helper()
			path, _, _ := strings.Cut(x.Target, "?")
			mutant := fmt.Sprint(x.Method, path, x.Status, body["error"], field, what)
			if done[mutant] {
				return
			}
			done[mutant] = true
			mutants++
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			y := *x
			if y.Answer = string(text); h.contract.Check(&y) == nil {
				t.Errorf("%s %s: %s %s is not found: %s", x.Method, x.Target, field, what, text)
			}
		}
		mutateWithin(body, "", found)
	}
	t.Logf("%d mutants of %d answers", mutants, len(h.kept))
}

func mutateWithin(node any, at string, found func(what, field string)) {
	switch node := node.(type) {
	case []any:
		if len(node) > 0 {
			mutateWithin(node[0], at, found)
		}
	case map[string]any:
		for _, field := range slices.Sorted(maps.Keys(node)) {
			was := node[field]
			if field == "metadata" {
				node[field] = "text"
				found("of another type", at+field)
				node[field] = was
				continue
			}
			if field != "before" && field != "after" { // what is set has names of its own
				mutateWithin(was, at+field+".", found)
			}
			delete(node, field)
			if !slices.Contains(optional, field) && (field != "deviceId" || node["code"] != "INVALID_ORG_KEY") {
				found("taken away", at+field)
			}
			node[field+"2"] = was
			found("renamed", at+field)
			delete(node, field+"2")
			if node[field] = []any{}; fmt.Sprintf("%T", was) == "[]interface {}" {
				node[field] = true
			}
			found("of another type", at+field)
			node[field] = was
		}
	}
}
