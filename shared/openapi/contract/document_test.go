package contract_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"machineid/shared/decision"
	"machineid/shared/openapi"
	"machineid/shared/openapi/contract"
	"machineid/shared/wire"
)

func load(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestDocument: it is OpenAPI 3.1, its examples keep to its schemas, and nothing in it is there for nobody.
func TestDocument(t *testing.T) {
	doc := load(t)
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("openapi is %s", doc.OpenAPI)
	}
	// What answers requests that are no operation's.
	alone := []string{"responses/NotFound", "responses/MethodNotAllowed", "responses/DecisionMethodNotAllowed"}
	text := string(openapi.Document())
	for kind, names := range map[string][]string{
		"schemas": slices.Collect(maps.Keys(doc.Components.Schemas)), "responses": slices.Collect(maps.Keys(doc.Components.Responses)),
		"headers": slices.Collect(maps.Keys(doc.Components.Headers)), "parameters": slices.Collect(maps.Keys(doc.Components.Parameters)),
	} {
		for _, name := range names {
			if one := kind + "/" + name; !strings.Contains(text, `"#/components/`+one+`"`) && !slices.Contains(alone, one) {
				t.Errorf("nothing refers to %s", one)
			}
		}
	}
}

// described is what a table of routes and the document must have in common.
func described(routes []*wire.Route) (calls []string) {
	for _, r := range routes {
		for method := range strings.SplitSeq(r.Allow(), ", ") {
			if method == "HEAD" { // goes without saying, where GET is
				continue
			}
			call := []string{method + " " + wire.Base + r.Path}
			if method == "GET" {
				call = append(call, slices.Sorted(slices.Values(r.Query))...)
			}
			calls = append(calls, strings.Join(call, " "))
		}
	}
	slices.Sort(calls)
	return calls
}

func documented(doc *openapi3.T) (calls []string) {
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			call := method + " " + contract.Pattern(path)
			var query []string
			for _, p := range op.Parameters {
				if p.Value.In == "query" {
					query = append(query, p.Value.Name)
				}
			}
			slices.Sort(query)
			calls = append(calls, strings.Join(append([]string{call}, query...), " "))
		}
	}
	slices.Sort(calls)
	return calls
}

// TestRoutes: every route is in the document, with its methods and the names of its query, and nothing else is.
func TestRoutes(t *testing.T) {
	doc := load(t)
	want := append(described(wire.Routes()), "GET "+openapi.Path)
	slices.Sort(want)
	if diff := cmp.Diff(want, documented(doc)); diff != "" {
		t.Errorf("routes and the document differ (-routes +document):\n%s", diff)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			route := wire.Match([]byte(strings.NewReplacer("{", "", "}", "").Replace(path)))
			if op.Security == nil {
				t.Errorf("%s %s does not say who may call it", method, path)
			} else if route != nil && route.Operator != (len(*op.Security) == 1 && (*op.Security)[0]["operatorToken"] != nil) {
				t.Errorf("%s %s: only operators' calls are for the operator's token alone", method, path)
			}
		}
	}
}

// TestRoutesTell is the proof that TestRoutes can fail.
func TestRoutesTell(t *testing.T) {
	all := described(wire.Routes())
	for name, change := range map[string]func(*wire.Route){
		"method": func(r *wire.Route) { r.Put = true },
		"path":   func(r *wire.Route) { r.Path += "s" },
		"query":  func(r *wire.Route) { r.Query = []string{"limit"} },
	} {
		var routes []*wire.Route
		for _, r := range wire.Routes() {
			one := *r
			if r.Path == "usage" {
				change(&one)
			}
			routes = append(routes, &one)
		}
		if slices.Equal(all, described(routes)) {
			t.Errorf("a change of a route's %s is not seen", name)
		}
	}
	for name, change := range map[string]func(*openapi3.T){
		"path too many":    func(d *openapi3.T) { d.Paths.Set("/api/v1/usages", d.Paths.Value("/api/v1/usage")) },
		"path too few":     func(d *openapi3.T) { d.Paths.Delete("/api/v1/usage") },
		"method too many":  func(d *openapi3.T) { d.Paths.Value("/api/v1/usage").Post = new(openapi3.Operation) },
		"query's name off": func(d *openapi3.T) { d.Paths.Value("/api/v1/audit").Get.Parameters = nil },
	} {
		doc := load(t)
		if change(doc); slices.Equal(documented(load(t)), documented(doc)) {
			t.Errorf("a document with a %s is not seen", name)
		}
	}
}

// codeForm finds where package wire makes the code of an error.
var codeForm = regexp.MustCompile(`(?:Code: |notFound\(|conflict\(|blocked\()"([a-z_]+)"`)

// errorCodes are those that package wire can answer.
func errorCodes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../wire/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range codeForm.FindAllSubmatch(text, -1) {
			codes = append(codes, string(m[1]))
		}
	}
	slices.Sort(codes)
	if codes = slices.Compact(codes); len(codes) < 25 {
		t.Fatalf("found only %v: is codeForm still how they are made?", codes)
	}
	return codes
}

// listed are the values that a schema has today.
func listed(doc *openapi3.T, schema string) (names []string) {
	list, _ := doc.Components.Schemas[schema].Value.Extensions["x-extensible-enum"].([]any)
	for _, v := range list {
		s, _ := v.(string)
		names = append(names, s)
	}
	return names
}

// TestCodes: the document knows every code, decisions in the order in which they are judged, and docs/api.md has a row for each, which says what
// it means and what to do.
func TestCodes(t *testing.T) {
	doc := load(t)
	if diff := cmp.Diff(errorCodes(t), slices.Sorted(slices.Values(listed(doc, "ErrorCode")))); diff != "" {
		t.Errorf("codes of errors (-wire +document):\n%s", diff)
	}
	var decisions []string
	for _, code := range decision.Codes() {
		decisions = append(decisions, code.String())
	}
	if diff := cmp.Diff(decisions, listed(doc, "DecisionCode")); diff != "" {
		t.Errorf("codes of decisions (-decision +document):\n%s", diff)
	}
	for _, code := range decisions {
		if told := doc.Components.Schemas["DecisionCode"].Value.Description; !strings.Contains(told, "- `"+code+"`: ") {
			t.Errorf("the document does not say what to do on %s", code)
		}
	}
	page, err := os.ReadFile("../../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range append(errorCodes(t), decisions...) {
		if !explained(string(page), code) {
			t.Errorf("docs/api.md has no row for %s that says what it means and what to do", code)
		}
	}
}

// explained tells whether a table's row has the code in a cell of its own, and two cells of words after it.
func explained(page, code string) bool {
	cells := `\| ` + "`" + regexp.QuoteMeta(code) + "`" + ` \| [^|\n]{12,} \| [^|\n]{5,} \|\n`
	return regexp.MustCompile(cells).MatchString(page)
}

// TestCallsAreOnThePage: docs/api.md names every call. The last part alone is enough in a row that names several.
func TestCallsAreOnThePage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/api.md")
	if err != nil {
		t.Fatalf("read the page of calls: %v", err)
	}
	for _, r := range wire.Routes() {
		if !isOnPage(string(page), r.Path) {
			t.Errorf("docs/api.md names no call %s: say there what it is for", r.Path)
		}
	}
	for path, want := range map[string]bool{"org/keys": true, "org/key": false, "operator/orgs/*": true, "operator/org/*": false, "nothing": false} {
		if isOnPage(string(page), path) != want {
			t.Errorf("%q is on docs/api.md: not %v", path, want)
		}
	}
}

// isOnPage tells whether a page says what to send to a path.
func isOnPage(page, path string) bool {
	whole := strings.ReplaceAll(regexp.QuoteMeta(path), `\*`, `\{\w+\}`)
	last := regexp.QuoteMeta(path[strings.LastIndex(path, "/")+1:])
	return regexp.MustCompile("(?m)(?:(?:GET|POST|PUT|PATCH|DELETE) /?" + whole + "(?:[^\\w/-]|$)|`\\.\\.\\./" + last + "`)").MatchString(page)
}

func TestExplained(t *testing.T) {
	for row, want := range map[string]bool{
		"| 404 | `x_y` | there is none of that kind | make one |\n": true,
		"| `x_y` | there is none of that kind | make one |\n":       true,
		"| 404 | `x_y` | there is none of that kind |  |\n":         false,
		"| 404 | `x_y` | there is none of that kind |\n":            false,
		"| 404 | `x_yz` | there is none of that kind | make one |":  false,
		"there is `x_y`, so make one":                               false,
	} {
		if explained(row, "x_y") != want {
			t.Errorf("%q: not %v", row, want)
		}
	}
}
