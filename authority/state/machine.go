package state

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/format"
)

// Machine applies commands. It is the raftstore.Machine of the authority; but
// for Cluster and Time its methods run on the store's one goroutine.
//
// All it keeps in memory follows from the state, so that a node that restarts
// goes on as one that did not (S5).
type Machine struct {
	notify   func(index uint64, concerns []Concern)
	restored func(index uint64)
	cluster  atomic.Pointer[statepb.Cluster]
	time     atomic.Int64
	// formats is what the program knows, and format what the cluster is at where the log is applied (S18).
	formats *format.Table
	format  int

	plans *statepb.Plans
	mark  Mark // the newest that was written
	// oldestAudit is a lower bound of the oldest audit entry's time.
	oldestAudit int64
	// pending are the log entries that were applied but not committed yet.
	pending []emission
	recent  recent
	// gone are the deleted orgs that have left something, in the order of their ids, and tidyAt is when there may be something to clear away.
	gone   []*remnant
	tidyAt int64
	tidied uint64                 // the newest entry that cleared something away, or looked for it
	debris atomic.Pointer[Debris] // as it is told
	heads  heads
	orgs   atomic.Uint64 // Orgs
	// steps counts the keys that scans of Apply have looked at.
	steps atomic.Uint64
	// buf is where records are encoded: the batch copies what it is given.
	buf []byte
}

// emission is what one entry of the log concerns.
type emission struct {
	index    uint64
	concerns []Concern
	audits   uint16
}

// New returns a Machine. notify is called once for each entry, in index order,
// when its effects can be read and before its callers are answered; it must not
// block, and owns what it is given.
func New(notify func(index uint64, concerns []Concern)) *Machine {
	return &Machine{
		notify: notify, restored: func(index uint64) { notify(index, nil) },
		formats: &format.Current, format: format.Newest, // as a new cluster is; the store says it before the first command
	}
}

// Knows sets what belongs to which format; without it that is this program's. Call it before the store is opened.
func (m *Machine) Knows(t *format.Table) { m.formats = t }

// Raised is told which format the cluster is at (raftstore.Machine).
func (m *Machine) Raised(to int) { m.format = to }

// OnRestored makes f, in place of notify, hear of a state that did not come about
// command by command: it was opened or installed, and index is that of the newest
// command it holds. What concerned whom up to there is not known. Call it before
// the store is opened.
func (m *Machine) OnRestored(f func(index uint64)) { m.restored = f }

// Cluster returns the cluster's record, or nil before the first Seed. It must
// not be changed. Safe for concurrent use.
func (m *Machine) Cluster() *statepb.Cluster { return m.cluster.Load() }

// Time returns the newest time in the state, in milliseconds: no leader's clock
// may be behind it. Safe for concurrent use.
func (m *Machine) Time() int64 { return m.time.Load() }

// Reserved is the time up to which a leader may tell times that no command carries (S15), 0 before the first. Safe for concurrent use.
func (m *Machine) Reserved() int64 { return m.Cluster().GetReservedMs() }

// Steps counts the keys that scans have looked at to apply commands, those too that were removed and that Pebble has not compacted yet. Safe for
// concurrent use.
func (m *Machine) Steps() uint64 { return m.steps.Load() }

// Orgs is how many orgs there are, 0 as long as no limit has asked. Safe for concurrent use.
func (m *Machine) Orgs() uint64 { return m.orgs.Load() }

// tellDebris makes known what is left of deleted orgs, after some was removed.
func (m *Machine) tellDebris(removed int) {
	d := Debris{Orgs: uint64(len(m.gone)), Removed: m.Debris().Removed + uint64(removed)}
	for _, g := range m.gone {
		d.Devices += uint64(g.devices)
	}
	if d != m.Debris() {
		m.debris.Store(&d)
	}
}

// Restored reads what Apply keeps in memory (raftstore.Machine).
func (m *Machine) Restored(r pebble.Reader, _ raftstore.Position) error {
	rd := NewReader(r)
	cluster, err := rd.Cluster()
	if err != nil {
		return err
	}
	if m.plans, err = rd.Plans(); err != nil {
		return err
	}
	if m.mark, err = rd.Mark(); err != nil {
		return err
	}
	m.cluster.Store(cluster)
	m.time.Store(m.mark.Time)
	if m.gone, err = rd.gone(); err != nil {
		return err
	}
	m.pending, m.oldestAudit, m.recent, m.tidyAt, m.tidied, m.heads = nil, 0, recent{}, 0, 0, heads{}
	m.orgs.Store(0)
	m.tellDebris(0)
	m.restored(m.mark.Index)
	return nil
}

// Apply applies one command (raftstore.Machine). It returns an Outcome, or nil
// for an empty command. What it cannot read it cannot skip either, or the nodes'
// states would part for ever: it panics, which stops the node (S4).
func (m *Machine) Apply(w *pebble.Batch, at raftstore.Position, raw []byte) any {
	if n := len(m.pending); n == 0 || m.pending[n-1].index != at.Index {
		m.pending = append(m.pending, emission{index: at.Index})
	}
	if len(raw) == 0 {
		return nil
	}
	var cmd statepb.Command
	if err := proto.Unmarshal(raw, &cmd); err != nil {
		panic(fmt.Errorf("read the command at index %d: %w", at.Index, err))
	}
	if cmd.GetChange() == nil || !understood(cmd.ProtoReflect()) || !formKnown(&cmd) {
		panic(fmt.Errorf("the command at index %d says what this version does not know: install the version of the other nodes", at.Index))
	}
	t := &tx{m: m, w: w, r: Reader{src: w, steps: &m.steps}, at: at, cmd: &cmd, emit: &m.pending[len(m.pending)-1]}
	t.stamp(cmd.GetTimeMs())
	out := t.apply()
	if m.recent.counted {
		m.orgs.Store(m.recent.count)
	}
	return out
}

// understood reports whether a message holds no field that a newer version put
// there, at any depth.
func understood(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return false
	}
	ok := true
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && ok; i++ {
				ok = understood(v.List().Get(i).Message())
			}
		default:
			ok = understood(v.Message())
		}
		return ok
	})
	return ok
}

// Committed hands on what an entry concerns (raftstore.Machine).
func (m *Machine) Committed(at raftstore.Position) {
	n := 0
	for ; n < len(m.pending) && m.pending[n].index <= at.Index; n++ {
		m.notify(m.pending[n].index, m.pending[n].concerns)
	}
	m.pending = slices.Delete(m.pending, 0, n)
}
