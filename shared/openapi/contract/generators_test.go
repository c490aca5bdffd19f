package contract_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"machineid/shared/openapi"
)

// tree reads the document as plain JSON: what a generator sees, not what a library makes of it.
func tree(t *testing.T) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(openapi.Document(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// aside are keywords that may stand beside allOf, anyOf and $ref: nothing is lost with them.
var aside = []string{"description"}

// misread lists what generators of clients refuse, drop or get wrong in a document (shared/openapi/DESIGN.md, O6).
func misread(doc map[string]any) (faults []string) {
	components, _ := doc["components"].(map[string]any)
	owners := map[string][]string{}
	for kind, one := range components {
		named, _ := one.(map[string]any)
		for name := range named {
			owners[strings.ToLower(name)] = append(owners[strings.ToLower(name)], kind+"/"+name)
		}
	}
	for _, all := range owners {
		if len(all) > 1 {
			slices.Sort(all)
			faults = append(faults, fmt.Sprint("one name: ", all))
		}
	}
	schemas, _ := components["schemas"].(map[string]any)
	for name, one := range schemas {
		faults = append(faults, misreadSchema(one, name, strings.HasSuffix(name, "Body") || name == "WayOut")...)
	}
	delete(components, "schemas")
	faults = append(faults, misreadPlaces(doc, "", false)...)
	components["schemas"] = schemas
	slices.Sort(faults)
	return faults
}

// misreadPlaces judges the schemas that parameters, headers and bodies have.
func misreadPlaces(node any, at string, sent bool) (faults []string) {
	switch node := node.(type) {
	case map[string]any:
		for name, below := range node {
			if name == "schema" {
				faults = append(faults, misreadSchema(below, at, sent)...)
				if o, _ := below.(map[string]any); o["const"] != nil && node["required"] != true {
					faults = append(faults, at+": always sent by some, being one value")
				}
				continue
			}
			faults = append(faults, misreadPlaces(below, at+"/"+name, sent || name == "parameters" || name == "requestBody")...)
		}
	case []any:
		for _, below := range node {
			faults = append(faults, misreadPlaces(below, at, sent)...)
		}
	}
	return faults
}

// misreadSchema judges a schema and those in it, but not its rules (if, then, dependentSchemas, ...): generators pass over them. sent tells that clients send it: they may know all its values.
func misreadSchema(schema any, at string, sent bool) (faults []string) {
	s, ok := schema.(map[string]any)
	if !ok {
		return []string{at + ": no object: " + fmt.Sprint(schema)}
	}
	fault := func(what string) { faults = append(faults, at+": "+what) }
	for _, whole := range []string{"$ref", "allOf", "anyOf"} {
		if s[whole] == nil {
			continue
		}
		for name := range s {
			if name != whole && !slices.Contains(aside, name) {
				fault(name + " beside " + whole)
			}
		}
	}
	if s["oneOf"] != nil {
		fault("a union that nothing tells apart")
	}
	kinds := []any{s["type"]}
	if list, ok := s["type"].([]any); ok {
		if kinds = list; len(list) != 2 || list[1] != "null" {
			fault(fmt.Sprint("more than one type: ", list))
		}
	}
	switch pattern, _ := s["pattern"].(string); {
	case s["type"] == nil && s["$ref"] == nil && s["allOf"] == nil && s["anyOf"] == nil:
		fault("no type")
	case kinds[0] == "object" && len(kinds) > 1:
		fault("an object or null by type: say anyOf")
	case kinds[0] == "integer" && s["format"] != "int64", kinds[0] == "number" && s["format"] != "double":
		fault("a number without its size")
	case kinds[0] == "array" && s["items"] == nil:
		fault("items of no type")
	case kinds[0] == "object" && s["properties"] == nil && s["additionalProperties"] == nil:
		fault("an object of nothing")
	case s["enum"] != nil && !sent:
		fault("values that end, in an answer")
	case s["x-extensible-enum"] != nil && (sent || kinds[0] != "string"):
		fault("values that do not end, of what is no text in an answer")
	case strings.Contains(pattern, "(?"):
		fault("a pattern that looks around")
	case strings.HasPrefix(pattern, `^\d{4}-`) && s["format"] != "date-time":
		fault("a time that is a text")
	}
	if _, err := regexp.Compile(fmt.Sprint(s["pattern"])); err != nil {
		fault("a pattern that Go does not read")
	}
	faults = append(faults, misreadWithin(s, at, sent)...)
	return faults
}

func misreadWithin(s map[string]any, at string, sent bool) (faults []string) {
	properties, _ := s["properties"].(map[string]any)
	required := toSlice(s["required"])
	for name, one := range properties {
		if strings.EqualFold(name, at) {
			faults = append(faults, at+": a property of its own name")
		}
		if o, _ := one.(map[string]any); o["const"] != nil && !slices.Contains(required, name) {
			faults = append(faults, at+"."+name+": always sent by some, being one value")
		}
		faults = append(faults, misreadSchema(one, at+"."+name, sent)...)
		if o, _ := one.(map[string]any); o["properties"] != nil {
			faults = append(faults, at+"."+name+": an object without a name")
		}
	}
	for _, name := range slices.Sorted(slices.Values(required)) {
		if properties[name] == nil {
			faults = append(faults, at+": required, and unknown: "+name)
		}
	}
	if s["items"] != nil {
		faults = append(faults, misreadSchema(s["items"], at+"[]", sent)...)
	}
	for _, several := range []string{"allOf", "anyOf"} {
		parts, _ := s[several].([]any)
		for _, one := range parts {
			if o, _ := one.(map[string]any); several == "anyOf" && o["type"] == "null" {
				continue
			}
			faults = append(faults, misreadSchema(one, at, sent)...)
		}
		if several == "anyOf" && len(parts) > 0 && (len(parts) != 2 || !cmp.Equal(parts[1], map[string]any{"type": "null"})) {
			faults = append(faults, at+": anyOf for something else than null")
		}
	}
	return faults
}

func toSlice(list any) (names []string) {
	all, _ := list.([]any)
	for _, one := range all {
		names = append(names, fmt.Sprint(one))
	}
	return names
}

// TestGenerators: code that is made from the document is typed, and takes what is added later.
func TestGenerators(t *testing.T) {
	for _, fault := range misread(tree(t)) {
		t.Error(fault)
	}
}

// TestErrorCodes: every answer of an error says which it can be, and every error is in one.
func TestErrorCodes(t *testing.T) {
	told := map[string]bool{}
	var walk func(node any, at string)
	walk = func(node any, at string) {
		m, _ := node.(map[string]any)
		if content, _ := m["content"].(map[string]any); content != nil {
			text, _ := json.Marshal(content)
			of := strings.Contains(string(text), `"#/components/schemas/ErrorAnswer"`)
			for _, code := range toSlice(m["x-error-codes"]) {
				told[code] = true
			}
			if of != (m["x-error-codes"] != nil) && !strings.Contains(string(text), `/Decision"`) {
				t.Errorf("%s: an error without its codes, or codes without an error", at)
			}
		}
		for name, below := range m {
			walk(below, at+"/"+name)
		}
	}
	walk(tree(t), "")
	told["upgrade_not_finished"] = true // no call is newer than the first release yet; one that is has it among its answers
	if diff := cmp.Diff(slices.Sorted(slices.Values(listed(load(t), "ErrorCode"))), slices.Sorted(maps.Keys(told))); diff != "" {
		t.Errorf("codes of errors (-listed +in answers):\n%s", diff)
	}
}

// TestGeneratorsTell is the proof that TestGenerators can fail.
func TestGeneratorsTell(t *testing.T) {
	schema := func(doc map[string]any, name string) map[string]any {
		components, _ := doc["components"].(map[string]any)
		schemas, _ := components["schemas"].(map[string]any)
		one, _ := schemas[name].(map[string]any)
		if one == nil {
			t.Fatalf("no schema %s", name)
		}
		return one
	}
	property := func(doc map[string]any, name, of string) map[string]any {
		properties, _ := schema(doc, of)["properties"].(map[string]any)
		one, _ := properties[name].(map[string]any)
		if one == nil {
			t.Fatalf("no %s of %s", name, of)
		}
		return one
	}
	for want, change := range map[string]func(doc map[string]any){
		"one name": func(doc map[string]any) {
			components, _ := doc["components"].(map[string]any)
			responses, _ := components["responses"].(map[string]any)
			responses["deviceID"] = responses["BadRequest"]
		},
		"no object": func(doc map[string]any) {
			properties, _ := schema(doc, "BatchItem")["properties"].(map[string]any)
			properties["error"] = false
		},
		"beside allOf":       func(doc map[string]any) { schema(doc, "OrgAnswer")["required"] = []any{} },
		"beside $ref":        func(doc map[string]any) { property(doc, "deviceId", "Device")["type"] = "string" },
		"a union":            func(doc map[string]any) { schema(doc, "RevokeBatchBody")["oneOf"] = []any{} },
		"no type":            func(doc map[string]any) { delete(property(doc, "handler", "RevokedDevice"), "type") },
		"more than one type": func(doc map[string]any) { property(doc, "name", "Device")["type"] = []any{"string", "integer"} },
		"say anyOf":          func(doc map[string]any) { schema(doc, "Metadata")["type"] = []any{"object", "null"} },
		"its size":           func(doc map[string]any) { delete(property(doc, "index", "Propagation"), "format") },
		"items of no type":   func(doc map[string]any) { delete(property(doc, "deviceIds", "RevokeBatchBody"), "items") },
		"[]: no type": func(doc map[string]any) {
			property(doc, "deviceIds", "ValidateBatchBody")["items"] = map[string]any{"description": "An id."}
		},
		"of nothing":          func(doc map[string]any) { delete(schema(doc, "PortalBody"), "additionalProperties") },
		"values that end":     func(doc map[string]any) { schema(doc, "DecisionCode")["enum"] = []any{"ALLOW"} },
		"that do not end":     func(doc map[string]any) { property(doc, "scope", "CreateKeyBody")["x-extensible-enum"] = []any{} },
		"looks around":        func(doc map[string]any) { schema(doc, "KeyID")["pattern"] = "^(?=a)" },
		"Go does not read":    func(doc map[string]any) { schema(doc, "KeyID")["pattern"] = "^(a" },
		"is a text":           func(doc map[string]any) { delete(schema(doc, "Time"), "format") },
		"required, and unkno": func(doc map[string]any) { schema(doc, "Device")["required"] = []any{"deviceID"} },
		"of its own name": func(doc map[string]any) {
			properties, _ := schema(doc, "Audit")["properties"].(map[string]any)
			properties["audit"] = map[string]any{"type": "string"}
		},
		"always sent":    func(doc map[string]any) { property(doc, "scope", "RevokeBatchBody")["const"] = "all_active" },
		"without a name": func(doc map[string]any) { property(doc, "createdAt", "Device")["properties"] = map[string]any{} },
		"else than null": func(doc map[string]any) {
			property(doc, "metadata", "Device")["anyOf"] = []any{map[string]any{"type": "string"}}
		},
		"DoubtHeader: always": func(doc map[string]any) {
			components, _ := doc["components"].(map[string]any)
			headers, _ := components["headers"].(map[string]any)
			header, _ := headers["DoubtHeader"].(map[string]any)
			header["schema"] = map[string]any{"type": "string", "const": "yes"}
		},
		"CacheHeader: values": func(doc map[string]any) { // a header's
			components, _ := doc["components"].(map[string]any)
			headers, _ := components["headers"].(map[string]any)
			cache, _ := headers["CacheHeader"].(map[string]any)
			cache["schema"] = map[string]any{"type": "string", "enum": []any{"hit"}}
		},
	} {
		doc := tree(t)
		change(doc)
		if faults := misread(doc); !strings.Contains(strings.Join(faults, "\n"), want) {
			t.Errorf("%q is not found: %q", want, faults)
		}
	}
}
