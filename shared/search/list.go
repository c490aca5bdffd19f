package search

import (
	"fmt"
	"slices"
	"strings"
)

// Coverage is a table of the rules, what their mutants do, and which instance catches them.
func (m *Model) Coverage() string {
	by := make([][]string, len(m.Rules))
	for _, in := range m.Instances(true) {
		for _, r := range in.Mutants {
			by[r] = append(by[r], "`"+in.Name+"`")
		}
	}
	for _, in := range m.Instances(true) {
		for _, r := range in.Harmless {
			by[r] = append(by[r], "nothing, rightly, in `"+in.Name+"`")
		}
	}
	var text strings.Builder
	text.WriteString("| rule | mutant | caught in |\n|---|---|---|\n")
	for r, rule := range m.Rules {
		fmt.Fprintf(&text, "| %s | %s | %s |\n", rule.Of, rule.Mutant, strings.Join(by[r], ", "))
	}
	return text.String()
}

// Overview is a table of the instances, the large ones last.
func (m *Model) Overview() string {
	var text strings.Builder
	fmt.Fprintf(&text, "| instance | what | %s | what may happen |\n|---|---|---|---|\n", m.Head)
	for _, in := range m.Instances(true) {
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", in.Name, in.About, in.Row, strings.Join(in.Happens, ", "))
	}
	return text.String()
}

// Gaps are rules that no instance breaks, witnesses that none wants, and instances that want to see nothing, or have two names alike.
func (m *Model) Gaps() (gaps []string) {
	var broken []Rule
	var wanted []Witness
	names := map[string]bool{}
	for _, in := range m.Instances(true) {
		broken = slices.Concat(broken, in.Mutants, in.Harmless)
		wanted = append(wanted, in.Wants...)
		if len(in.Wants) == 0 {
			gaps = append(gaps, in.Name+" wants to see nothing: it may be empty")
		}
		if names[in.Name] {
			gaps = append(gaps, "two instances are called "+in.Name)
		}
		names[in.Name] = true
	}
	for r, text := range m.Rules {
		if text.Of == "" || text.Mutant == "" || !slices.Contains(broken, Rule(r)) {
			gaps = append(gaps, fmt.Sprintf("rule %d (%s) has no text, or is broken nowhere", r, text.Mutant))
		}
	}
	for w, text := range m.Witnesses {
		if text == "" || !slices.Contains(wanted, Witness(w)) {
			gaps = append(gaps, fmt.Sprintf("witness %d (%s) has no text, or is wanted nowhere", w, text))
		}
	}
	return gaps
}
