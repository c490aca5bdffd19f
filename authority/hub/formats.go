package hub

import (
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"machineid/shared/format"
	"machineid/shared/link"
)

// tell sends a frame to an edge that understands formats up to `knows`; all that edges are told goes through it. A frame that uses what the cluster's
// format has not is a fault of this program, and is not sent: an edge of the program before would put only half of it in force. The session ends
// instead, and the lease is waited for (I2). So does that of an edge which the raise has left behind, if endOlder has not come to it yet.
func (h *Hub) tell(stream link.Link_SessionServer, f *link.ToEdge, knows int) error {
	at := h.store.Format()
	x := h.cfg.Formats.Beyond(min(at, knows), f)
	switch {
	case x == nil:
		return stream.Send(f)
	case x.Format > at:
		h.unsent.Say(stream.Context(), h.log, slog.LevelError, "a frame was not sent to an edge: this program uses what the cluster's format has not; please report it",
			slog.String("feature", x.Name), slog.Int("of_format", x.Format), slog.Int("format", at))
	}
	return &unsentError{x, at}
}

// unsentError says which feature a frame uses that it may not.
type unsentError struct {
	feature *format.Feature
	at      int // the cluster's format
}

func (e *unsentError) Error() string {
	return fmt.Sprintf("a frame was not sent: it uses %s, of format %d; the cluster is at %d", e.feature.Name, e.feature.Format, e.at)
}

// GRPCStatus is what the edge's log says of it.
func (e *unsentError) GRPCStatus() *status.Status { return status.New(codes.Internal, e.Error()) }

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
