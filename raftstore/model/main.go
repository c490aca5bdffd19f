// Model searches small clusters of stores under Raft: every order of every step that nodes, lost disks, people and a second cluster can take. See
// DESIGN.md for what is searched, and what is not.
//
// It ends with status 1 if something that was acknowledged can be lost, if a mutant (the rules with one broken) is not caught, if something
// that must happen for a search to mean anything never does, or if a search was cut short.
package main

import (
	"os"

	"machineid/shared/search"
)

func main() { os.Exit(search.Main(model())) }

// model is the lives of stores, as package search takes it.
func model() *search.Model {
	m := &search.Model{
		Witnesses: witnessText[:], Head: "voters, losses, terms, entries",
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
