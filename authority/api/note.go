package api

import (
	"context"
	"log/slog"
	"time"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// judgeTime is how long a call about the cluster waits before it begins, for what is to be written before. A cluster in trouble must be put right also if
// nothing can be written.
const judgeTime = 3 * time.Second

// Asker is who asked for something, as the audit names it.
type Asker struct {
	Actor              *statepb.Actor
	Address, RequestID string
}

func (r *request) asker() Asker { return Asker{r.actor, r.address(), string(r.in.ID)} }

// MembersCommand tells the audit what members the cluster has, on somebody's behalf.
func MembersCommand(now int64, by Asker, index uint64, members []raftstore.Member) *statepb.Command {
	list := &statepb.Members{Index: index}
	for _, m := range members {
		list.Members = append(list.Members, &statepb.Member{Id: m.ID, Store: m.Store, Address: m.Address, Voter: m.Voter})
	}
	cmd := by.command(now)
	cmd.Change = &statepb.Command_SetMembers{SetMembers: &statepb.SetMembers{Members: list}}
	return cmd
}

func (a Asker) command(now int64) *statepb.Command {
	return &statepb.Command{TimeMs: now, Actor: a.Actor, Address: a.Address, RequestId: a.RequestID}
}

// note tells the audit of what was done elsewhere than in the state. It concerns no edge, so nobody waits for any. That it cannot be told undoes nothing: the
// log tells it then. A call's own time may be over: it was done all the same.
func (r *request) note(ctx context.Context, action, target string, set ...*statepb.Setting) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.deadline.Add(settleGrace))
	defer cancel()
	r.noteWithin(ctx, action, target, set...)
}

// noteWithin is note in the time of ctx.
func (r *request) noteWithin(ctx context.Context, action, target string, set ...*statepb.Setting) {
	cmd := r.asker().command(r.api.cfg.Now())
	cmd.Change = &statepb.Command_Note{Note: &statepb.Note{Action: action, Target: target, Settings: set}}
	if _, err := r.tell(ctx, cmd); err != nil {
		r.api.log.LogAttrs(ctx, slog.LevelWarn, "the audit could not be told", slog.String("action", action), slog.String("target", target),
			slog.String("actor", r.actor.GetId()), slog.String("address", cmd.GetAddress()), slog.String("request_id", cmd.GetRequestId()), slog.Any("error", err))
	}
}

// noteMembers tells the audit what has become of the member that the call was about, whatever the call came to: only what differs is told. What others do
// meanwhile they tell. If it cannot be told, the leader does so later, and does not know who asked.
func (r *request) noteMembers(ctx context.Context, id string) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.deadline.Add(settleGrace))
	defer cancel()
	if err := r.tellMembers(ctx, id); err != nil {
		r.api.log.LogAttrs(ctx, slog.LevelDebug, "the audit is told of the members later", slog.Any("error", err))
	}
}

// judgedAgain has the operator's token judged in the log, behind every rotation before it: what Raft does with its members is no command that could judge it.
// If nothing can be written, it stays with what this node knew.
func (r *request) judgedAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, judgeTime)
	defer cancel()
	cmd := r.asker().command(r.api.cfg.Now())
	cmd.OperatorHash, cmd.Change = r.token, &statepb.Command_SetMembers{SetMembers: &statepb.SetMembers{}}
	out, err := r.tell(ctx, cmd)
	if err == nil && out.Refusal == state.TokenMoved {
		return wire.InvalidOperatorToken()
	}
	return nil
}

func (r *request) tellMembers(ctx context.Context, id string) error {
	index, members, err := r.api.cfg.Nodes.Configured()
	if err != nil {
		return err
	}
	cmd := MembersCommand(r.api.cfg.Now(), r.asker(), index, members)
	if id != allMembers {
		cmd.GetSetMembers().Only = id
	}
	_, err = r.tell(ctx, cmd)
	return err
}

// tell proposes what only the audit is told of.
func (r *request) tell(ctx context.Context, cmd *statepb.Command) (out state.Outcome, err error) {
	if r.api.cfg.Cluster() == nil {
		return out, errNoCluster
	}
	_, out, err = r.api.cfg.Store.Propose(ctx, cmd)
	return out, err
}
