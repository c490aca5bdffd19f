package state

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// tx is the application of one command. A failed read or write of the batch is
// a fault of the disk, not of the command: it panics and ends the process.
type tx struct {
	m    *Machine
	w    *pebble.Batch // written by set and del alone
	r    Reader        // of w
	at   raftstore.Position
	cmd  *statepb.Command
	now  int64 // the state's time, at least 1: zero in a record is "never"
	emit *emission

	scope statepb.Key_Scope // of the key that asked, NONE where none did
	dry   bool              // a look ahead (first.go): nothing is written, and no devices are counted that have ended
	// action and target are of the first audit entry that it comes to, "" if none.
	action, target string
}

func (t *tx) set(key, value []byte) {
	if !t.dry {
		t.must(t.w.Set(key, value, nil))
	}
}

func (t *tx) del(key []byte) {
	if !t.dry {
		t.must(t.w.Delete(key, nil))
	}
}

func (t *tx) put(key []byte, m proto.Message) {
	if t.dry {
		return
	}
	if f := t.m.formats.Beyond(t.m.format, m); f != nil { // programs of before would lose it, or misread it (S18)
		panic(fmt.Errorf("the command at index %d would write what the cluster's format %d has not: %s, of format %d. Nothing of it was written: install the program of before, and report it",
			t.at.Index, t.m.format, f.Name, f.Format))
	}
	// Deterministic: the same command makes the same bytes on every node.
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(t.m.buf[:0], m)
	t.must(err)
	t.m.buf = b
	t.set(key, b)
}

func (t *tx) must(err error) {
	switch {
	case err == nil:
	case t.dry:
		panic(dryError{err})
	default:
		panic(fmt.Errorf("apply index %d: %w", t.at.Index, err))
	}
}

// stamp gives the command its time and marks the state with it. The state's time
// never goes back, whatever a leader's clock says (S6).
func (t *tx) stamp(stamped int64) {
	t.now = max(t.m.mark.Time, stamped, 1)
	mark := Mark{Index: t.at.Index, Time: t.now}
	if t.m.mark == mark {
		return // as the command before it in the same entry
	}
	t.m.mark = mark
	t.m.time.Store(t.now)
	b := binary.BigEndian.AppendUint64(make([]byte, 0, markSize), mark.Index)
	t.set(markKey, binary.BigEndian.AppendUint64(b, uint64(mark.Time)))
}

// concern adds to what the command is about (S1).
func (t *tx) concern(c Concern) { t.emit.concerns = append(t.emit.concerns, c) }

func (t *tx) org(id OrgID) *statepb.Org {
	if o := t.m.recent.orgs[id]; o != nil {
		return o
	}
	o, err := t.r.Org(id)
	t.must(err)
	t.m.recent.keepOrg(id, o)
	return o
}

func (t *tx) key(hash [32]byte) *statepb.Key {
	if k := t.m.recent.keys[hash]; k != nil {
		return k
	}
	k, err := t.r.Key(hash)
	t.must(err)
	t.m.recent.keepKey(hash, k)
	return k
}

func (t *tx) occupant(holder OrgID, id string) *statepb.Occupant {
	o, err := t.r.Occupant(holder, id)
	t.must(err)
	return o
}

// holder is an org as a command on its seats finds it and goes on to change it.
type holder struct {
	id    OrgID
	org   *statepb.Org // nil if there is none
	seats *statepb.Seats
	used  uint32 // seats that are taken: by the active that have not expired; in a look ahead by those too that have and are not swept
}

// holder reads an org for a command on its devices. It does not concern those
// who hold the org's record, but for one case: the caller is told that it is gone.
func (t *tx) holder(id []byte) *holder {
	h := t.seated(idOf(id), t.org(idOf(id)))
	if h.org == nil {
		t.concern(Concern{Kind: ConcernHolder, Org: h.id})
	}
	return h
}

// seated reads the seats of an org.
func (t *tx) seated(id OrgID, org *statepb.Org) *holder {
	h := &holder{id: id, org: org}
	if org == nil {
		return h
	}
	var err error
	if h.seats = t.m.recent.seats[id]; h.seats == nil {
		h.seats, err = t.r.Seats(id)
		t.m.recent.keepSeats(id, h.seats)
	}
	t.must(err)
	if h.seats == nil {
		h.seats = &statepb.Seats{}
	}
	if h.used = h.seats.GetActive(); h.seats.GetEnding() > 0 && !t.dry {
		h.used -= t.endedOf(id).count
	}
	return h
}

// plan tells how the org's plan stands.
func (t *tx) plan(h *holder) Plan { return planOf(h.org, t.m.plans, h.used, t.now) }
