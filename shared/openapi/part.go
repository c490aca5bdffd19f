package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"machineid/shared/wire"
)

// alone are components that no operation names, and that stay: they are answers to what is no operation.
var alone = []string{"responses/NotFound", "responses/MethodNotAllowed", "responses/DecisionMethodNotAllowed"}

// part returns the document with the calls of some routes, and with the tags and components that these need. The order and the form of what
// stays are those of the document. It panics where that cannot be read, which tests hold.
func part(document []byte, answers func(*wire.Route) bool) []byte {
	root := read(document)
	paths := read(root.get("paths"))
	paths = slices.DeleteFunc(paths, func(m member) bool {
		route := wire.Match([]byte(strings.NewReplacer("{", "", "}", "").Replace(m.name)))
		return route != nil && !answers(route)
	})
	root.set("paths", paths.text("  "))
	root.set("tags", tagged(root.get("tags"), root.get("paths")))
	root.set("components", needed(read(root.get("components")), root.get("paths")))
	return append(root.text(""), '\n')
}

// tagged returns those of the tags that a path has.
func tagged(tags, paths json.RawMessage) json.RawMessage {
	var all []json.RawMessage
	must(json.Unmarshal(tags, &all))
	used := map[string]bool{}
	for _, path := range read(paths) {
		for _, method := range read(path.value) {
			var op struct{ Tags []string }
			must(json.Unmarshal(method.value, &op))
			for _, tag := range op.Tags {
				used[tag] = true
			}
		}
	}
	var lines []string
	for _, tag := range all {
		var t struct{ Name string }
		if must(json.Unmarshal(tag, &t)); used[t.Name] {
			lines = append(lines, "    "+string(tag))
		}
	}
	return json.RawMessage("[\n" + strings.Join(lines, ",\n") + "\n  ]")
}

// reference finds what a piece of the document refers to.
var reference = regexp.MustCompile(`"#/components/([A-Za-z]+/[A-Za-z]+)"`)

// needed returns those of the components that the paths refer to, also through others. Security schemes have no references, and stay.
func needed(kinds object, paths json.RawMessage) json.RawMessage {
	texts := map[string]json.RawMessage{}
	for _, kind := range kinds {
		for _, one := range read(kind.value) {
			texts[kind.name+"/"+one.name] = one.value
		}
	}
	used := map[string]bool{}
	var use func(text json.RawMessage)
	use = func(text json.RawMessage) {
		for _, m := range reference.FindAllSubmatch(text, -1) {
			if name := string(m[1]); !used[name] {
				used[name] = true
				use(texts[name])
			}
		}
	}
	use(paths)
	for _, name := range alone {
		used[name] = true
		use(texts[name])
	}
	for i, kind := range kinds {
		if kind.name == "securitySchemes" {
			continue
		}
		left := slices.DeleteFunc(read(kind.value), func(m member) bool { return !used[kind.name+"/"+m.name] })
		kinds[i].value = left.text("    ")
	}
	return kinds.text("  ")
}

// object is a JSON object whose members keep their order and their form.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

func read(text json.RawMessage) (o object) {
	dec := json.NewDecoder(bytes.NewReader(text))
	_, err := dec.Token()
	must(err)
	for dec.More() {
		name, err := dec.Token()
		must(err)
		m := member{name: fmt.Sprint(name)}
		must(dec.Decode(&m.value))
		o = append(o, m)
	}
	return o
}

func (o object) get(name string) json.RawMessage {
	return o[slices.IndexFunc(o, func(m member) bool { return m.name == name })].value
}

func (o object) set(name string, value json.RawMessage) {
	o[slices.IndexFunc(o, func(m member) bool { return m.name == name })].value = value
}

// text writes the object, a member on a line, as the document has it at this depth.
func (o object) text(indent string) json.RawMessage {
	lines := make([]string, 0, len(o))
	for _, m := range o {
		name, err := json.Marshal(m.name)
		must(err)
		lines = append(lines, indent+"  "+string(name)+": "+string(m.value))
	}
	return json.RawMessage("{\n" + strings.Join(lines, ",\n") + "\n" + indent + "}")
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("openapi.json: %v", err))
	}
}
