package state

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// start is when tests begin, in milliseconds.
const start = int64(1_700_000_000_000)

// tb is what testing.TB and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// entry is one entry of the log; its index is its place in the history, from 1.
type entry struct {
	term uint64
	raws [][]byte
}

// node is a Machine on a Pebble in memory, driven as raftstore drives it.
type node struct {
	tb    tb
	db    *pebble.DB
	m     *Machine
	w     *pebble.Batch // nil if nothing is open
	at    raftstore.Position
	open  []raftstore.Position // applied to w
	wrote uint32               // records that the newest entry wrote or removed
	drop  func(Concern) bool   // the mutant: a forgotten emission
	heard []notice

	outcomes []any
}

type notice struct {
	index    uint64
	concerns []Concern
}

// newNode returns a node with an empty state. Nodes that are made one after the
// other may share a database: it is emptied.
func newNode(tb tb, db *pebble.DB) *node {
	tb.Helper()
	n := &node{tb: tb, db: db}
	n.ok(db.DeleteRange([]byte{0}, []byte{0xff}, pebble.NoSync))
	n.restart()
	n.heard = nil
	return n
}

func openDB(tb testing.TB) *pebble.DB {
	tb.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// seeded returns a node that holds a cluster, plans and the pool's first orgs.
func seeded(tb testing.TB) *node {
	tb.Helper()
	n := newNode(tb, openDB(tb))
	n.do(seed())
	n.do(createOrg(0))
	n.do(createOrg(1))
	return n
}

func (n *node) ok(err error) {
	n.tb.Helper()
	if err != nil {
		n.tb.Fatal(err)
	}
}

// restart begins with a new Machine on the state as it was committed.
func (n *node) restart() {
	n.tb.Helper()
	n.commit()
	n.m = New(func(index uint64, concerns []Concern) {
		if n.drop != nil {
			concerns = slices.DeleteFunc(concerns, n.drop)
		}
		n.heard = append(n.heard, notice{index, concerns})
	})
	n.ok(n.m.Restored(n.db, n.at))
}

// apply applies an entry to the open batch.
func (n *node) apply(e entry) (outcomes []any) {
	if n.w == nil {
		n.w = n.db.NewIndexedBatch()
	}
	n.at = raftstore.Position{Index: n.at.Index + 1, Term: max(e.term, 1)}
	before := n.w.Count()
	for _, raw := range e.raws {
		if len(raw) > 0 && raw[0] == editMark {
			n.ok(n.w.Set(raw[2:2+raw[1]], raw[2+raw[1]:], nil))
			n.m.Forget()
			raw = nil
		}
		outcomes = append(outcomes, n.m.Apply(n.w, n.at, raw))
	}
	n.open, n.wrote = append(n.open, n.at), n.w.Count()-before
	n.outcomes = append(n.outcomes, outcomes...)
	return outcomes
}

func (n *node) commit() {
	n.tb.Helper()
	if n.w == nil {
		return
	}
	n.ok(n.w.Commit(pebble.NoSync))
	n.ok(n.w.Close())
	n.w = nil
	for _, at := range n.open {
		n.m.Committed(at)
	}
	n.open = nil
}

// do runs one command as an entry of its own.
func (n *node) do(cmd *statepb.Command) Outcome {
	n.tb.Helper()
	judge := n.foresee(cmd)
	out, ok := n.apply(entry{raws: [][]byte{encode(cmd)}})[0].(Outcome)
	n.commit()
	if !ok {
		n.tb.Fatal("no outcome")
	}
	judge(out)
	return out
}

// foresee looks at a command before it is applied, and returns what judges that look (S17): what it refuses is refused so, and what is refused it had refused,
// unless that is to be remembered.
func (n *node) foresee(cmd *statepb.Command) (judge func(Outcome)) {
	n.tb.Helper()
	if n.w != nil {
		return func(Outcome) {} // more is applied than can be looked at
	}
	was, now := encode(cmd), max(n.m.Time(), cmd.GetTimeMs())
	said, refused, err := n.reader().Refuses(cmd, now, First{Orgs: n.m.Orgs()})
	if err != nil {
		return func(Outcome) {} // a record is damaged
	}
	ended, err := n.reader().countEnded(subject(cmd), 0, now)
	n.ok(err)
	counted := n.m.Orgs() != 0
	return func(out Outcome) {
		n.tb.Helper()
		if !bytes.Equal(was, encode(cmd)) {
			n.tb.Fatalf("the look changed %v", cmd)
		}
		if refused {
			if out.Refusal != said.Refusal || out.Changed || out.Refusal == LimitReached && out.Plan != said.Plan || !proto.Equal(out.Org, said.Org) || !proto.Equal(out.Device, said.Device) {
				n.tb.Fatalf("%v would be refused with %+v, and came to %+v", cmd, said, out)
			}
			return
		}
		remembered := len(cmd.GetOnce().GetId()) == onceSize && cmd.GetDeleteOrg() == nil
		plain := cmd.GetBeginRecovery() == nil && cmd.GetRotateToken() == nil && (counted || out.Refusal != OrgLimit) && (ended == 0 || out.Refusal != LimitReached)
		if out.Refusal != Granted && plain && (!remembered || out.Refusal == IdempotencyMismatch) {
			n.tb.Fatalf("%v was not foreseen to come to %+v", cmd, out)
		}
	}
}

func (n *node) reader() Reader { return NewReader(n.db) }

// dump is the whole key space, a line each.
func (n *node) dump() string {
	n.tb.Helper()
	n.commit()
	var b strings.Builder
	n.ok(n.reader().scan([]byte{1}, nil, func(k, v []byte) (bool, error) {
		fmt.Fprintf(&b, "%s %s\n", hex.EncodeToString(k), hex.EncodeToString(v))
		return true, nil
	}))
	return b.String()
}

// editMark begins no protobuf message: what follows is a record to be written
// behind the Machine's back, for states that no command makes yet.
const editMark = 0xff

func edit(key []byte, record proto.Message) []byte {
	return append(append([]byte{editMark, byte(len(key))}, key...), encode(record)...)
}

// encode is a record as it is stored, or a command as this program writes it.
func encode(m proto.Message) []byte {
	if cmd, ok := m.(*statepb.Command); ok {
		ofToday(cmd)
	}
	return bytesOf(m)
}

func bytesOf(m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raw
}

// check tells whether counters and indexes are in step with the records (S8, S9).
func check(r Reader) error {
	seats, want := map[string]string{}, map[string]*statepb.Seats{}
	index, wantIndex := map[string]string{}, map[string]string{}
	audits, wantAudits := map[string]bool{}, map[string]bool{}
	orgKeys, wantOrgKeys := map[string]string{}, map[string]string{}
	ages, wantAges, ranges := map[string]string{}, map[string]string{}, map[string]uint64{}
	customers, wantCustomers := map[string]string{}, map[string]string{}
	gone := map[string]bool{} // deleted, and not cleared away yet
	err := r.scan([]byte{prefixGone}, []byte{prefixGone + 1}, func(k, _ []byte) (bool, error) {
		gone[string(k[1:])] = true
		return true, nil
	})
	if err != nil {
		return err
	}
	err = r.scan([]byte{1}, nil, func(k, v []byte) (bool, error) {
		id := string(k[1:])
		if bytes.IndexByte(orgDebris, k[0]) >= 0 || k[0] == prefixOrgAudit {
			if gone[id[:16]] {
				return true, nil
			}
			if org, err := r.Org(OrgID(k[1:17])); err != nil || org == nil && bytes.IndexByte(orgDebris[:6], k[0]) >= 0 {
				return false, fmt.Errorf("%q of an org that is not there: %w", k, errors.Join(err))
			}
		}
		switch k[0] {
		case prefixOccupant:
			var o statepb.Occupant
			if err := proto.Unmarshal(v, &o); err != nil {
				return false, err
			}
			holder := OrgID(k[1:17])
			s := want[id[:16]]
			if s == nil {
				s = &statepb.Seats{}
				want[id[:16]] = s
			}
			if o.GetRevokedAtMs() != 0 {
				s.Revoked++
			} else {
				s.Active++
			}
			if o.GetRevokedAtMs() == 0 && o.GetExpiresAtMs() != 0 {
				s.Ending++
				wantIndex[string(timedKey(prefixByEnd, holder, o.GetExpiresAtMs(), o.GetId()))] = ""
			}
			if o.GetRevokedAtMs() != 0 {
				wantIndex[string(revokedKey(holder, &o))] = ""
			}
			wantIndex[string(timedKey(prefixByAge, holder, o.GetCreatedAtMs(), o.GetId()))] = ""
			if o.GetId() != id[16:] || o.GetCreatedAtMs() <= 0 {
				return false, fmt.Errorf("occupant %q holds %v", id, &o)
			}
		case prefixSeats:
			seats[id] = string(v)
		case prefixByAge, prefixByEnd, prefixRevoked:
			index[string(k)] = string(v)
		case prefixAudit:
			var e statepb.AuditEntry
			if err := proto.Unmarshal(v, &e); err != nil {
				return false, err
			}
			if !gone[string(e.GetOrgId())] {
				wantAudits[string(e.GetOrgId())+id] = true
			}
		case prefixOrgAudit:
			audits[id] = true
		case prefixKey:
			var key statepb.Key
			if err := proto.Unmarshal(v, &key); err != nil {
				return false, err
			}
			wantOrgKeys[string(key.GetOrgId())+key.GetKeyId()] = id
		case prefixOrgKey:
			orgKeys[id] = string(v)
		case prefixOnce:
			var m statepb.Remembered
			if err := proto.Unmarshal(v, &m); err != nil {
				return false, err
			}
			wantAges[string(binary.BigEndian.AppendUint64([]byte(id[:16]), m.GetNumber()))+id[16:]] = ""
		case prefixOnceAge, prefixShareAge:
			ages[id[:16]+id[len(id)-8:]+string(v)] = ""
			ranges[id[:len(id)-8]]--
		case prefixOnceOf, prefixShareOf:
			ranges[id] += binary.BigEndian.Uint64(v[8:]) - binary.BigEndian.Uint64(v)
		case prefixSeen:
			o, err := r.Occupant(OrgID([]byte(id[:16])), id[16:])
			if err != nil {
				return false, err
			}
			if o == nil || len(v) != 8 {
				return false, fmt.Errorf("%q was seen and is not there", id[16:])
			}
		case prefixBilling:
			var b statepb.Billing
			if err := proto.Unmarshal(v, &b); err != nil {
				return false, err
			}
			if b.GetCustomerId() != "" {
				wantCustomers[b.GetCustomerId()] = id
			}
			if len(b.GetEventIds()) > eventsMax || len(b.GetRecoveries()) > recoveriesMax {
				return false, fmt.Errorf("billing of %x keeps too much: %v", id, &b)
			}
		case prefixCustomer:
			customers[id] = string(v)
		case prefixUsed:
			key, err := r.Key([32]byte([]byte(id)))
			if err != nil {
				return false, err
			}
			if key == nil || len(v) != 8 {
				return false, fmt.Errorf("key %x was used and is not there", id)
			}
		case prefixSignup:
			if len(id) != 24 || len(v) != 0 {
				return false, fmt.Errorf("%x is no sign-up", k)
			}
		case prefixCluster, prefixPlans, prefixMark, prefixOrg, prefixGone, prefixGoneKeys, prefixWritten:
		default:
			return false, fmt.Errorf("unknown key %q", k)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	for id := range ages {
		if _, ok := wantAges[id]; !ok {
			delete(ages, id) // it was asked for anew since
		}
	}
	for org, n := range ranges {
		if n != 0 {
			return fmt.Errorf("what is remembered of org %x is miscounted by %d", org, int64(n))
		}
	}
	wantSeats := map[string]string{}
	for holder := range seats {
		wantSeats[holder] = "" // the last occupant may have gone
	}
	for holder, s := range want {
		wantSeats[holder] = string(encode(s))
	}
	return errors.Join(differ("seats", seats, wantSeats), differ("indexes", index, wantIndex),
		differ("audit index", audits, wantAudits), differ("keys of orgs", orgKeys, wantOrgKeys),
		differ("remembered", ages, wantAges), differ("customers", customers, wantCustomers))
}

func differ[V comparable](what string, got, want map[string]V) error {
	if maps.Equal(got, want) {
		return nil
	}
	return fmt.Errorf("%s differ:\n%s", what, cmp.Diff(want, got))
}

// quiet drops what Pebble logs.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, args ...any) {
	panic(fmt.Sprintf(f, args...))
}
