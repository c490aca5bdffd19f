package authority

import (
	"context"
	"log/slog"
	"time"

	"machineid/authority/api"
	"machineid/authority/state/statepb"
)

// membersEvery is how often the leader compares the members with those that the audit knows. What an operator's call changes is told by that call, which has
// this long: so nothing is told before who asked for it can be named.
const membersEvery = 15 * time.Second

// watchMembers tells the audit of what nobody has told: a member that was dead for too long and was removed, one that moved, or a call whose node died. It does so for as long
// as this node leads.
func (n *Node) watchMembers(ctx context.Context) {
	for seen := uint64(0); pause(ctx, membersEvery); {
		seen = n.tellMembers(ctx, seen)
	}
}

// tellMembers tells of a membership that has stood since the look before, which saw the one of the log's entry seen. It returns which there is now.
func (n *Node) tellMembers(ctx context.Context, seen uint64) uint64 {
	index, members, err := n.store.Configured()
	if err != nil || index <= n.state.Cluster().GetMembers().GetIndex() || index != seen {
		return index
	}
	by := api.Asker{Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: n.cfg.ID}}
	if _, _, err := n.Propose(ctx, api.MembersCommand(n.Now(), by, index, members)); err != nil && ctx.Err() == nil {
		n.untold.Say(ctx, n.log, slog.LevelInfo, "the audit could not be told of the members; that is tried again", slog.Any("error", err))
	}
	return index
}
