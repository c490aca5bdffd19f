package hub

import (
	"fmt"

	"machineid/shared/format"
	"machineid/shared/link"
)

func formatOf(hello *link.Hello) int { return max(int(hello.GetFormat()), format.First) }

// tooOld says why an edge that understands frames up to a format cannot be spoken to, "" if it can.
func (h *Hub) tooOld(knows int) string {
	at := h.store.Format()
	if need := h.cfg.Formats.Edges(at); knows < need {
		return fmt.Sprintf("the edge knows formats up to %d, and the cluster is at %d: install the program of the authority nodes there", knows, at)
	}
	return ""
}

// endOlder ends the sessions of edges that do not understand what the cluster may say by now. It comes before anything that was proposed after
// the raise is told, and a change does not count as acknowledged by them: their leases are waited for (I2). h.mu is held.
func (h *Hub) endOlder() {
	at := h.store.Format()
	if at == h.spokenAt {
		return
	}
	h.spokenAt = at
	need := h.cfg.Formats.Edges(at)
	if h.reign == nil {
		return
	}
	for s := range h.reign.sessions {
		if s.format < need {
			s.breakOff()
			s.cancel()
		}
	}
}
