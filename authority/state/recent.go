package state

import "machineid/authority/state/statepb"

// recent are records of orgs as Apply last read or wrote them: each command on a
// device asks for its org's, and a read of Pebble costs as much as the rest of a
// command. It holds what the state holds, no more (S5): who writes these records
// keeps it, and Restored empties it. The records never change; what is kept in ended does, with the end index.
type recent struct {
	keys  map[[32]byte]*statepb.Key
	orgs  map[OrgID]*statepb.Org
	seats map[OrgID]*statepb.Seats
	ended map[OrgID]*pastEnds
	rings map[OrgID][]ringKey
	// count is how many orgs there are, once they were counted.
	counted bool
	count   uint64
}

// recentMax bounds each; a full one is emptied, which costs reads.
const recentMax = 4096

func (r *recent) keepKey(hash [32]byte, k *statepb.Key) { keep(&r.keys, hash, k, k != nil) }

func (r *recent) keepOrg(id OrgID, o *statepb.Org) { keep(&r.orgs, id, o, o != nil) }

func (r *recent) keepSeats(id OrgID, s *statepb.Seats) { keep(&r.seats, id, s, s != nil) }

func (r *recent) keepRing(id OrgID, ring []ringKey) { keep(&r.rings, id, ring, ring != nil) }

func (r *recent) keepEnded(id OrgID, e *pastEnds) { keep(&r.ended, id, e, e != nil) }

func keep[K comparable, T any](m *map[K]T, id K, v T, there bool) {
	if !there {
		delete(*m, id)
		return
	}
	if *m == nil || len(*m) >= recentMax {
		*m = make(map[K]T)
	}
	(*m)[id] = v
}

// Forget drops what Apply keeps of the state: for tests that write to a state
// otherwise than by commands.
func (m *Machine) Forget() { m.recent = recent{} }
