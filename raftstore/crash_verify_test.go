package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// verify opens a disk after a crash and returns what is wrong with it.
func (im image) verify(k knobs) error {
	n := newNode(onFS(im.fs), withKnobs(k))
	s, err := openParts(n.cfg, chainMachine{})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return errors.Join(im.check(s), closeParts(s))
}

func (im image) check(s *Store) error {
	m := im.want
	term, err := s.log.GetUint64([]byte(keyCurrentTerm))
	if err != nil {
		return err
	}
	voteTerm, _ := s.log.GetUint64([]byte("LastVoteTerm"))
	cand, _ := s.log.Get([]byte("LastVoteCand"))
	vote := fmt.Sprintf("%d %s", voteTerm, cand)
	if term < m.term || (m.vote != "" && vote != m.vote && m.voteNext == "") {
		return fmt.Errorf("R4: term %d and vote %q, acknowledged were %d and %q", term, vote, m.term, m.vote)
	}
	applied := s.Applied()
	if applied.Index < m.persisted {
		return fmt.Errorf("R2: the state is at %d, it was made durable at %d", applied.Index, m.persisted)
	}
	chain, err := getCopy(s.states.current.db, keyChain)
	if err != nil {
		return err
	}
	if want, ok := m.chain[applied.Index]; !ok || !bytes.Equal(chain, want) {
		return fmt.Errorf("R3: the state at %d is %x, want %x", applied.Index, chain, want)
	}
	for i, want := range m.entries {
		var l raft.Log
		err := s.log.GetLog(i, &l)
		mayDiffer := m.cutFrom > 0 && i >= m.cutFrom || i <= m.gone
		if !mayDiffer && (err != nil || l.Term != want.Term || !bytes.Equal(l.Data, want.Data)) {
			return fmt.Errorf("R1: acknowledged entry %d is lost: %+v, %w", i, l, err)
		}
		if i > applied.Index && i <= m.applied.Index && (err != nil || l.Term != want.Term) {
			return fmt.Errorf("R1: entry %d was applied and is in neither log nor state: %w", i, err)
		}
	}
	return nil
}

// A failed sync whose Fatalf returns is the third mutant: the write is acknowledged, readable, and gone after a crash.
func TestFatalMustNotReturn(t *testing.T) {
	for _, returns := range []bool{false, true} {
		t.Run(fmt.Sprintf("returns=%v", returns), func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			var fail errorfs.Toggle
			fail.Injector = errorfs.InjectorFunc(func(op errorfs.Op) error {
				if strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData ||
					op.Kind == errorfs.OpFileSyncTo) {
					return errors.New("the disk says no")
				}
				return nil
			})
			n := newNode(onFS(errorfs.Wrap(disk, &fail)), withKnobs(knobs{fatalReturns: returns}))
			s := must[*Store](t)(openParts(n.cfg, chainMachine{}))
			fail.On()
			acknowledged := make(chan bool, 1)
			go func() {
				ok := false
				defer func() { acknowledged <- ok }()
				ok = s.log.StoreLogs(logs(2, 2, 1)) == nil
			}()
			acked := <-acknowledged
			clone := disk.CrashClone(vfs.CrashCloneCfg{})
			after := must[*Store](t)(openParts(newNode(onFS(clone)).cfg, chainMachine{}))
			last := must[uint64](t)(after.log.LastIndex())
			if err := closeParts(after); err != nil {
				t.Fatal(err)
			}
			lost := acked && last < 2
			if lost != returns {
				t.Errorf("acknowledged %v, last entry after the crash %d", acked, last)
			}
			if !returns {
				if err := <-n.fatal; !strings.Contains(err.Error(), "the disk says no") {
					t.Errorf("fault: %v", err)
				}
			}
		})
	}
}
