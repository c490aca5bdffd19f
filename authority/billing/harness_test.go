package billing

import (
	"context"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// book is a Ledger: the real state machine on a disk in memory, without a log.
type book struct {
	mu sync.Mutex
	tb testing.TB
	db *pebble.DB
	m  *state.Machine
	at raftstore.Position
}

var orgID = state.OrgID{1}

// newBook has one org, and the plans that there are prices of.
func newBook(tb testing.TB) *book {
	tb.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	b := &book{tb: tb, db: db, m: state.New(func(uint64, []state.Concern) {})}
	if err := b.m.Restored(db, b.at); err != nil {
		tb.Fatal(err)
	}
	b.do(&statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
		Cluster: &statepb.Cluster{ClusterId: "c"},
		Plans:   &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free"}, {Tier: "pro"}, {Tier: "scale"}, {Tier: "max"}}},
	}}})
	b.do(&statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: orgID[:]}}})
	return b
}

func (b *book) do(c *statepb.Command) state.Outcome {
	b.tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	c.TimeMs = 1_790_000_000_000
	raw, err := proto.Marshal(c)
	if err != nil {
		b.tb.Fatal(err)
	}
	w := b.db.NewIndexedBatch()
	b.at.Index++
	out, ok := b.m.Apply(w, b.at, raw).(state.Outcome)
	if err := w.Commit(pebble.NoSync); err != nil || !ok {
		b.tb.Fatal(err, ok)
	}
	b.m.Committed(b.at)
	return out
}

func (b *book) View(_ context.Context, f func(state.Reader) error) error {
	return f(state.NewReader(b.db))
}

func (b *book) Set(_ context.Context, c *statepb.SetBilling) (state.Outcome, error) {
	return b.do(&statepb.Command{Change: &statepb.Command_SetBilling{SetBilling: c}}), nil
}

// quiet drops what Pebble logs.
type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, _ ...any) { panic(f) }
