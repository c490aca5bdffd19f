package state

// heads are where queues begin, by their prefix. A queue is a range in the order of time: what is new comes behind all that it holds, and what is taken is the
// first of it. What was taken stays in the way of a scan until Pebble compacts it, so a scan begins behind that: each step would otherwise cost what all
// before it have removed. They follow from the state (S5): one that is not known begins at the range's beginning.
type heads map[byte][]byte

// of returns a key before which the queue holds nothing.
func (h heads) of(queue byte) []byte {
	if from := h[queue]; from != nil {
		return from
	}
	return []byte{queue}
}

// passed says that the queue holds nothing up to key.
func (h heads) passed(key []byte) { h[key[0]] = key }
