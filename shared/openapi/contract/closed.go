package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The document's own extensions. Generators pass over them, which leaves their clients open to what is added later; contract does not.
const (
	values = "x-extensible-enum" // The values that a text in an answer has today.
	codes  = "x-error-codes"     // What `error` can be in a response.
)

// closed returns the document with every object in an answer closed: what no part of its schema names is refused, be it a field, a value or the code of an error.
func closed(text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	limitValues(doc)
	components, _ := doc["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	for name, schema := range schemas {
		if !strings.HasSuffix(name, "Body") { // those are requests', in which unknown names are ignored
			closeWithin(schema)
		}
	}
	for _, name := range batches {
		loosen(schemas[name])
	}
	closeAnswers(doc)
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write the closed document: %w", err)
	}
	return out, nil
}

// closeAnswers closes the bodies of all responses below node.
func closeAnswers(node any) {
	switch node := node.(type) {
	case map[string]any:
		if responses, ok := node["responses"].(map[string]any); ok {
			for _, one := range responses {
				closeBody(one)
			}
		}
		for _, below := range node {
			closeAnswers(below)
		}
	case []any:
		for _, below := range node {
			closeAnswers(below)
		}
	}
}

func closeBody(response any) {
	r, _ := response.(map[string]any)
	content, _ := r["content"].(map[string]any)
	body, _ := content["application/json"].(map[string]any)
	schema := body["schema"]
	if schema == nil {
		return
	}
	closeWithin(schema)
	if list := r[codes]; list != nil {
		only := map[string]any{"required": []any{"error"}, "properties": map[string]any{"error": map[string]any{"enum": list}}}
		schema = map[string]any{"allOf": []any{schema, only}}
	}
	body["schema"] = shut(schema)
}

// shut closes an object, whatever it is put together from.
func shut(schema any) any {
	return map[string]any{"allOf": []any{schema}, "unevaluatedProperties": false}
}

// closeWithin closes the objects that a schema's properties and items are, but not the schema itself, which may be a part of another.
func closeWithin(schema any) {
	s, _ := schema.(map[string]any)
	for _, parts := range []string{"allOf", "oneOf", "anyOf"} {
		list, _ := s[parts].([]any)
		for _, one := range list {
			closeWithin(one)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, one := range properties {
		if o, ok := one.(map[string]any); ok {
			closeWithin(o)
			properties[name] = shut(o)
		}
	}
	if items, ok := s["items"].(map[string]any); ok {
		closeWithin(items)
		s["items"] = shut(items)
	}
}

// limitValues makes the values that there are today the only ones.
func limitValues(node any) {
	switch node := node.(type) {
	case map[string]any:
		if list, ok := node[values].([]any); ok {
			if kinds, _ := node["type"].([]any); slices.Contains(kinds, any("null")) {
				list = append(slices.Clone(list), nil)
			}
			node["enum"] = list
		}
		for _, below := range node {
			limitValues(below)
		}
	case []any:
		for _, below := range node {
			limitValues(below)
		}
	}
}

// batches are bodies whose ids the document calls texts, so that clients are typed. What is none is no fault of the request: it is answered in its place.
var batches = []string{"ValidateBatchBody", "RevokeBatchBody", "UnrevokeBatchBody"}

func loosen(schema any) {
	s, _ := schema.(map[string]any)
	properties, _ := s["properties"].(map[string]any)
	ids, _ := properties["deviceIds"].(map[string]any)
	ids["items"] = map[string]any{}
}
