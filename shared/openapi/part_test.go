package openapi

import (
	"encoding/json"
	"strings"
	"testing"

	"machineid/shared/wire"
)

// TestPartOfAll: what a part keeps has its order and form.
func TestPartOfAll(t *testing.T) {
	if got := string(part(document, func(*wire.Route) bool { return true })); got != string(document) {
		for i, line := range strings.Split(got, "\n") {
			if whole := strings.Split(string(document), "\n"); i >= len(whole) || line != whole[i] {
				t.Fatalf("line %d of the part with all is %q", i+1, line)
			}
		}
		t.Fatal("the part with all is shorter than the document")
	}
}

// TestPart: it has the calls that are answered, no others, and all that these refer to, and nothing besides.
func TestPart(t *testing.T) {
	page := New(func(r *wire.Route) bool { return !r.Operator })
	var doc struct {
		Paths      map[string]json.RawMessage
		Tags       []struct{ Name string }
		Components map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(page.Text(), &doc); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{Path: true}
	for _, r := range wire.Routes() {
		if !r.Operator {
			want[wire.Base+r.Path] = true
		}
	}
	for path := range doc.Paths {
		if !want[path] {
			t.Errorf("%s is not answered", path)
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	for _, tag := range doc.Tags {
		if tag.Name == "operators" || tag.Name == "cluster" {
			t.Errorf("tag %s has no call", tag.Name)
		}
	}
	text := string(page.Text())
	for kind, all := range doc.Components {
		for name := range all {
			if at := "#/components/" + kind + "/" + name; kind != "securitySchemes" && !strings.Contains(text, at) && !strings.Contains(strings.Join(alone, " "), kind+"/"+name) {
				t.Errorf("nothing refers to %s", at)
			}
		}
	}
	for _, m := range reference.FindAllStringSubmatch(text, -1) {
		if kind, name, _ := strings.Cut(m[1], "/"); doc.Components[kind][name] == nil {
			t.Errorf("there is no %s", m[1])
		}
	}
	if doc.Components["schemas"]["Member"] != nil || doc.Components["schemas"]["Device"] == nil {
		t.Error("components of operators' calls are kept, or others left out")
	}
}

// TestPartsDiffer: each has an entity tag of its own, so no cache takes one for the other.
func TestPartsDiffer(t *testing.T) {
	_, all := New(nil).made()
	_, some := New(func(r *wire.Route) bool { return !r.Operator }).made()
	if all == some {
		t.Errorf("both are %s", all)
	}
}
