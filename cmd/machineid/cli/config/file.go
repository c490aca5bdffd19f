package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// entry is one line of a file of settings.
type entry struct {
	name, value string
	origin      string // FILE:LINE
}

// parse reads lines of the form "name = value". Blank lines and those whose first character is # mean nothing; a # further on is
// part of the value. Faults never repeat the text of a line, which may hold a secret.
func parse(path string, text []byte) (entries []entry, faults []error) {
	if !utf8.Valid(text) {
		return nil, []error{&faultError{origin: path, problem: "not a text in UTF-8", remedy: "write one name = value a line"}}
	}
	first := map[string]int{}
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		origin := fmt.Sprintf("%s:%d", path, number)
		fault := func(problem, remedy string) {
			faults = append(faults, &faultError{origin: origin, problem: problem, remedy: remedy})
		}
		name, value, found := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !found || name == "":
			fault("not a setting", "write name = value, or begin the line with # if it is a comment")
		case strings.HasPrefix(name, "-"):
			fault("the name has dashes in front", "write "+strings.TrimLeft(name, "-")+" = value")
		case first[name] != 0:
			fault(name+" is set twice", fmt.Sprintf("remove this line or line %d", first[name]))
		case len(value) > 1 && strings.ContainsRune(`"'`, rune(value[0])) && value[len(value)-1] == value[0]:
			first[name] = number
			fault("the value is in quotes, which would be part of it", "write it without them")
		default:
			first[name] = number
			entries = append(entries, entry{name: name, value: value, origin: origin})
		}
	}
	return entries, faults
}
