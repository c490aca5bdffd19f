package hub

import (
	"bytes"
	"context"
	"log/slog"

	"machineid/raftstore"
	"machineid/shared/link"
)

// judges says whether what an edge remembers is of this node's history, so that it may go on with it (I13). An edge that has met what
// this history does not tell of, a newer term or an entry that is not in it, has met a later leader; then this node is deposed, and why says
// so. Or what it has met is in no history any more, because data folders were put back to older copies. A round of questions to
// the voters that begins now tells which: an edge says Hello after it was welcomed, and that leader was elected before, so a quorum knew its
// term. If none of them does now, nobody can lead by it, and the edge begins anew.
func (h *Hub) judges(ctx context.Context, r *reign, hello *link.Hello, host string, incarnation []byte) (same, proven bool, why string) {
	if !bytes.Equal(hello.GetIncarnation(), incarnation) {
		return false, false, ""
	}
	verdict := raftstore.VerdictUnknown
	if id := hello.GetReign(); len(id) == len(raftstore.ReignID{}) {
		newest := max(hello.GetLastIndex(), hello.GetReadIndex())
		verdict = h.store.Judge(newest, hello.GetTerm(), raftstore.ReignID(id))
	}
	switch known := verdict != raftstore.VerdictUnknown && hello.GetTerm() <= r.term; {
	case known && verdict == raftstore.VerdictSame:
		return true, false, ""
	case !known:
		if term, err := h.store.Confirm(ctx); err != nil || term != r.term {
			return false, false, whyBehind
		}
		proven = true
	}
	h.voice.say(ctx, slog.LevelWarn, host, hello.GetEdgeId(), "an edge remembers what is not in this node's history, and begins anew: was a data folder put back to an older copy?",
		slog.Uint64("its_index", hello.GetLastIndex()), slog.Uint64("its_term", hello.GetTerm()),
		slog.Uint64("term", r.term))
	return false, proven, ""
}
