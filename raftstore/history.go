package raftstore

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// reignsKept is how many reigns a state remembers: the newest.
const reignsKept = 1024

// ReignID is 16 random bytes that a leader makes when its term begins. The zero ReignID names none.
type ReignID [16]byte

// Reign is what one leader wrote in one term: the entries from First on, up to the First of the next one. A term alone would not do:
// a node whose folder was put back to an older copy may use a term twice, and an index too.
type Reign struct {
	First uint64 // index of the entry that begins it: the barrier of its term
	Term  uint64
	ID    ReignID // zero: commands came ahead of a barrier, so nobody's
}

// Verdict is what a node's history says of another's word on who wrote an entry.
type Verdict uint8

// Verdicts of [Store.Judge].
const (
	// VerdictUnknown: this node can tell neither. It may be behind, or deposed; or the other has seen what is not in this history.
	VerdictUnknown Verdict = iota
	// VerdictSame: the entry is in this node's history, and of that reign.
	VerdictSame
	// VerdictOther: in this node's history the entry is of another reign, or that reign wrote none at this index.
	VerdictOther
)

func (v Verdict) String() string {
	return [...]string{VerdictUnknown: "unknown", VerdictSame: "same", VerdictOther: "other"}[v]
}

// ReignAt is the reign that wrote index, or would have if it is beyond what this node has applied; false if that is older than the
// 1,024 reigns that are remembered. It costs a binary search in memory.
func (s *Store) ReignAt(index uint64) (Reign, bool) {
	reigns := s.fsm.history()
	i := reignOf(reigns, index)
	if i < 0 {
		return Reign{}, false
	}
	return reigns[i], true
}

// Judge says whether the reign id of term wrote the entry at index, by what this node has applied (R15). Every node that has applied
// index says the same. It costs a walk over 1,024 reigns in memory at most.
func (s *Store) Judge(index, term uint64, id ReignID) Verdict {
	return judge(s.fsm.history(), s.Applied().Index, index, term, id)
}

func judge(reigns []Reign, applied, index, term uint64, id ReignID) Verdict {
	at := reignOf(reigns, index)
	named := -1
	for i, r := range reigns {
		if r.Term == term && r.ID == id && id != (ReignID{}) {
			named = i
		}
	}
	switch {
	case named >= 0 && named != at:
		return VerdictOther // it had not begun, or was over
	case index > applied || at < 0:
		return VerdictUnknown
	case named == at:
		return VerdictSame
	default:
		return VerdictOther
	}
}

// reignOf returns the position of the reign that wrote index, -1 if it is not remembered.
func reignOf(reigns []Reign, index uint64) int {
	return sort.Search(len(reigns), func(i int) bool { return reigns[i].First > index }) - 1
}

// history is what was applied, oldest first. It is never changed in place. Whoever asks for Applied as well asks for that afterwards or
// finds a history that says the same up to there: reigns begin before they are visible.
func (f *fsm) history() []Reign {
	if list := f.reigns.Load(); list != nil {
		return *list
	}
	return nil
}

// began reports whether the reign id of term has begun, in what is visible.
func (f *fsm) began(term uint64, id ReignID) bool {
	list := f.history()
	if len(list) == 0 {
		return false
	}
	newest := list[len(list)-1]
	return newest.Term == term && newest.ID == id && f.applied.Load().Index >= newest.First
}

// learnReign writes down who wrote an entry, where a reign begins with it (R15). A term's first barrier of its own begins one: further ones
// are repetitions, and one of another term was sent before the leadership changed. Commands ahead of a barrier are nobody's, for
// they must not count to the reign before.
func (f *fsm) learnReign(b *pebble.Batch, l *raft.Log, bar barrier, commands int) {
	reigns := f.history()
	var newest Reign
	if n := len(reigns); n > 0 {
		newest = reigns[n-1]
	}
	next := Reign{First: l.Index, Term: l.Term}
	switch {
	case bar.reign != (ReignID{}) && bar.term == l.Term && (newest.Term != l.Term || newest.ID == ReignID{}):
		next.ID = bar.reign
	case commands > 0 && newest.Term != l.Term:
	default:
		return
	}
	f.set(b, reignKey(next.First), next.encode())
	drop := max(0, len(reigns)+1-reignsKept)
	for _, r := range reigns[:drop] {
		if err := b.Delete(reignKey(r.First), nil); err != nil {
			f.fault.fail(fmt.Errorf("apply entry %d: forget the reign that began at %d: %w", l.Index, r.First, err))
		}
	}
	list := append(append(make([]Reign, 0, len(reigns)+1-drop), reigns[drop:]...), next)
	f.reigns.Store(&list)
}

func reignKey(first uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, len(keyReign)+8), keyReign...), first)
}

// encode returns the value under reignKey: term 8B, id 16B.
func (r Reign) encode() []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 24), r.Term), r.ID[:]...)
}

func readReigns(r pebble.Reader) (list []Reign, err error) {
	upper := append(append([]byte(nil), keyReign[:len(keyReign)-1]...), keyReign[len(keyReign)-1]+1)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: keyReign, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil && (len(it.Key()) != len(keyReign)+8 || len(v) != 24) {
			err = fmt.Errorf("%x is %x", it.Key(), v)
		}
		if err != nil {
			_ = it.Close() // the first error says more
			return nil, err
		}
		list = append(list, Reign{
			First: binary.BigEndian.Uint64(it.Key()[len(keyReign):]), Term: binary.BigEndian.Uint64(v), ID: ReignID(v[8:]),
		})
	}
	return list, it.Close()
}
