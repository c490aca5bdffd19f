// Model searches small instances of the link's protocol: every order of every step
// that edges, leaders, the network and time can take, with time going on for ever. See
// DESIGN.md for what is searched, what is not, and how far a search can be trusted.
//
// It ends with status 1 if an answer of validate is wrong, if a mutant (the protocol
// with one rule broken) is not caught, if something that must happen for a search to
// mean anything never does, or if a search was cut short.
package main

import (
	"os"

	"machineid/shared/search"
)

func main() { os.Exit(search.Main(model())) }

// model is the link's protocol, as package search takes it.
func model() *search.Model {
	m := &search.Model{
		Witnesses: witnessText[:], Head: "edges, leaders, changes",
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
