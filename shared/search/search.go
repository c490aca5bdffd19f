// Package search visits every state of small instances of a protocol, in every order of every step, and so do its mutants: the protocol with
// one rule broken, each of which must be caught. A model of a protocol is a list of instances; see shared/link/model, raftstore/model and authority/hub/model.
//
// States are compared by 64-bit hashes (hash compaction), so a search may miss what only one of two states of one hash leads to: among n
// states the chance that there is any such pair is about n²/2^63.
package search

// Action names a step, for a trace.
type Action struct {
	What string
	A, B int8
}

// Successor is a state that one action leads to.
type Successor[S comparable] struct {
	By    Action
	State S
}

// System is a protocol that takes steps, under its rules or under one mutant. It is used by one goroutine.
type System[S comparable] interface {
	// Step returns every state that one step leads to from s, which is valid until the next call, and what is wrong with s or with a step
	// from it, "" if nothing is.
	Step(s *S) (next []Successor[S], wrong string)
	// Seen are the witnesses of all steps so far, a bit each.
	Seen() uint64
}

// Space is what one search covers. S has fields of one byte only, at most 512, so that it can be hashed and packed as it lies in memory.
type Space[S comparable] struct {
	Starts []S
	System func() System[S] // a new one for each goroutine
	// Alike exchange names that make no difference. States that differ by one of these only count as one.
	Alike []func(s *S) S
}

// Rule is one thing that a protocol does, by its number; a mutant does not.
type Rule uint8

// Witness is something that must happen in an instance, or its search shows little.
type Witness uint8

// Model is a protocol's instances.
type Model struct {
	Rules     []RuleText
	Witnesses []string // what each says, at most 64
	// Head are the columns of Overview between an instance's name and what may happen in it.
	Head string
	// Instances are all that is searched: the small ones, and with full the large ones too.
	Instances func(full bool) []*Instance
}

// RuleText says of a rule which invariant it belongs to, and what its mutant does.
type RuleText struct{ Of, Mutant string }

// Instance is one search and the searches of its mutants.
type Instance struct {
	Name, About string
	Row         string   // its columns under Head
	Happens     []string // what is on
	Wants       []Witness
	Mutants     []Rule
	// Harmless are rules that can be broken without harm here, which a search to its end shows each time.
	Harmless []Rule
	// Space with one rule broken, or with none: len(Rules).
	Space func(off Rule) Searchable
}

// Searchable is a Space of any states.
type Searchable interface {
	Explore(run Run) Result
	Trace(run Run) []string
}

func (m *Model) whole() Rule { return Rule(len(m.Rules)) }

// find returns the instance of a name, large or not, or nil.
func (m *Model) find(name string) *Instance {
	for _, in := range m.Instances(true) {
		if in.Name == name {
			return in
		}
	}
	return nil
}
