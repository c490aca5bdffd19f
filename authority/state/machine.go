package state

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// Machine applies commands. It is the raftstore.Machine of the authority; but
// for Cluster and Time its methods run on the store's one goroutine.
type Machine struct {
	notify  func(index uint64, concerns []Concern)
	cluster atomic.Pointer[statepb.Cluster]
	time    atomic.Int64

	plans *statepb.Plans
	now   int64
	// oldestAudit is a lower bound of the oldest audit entry's time.
	oldestAudit int64
	pending     []emission
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
	return &Machine{notify: notify}
}

// Cluster returns the cluster's record, or nil before the first Seed. It must
// not be changed. Safe for concurrent use.
func (m *Machine) Cluster() *statepb.Cluster { return m.cluster.Load() }

// Time returns the newest time in the state, in milliseconds: no leader's clock
// may be behind it. Safe for concurrent use.
func (m *Machine) Time() int64 { return m.time.Load() }

// Restored reads what Apply keeps in memory.
func (m *Machine) Restored(r pebble.Reader, _ raftstore.Position) error {
	rd := Reader{r}
	c, err := rd.Cluster()
	if err != nil {
		return err
	}
	m.cluster.Store(c)
	if m.plans, err = rd.Plans(); err != nil {
		return err
	}
	mark, err := rd.Mark()
	if err != nil {
		return err
	}
	m.now = mark.Time
	m.time.Store(m.now)
	m.pending, m.oldestAudit = nil, 0
	m.notify(mark.Index, nil)
	return nil
}

// Apply applies one command (raftstore.Machine). It returns an Outcome, or nil
// for an empty command.
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
	t := &tx{m: m, w: w, r: Reader{w}, at: at, cmd: &cmd, emit: &m.pending[len(m.pending)-1]}
	t.mark(cmd.TimeMs)
	return t.apply()
}

// Committed hands on what an entry concerns (raftstore.Machine).
func (m *Machine) Committed(at raftstore.Position) {
	for len(m.pending) > 0 && m.pending[0].index <= at.Index {
		e := m.pending[0]
		m.pending = m.pending[1:]
		m.notify(e.index, e.concerns)
	}
}

// mark stamps the entry into the state, and keeps the state's time from going
// back, whatever a leader's clock says.
func (t *tx) mark(stamped int64) {
	t.m.now = max(t.m.now, stamped)
	t.now = t.m.now
	t.m.time.Store(t.now)
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), t.at.Index)
	t.set(markKey, binary.BigEndian.AppendUint64(b, uint64(t.now))) //nolint:gosec // never negative
}
