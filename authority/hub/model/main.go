// Model searches the rules of time (I11): every order of every step that clocks, leaders, the network and edges can take in small instances. See
// DESIGN.md for what is searched, and what is not.
//
// It ends with status 1 if a time goes back, if an edge is behind what the authority has told, if a mutant (the rules with one broken) is not
// caught, if something that must happen for a search to mean anything never does, or if a search was cut short.
package main

import (
	"os"

	"machineid/shared/search"
)

func main() { os.Exit(search.Main(model())) }

// model is the rules of time, as package search takes it.
func model() *search.Model {
	m := &search.Model{
		Witnesses: witnessText[:], Head: "edges, D, ticks, steps",
		Instances: func(full bool) (list []*search.Instance) {
			for _, in := range instances(full) {
				list = append(list, in.searched())
			}
			return list
		},
	}
	for _, r := range ruleText {
		m.Rules = append(m.Rules, search.RuleText{Of: r.of, Mutant: r.mutant})
	}
	return m
}
