package main

// part is one step of a validate.
type part uint8

const (
	readLease part = iota
	readMemory
	readEntry
	readFloor
)

// order is that in which a validate reads (I3).
func (y *system) order() [4]part {
	switch {
	case !y.On(leaseFirst):
		return [4]part{readMemory, readFloor, readLease, readEntry}
	case !y.On(memoryAfterLease):
		return [4]part{readMemory, readLease, readEntry, readFloor}
	}
	return [4]part{readLease, readMemory, readEntry, readFloor}
}

// validate emits the next step of a validate of the first record. It is judged by
// what had returned when it was sent.
func (y *system) validate(s *state, e int8) string {
	x := &s.edges[e]
	n := *s
	z := &n.edges[e]
	r := &z.request
	if r.step == 0 {
		r.returned = s.returned[0]
	}
	done := false
	switch y.order()[r.step] {
	case readLease:
		done = x.lease == 0
	case readMemory:
		r.loaded = true
	case readEntry:
		r.entry = x.entries[0]
		if r.old {
			r.entry = r.oldEntry
		}
		done = r.entry.version == none
	case readFloor:
		r.floor = x.floors[0]
		if r.old {
			r.floor = r.oldFloor
		}
	}
	r.step++
	if !done && int(r.step) == len(y.order()) {
		if r.entry.index >= r.floor || !y.On(floors) {
			if wrong := y.judge(s, x, 0, r.entry.version, r.returned); wrong != "" {
				return "a validate of several steps: " + wrong
			}
		}
		done = true
	}
	if done {
		*r = request{oldEntry: noEntry, entry: noEntry}
	}
	y.next("a validate goes on", e, none, &n)
	return ""
}
