package main

import (
	"fmt"
	"strings"
)

// coverage is a table of the rules, what their mutants do, and which instance catches them.
func coverage() string {
	by := [rules]string{}
	for _, in := range instances(true) {
		for _, m := range in.mutants {
			if by[m] != "" {
				by[m] += ", "
			}
			by[m] += "`" + in.name + "`"
		}
	}
	var text strings.Builder
	text.WriteString("| rule | mutant | caught in |\n|---|---|---|\n")
	for r := range rules {
		fmt.Fprintf(&text, "| %s | %s | %s |\n", ruleText[r].of, ruleText[r].mutant, by[r])
	}
	return text.String()
}

// overview is a table of the instances, the large ones last.
func overview() string {
	var text strings.Builder
	text.WriteString("| instance | what | edges, leaders, changes | what may happen |\n|---|---|---|---|\n")
	for _, in := range instances(true) {
		fmt.Fprintf(&text, "| `%s` | %s | %d, %d, %d | %s |\n",
			in.name, in.about, in.edges, in.leaders, in.last(), strings.Join(in.happens(), ", "))
	}
	return text.String()
}

// happens names what is on in an instance.
func (in *instance) happens() (list []string) {
	for _, f := range []struct {
		on   bool
		name string
	}{
		{in.quick, "quick"},
		{in.rounds, "rounds"},
		{in.breaks, "breaks"},
		{in.inFlight, "in flight"},
		{in.restarts, "restarts"},
		{in.record, "record"},
		{in.lists, "lists"},
		{in.resumes, "resumes"},
		{in.gives, "gives"},
		{in.hellos, "hellos"},
		{in.ring, "ring"},
		{in.lags, "lags"},
		{in.follows, "follows"},
		{in.swaps, "swaps"},
		{in.overtake, "overtake"},
		{in.halves, "halves"},
		{in.request, "request"},
		{in.late, "late"},
		{in.ttl[0] > 0, "expiry"},
		{in.rates, "rates"},
		{in.restoredBy > 0, "restore"},
		{in.twins, "twins"},
	} {
		if f.on {
			list = append(list, f.name)
		}
	}
	return list
}
