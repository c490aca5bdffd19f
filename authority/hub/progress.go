package hub

import (
	"context"
	"encoding/json"
	"errors"
	"math/bits"
	"slices"
	"time"

	"machineid/authority/state"
)

// Propagation tells how a change reached the edges (docs/api.md).
type Propagation struct {
	Index     uint64  `json:"index"`
	Edges     int     `json:"edges"`
	Confirmed int     `json:"confirmed"`
	Expired   int     `json:"expired"`
	ElapsedMs float64 `json:"elapsedMs"`
	// Pending says that nobody has waited: of all but Index nothing is known.
	Pending bool `json:"-"`

	told, late places
}

// Add counts another change of the same call, a later one. A session that had to be told of both is one, and expired if it was so at either.
func (p *Propagation) Add(one Propagation) {
	if p.Index == 0 {
		*p = one
		return
	}
	p.Index, p.Pending = one.Index, one.Pending
	p.told.add(one.told)
	p.late.add(one.late)
	p.Edges, p.Expired = p.told.count(), p.late.count()
	p.Confirmed = p.Edges - p.Expired
	p.ElapsedMs += one.ElapsedMs
}

// places is a set of sessions' places in a directory.
type places []uint64

func (p *places) set(i int) {
	for len(*p) <= i/64 {
		*p = append(*p, 0)
	}
	(*p)[i/64] |= 1 << (i % 64)
}

func (p *places) clear(i int) {
	if i/64 < len(*p) {
		(*p)[i/64] &^= 1 << (i % 64)
	}
}

func (p *places) add(more places) {
	for len(*p) < len(more) {
		*p = append(*p, 0)
	}
	for i, word := range more {
		(*p)[i] |= word
	}
}

func (p *places) count() (n int) {
	for _, word := range *p {
		n += bits.OnesCount64(word)
	}
	return n
}

// MarshalJSON tells of a pending change no more than that.
func (p Propagation) MarshalJSON() ([]byte, error) {
	if p.Pending {
		return json.Marshal(struct {
			Pending bool   `json:"pending"`
			Index   uint64 `json:"index"`
		}{true, p.Index})
	}
	type plain Propagation
	return json.Marshal(plain(p))
}

// ErrNoIndex says that nothing has been applied at an index yet.
var ErrNoIndex = errors.New("nothing has this index yet")

// Progress tells how far a change of an org has come.
type Progress struct {
	Index uint64
	// Pending is false only if Settle would return at once: no edge can answer from
	// before the change any more, whatever else is known of it.
	Pending bool
	// Known says that the rest is told: this node dispatched the change as the leader, it
	// is of the org, and has not made way for younger ones.
	Known                     bool
	Edges, Confirmed, Expired int
	Waiting                   []string // edge ids, in order
	Elapsed                   time.Duration
}

// Progress looks, and waits for no edge. Its errors are those of Settle, and ErrNoIndex.
func (h *Hub) Progress(ctx context.Context, index uint64, org state.OrgID) (Progress, error) {
	p := Progress{Index: index}
	err := h.look(func(_ state.Reader, applied uint64) error {
		if index > applied {
			return ErrNoIndex
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	if err := h.reached(ctx, index); err != nil {
		return p, err
	}
	h.mu.Lock()
	ch, r := h.recent[index%recentMax], h.reign
	if r == nil {
		h.mu.Unlock()
		return p, ErrNotLeading
	}
	p.Pending = r.held(h.cfg.Clock.Now()) > 0 // leases of an earlier leader (I8)
	older := []*change{ch}
	if ch == nil || ch.index != index || !ch.about(org) {
		ch, older = nil, upTo(h.unsettled, index, org)
	}
	h.mu.Unlock()
	for _, c := range older {
		p.Pending = p.Pending || !c.isSettled()
	}
	if ch != nil && ch.reign == r {
		p.Known = true
		ch.tell(&p, h.cfg.Clock.Now().Sub(ch.began))
	}
	if term, leads := h.store.Leading(); !leads || term != r.term { // as in SettleOrg
		return p, ErrNotLeading
	}
	return p, nil
}

func (c *change) about(org state.OrgID) bool {
	_, about := c.orgs[org]
	return about
}

func (c *change) isSettled() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// tell says who was told and who has not answered, age after the dispatch.
func (c *change) tell(p *Progress, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.Edges, p.Confirmed, p.Expired, p.Elapsed = c.edges, c.acked, len(c.expired), age
	if c.took != 0 {
		p.Elapsed = c.took
	} else if c.edges == 0 {
		p.Elapsed = 0
	}
	for s := range c.waiting {
		p.Waiting = append(p.Waiting, s.edgeID)
	}
	slices.Sort(p.Waiting)
}
