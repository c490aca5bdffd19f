package edge

import (
	"fmt"
	"log/slog"

	"machineid/shared/format"
	"machineid/shared/link"
)

// tell sends a frame to the authority; all frames go through it. An edge does not know the cluster's format: no Welcome names one. So it says only what
// the first release understands. A frame that uses more is a fault of this program and is not sent; the session ends, and the edge denies when its
// lease is over. The first feature that edges are to send brings, in its own format, a field of Welcome that names the cluster's: an authority that
// has not been raised does not send it, and then all stays as it is here. A Hello comes before any Welcome and has no more for good.
func (e *Edge) tell(stream link.Link_SessionClient, f *link.ToAuthority) error {
	if x := e.formats.Beyond(format.Baseline, f); x != nil {
		e.unsent.Say(stream.Context(), e.log, slog.LevelError, "a frame was not sent to the authority: this program uses what it may not know; please report it",
			slog.String("feature", x.Name), slog.Int("of_format", x.Format))
		return fmt.Errorf("send a frame: it uses %s, of format %d, and no Welcome says that the cluster has it", x.Name, x.Format)
	}
	return stream.Send(f)
}
