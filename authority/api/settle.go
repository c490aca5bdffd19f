package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/decision"
	"machineid/shared/format"
	"machineid/shared/wire"
)

// settleGrace is how much longer than its own time a request waits for a change that is committed: with the 8 s of a
// request that makes the 9 s of docs/api.md, Time, and known clients give up at 10 s.
const settleGrace = time.Second

// sight is a view with the time at which it is judged.
type sight struct {
	state.Reader
	seen *seen
	mark state.Mark
	now  decision.Millis // never behind the state's own time

	// The caller's, once authenticated.
	org   *statepb.Org
	orgID state.OrgID
	// everyone says that the view is read for what it holds of all orgs.
	everyone bool
}

// look runs f on a linearizable view. Where f says so, look returns only when every change of the org that the view
// holds is in force at every edge, whatever f came to: a refusal reports a state too.
func (r *request) look(ctx context.Context, f func(*sight) (settle bool, err error)) error {
	s, settle, err := r.see(ctx, f)
	_, isAnswer := errors.AsType[*wire.Error](err)
	if _, refused := errors.AsType[*refusal](err); err != nil && !isAnswer && !refused {
		return &unavailable{outcome: wire.OutcomeNotDone, cause: err}
	}
	// Of a key that nobody has there is no org, and nothing that could have changed.
	if !settle || s.orgID == (state.OrgID{}) && !s.everyone {
		return err
	}
	if err := r.api.cfg.Hub.SettleOrg(ctx, s.mark.Index, s.orgID); err != nil {
		return &unavailable{outcome: wire.OutcomeNotDone, cause: fmt.Errorf("wait for the edges up to index %d: %w", s.mark.Index, err)}
	}
	return err
}

// settled hands on what a call came to once all that it saw on its way is in force at every edge: what it tells may be of a view, and of no
// command that was waited for.
func (r *request) settled(answer any, err error) (any, error) {
	_, lost := errors.AsType[*unavailable](err)
	if lost || r.saw == 0 || r.status == fasthttp.StatusAccepted { // nothing is told, or no more than that it is committed
		return answer, err
	}
	outcome := wire.OutcomeNotDone
	if r.committed {
		outcome = wire.OutcomeCommitted
	}
	if late := r.settleOrg(context.Background(), &hub.Propagation{}, r.saw, outcome); late != nil {
		return nil, late
	}
	return answer, err
}

// see opens a view for f, and for no longer: an open view keeps old data on disk, and settling can take seconds.
func (r *request) see(ctx context.Context, f func(*sight) (bool, error)) (s *sight, settle bool, err error) {
	view, err := r.api.cfg.Store.Read(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("read the state: %w", err)
	}
	return r.through(ctx, view, f)
}

// through shows f a view and closes it.
func (r *request) through(ctx context.Context, view *raftstore.View, f func(*sight) (bool, error)) (s *sight, settle bool, err error) {
	defer func() {
		_ = view.Close() // nothing was written that could be lost
		if r.reading != nil {
			r.reading.read()
		}
	}()
	s = &sight{Reader: state.NewReader(view.Reader())}
	if r.reads {
		s.Reader = s.Paced(r.pace(ctx))
	}
	s.seen, _ = view.Shared(func() any { return &seen{} }).(*seen)
	if s.mark, err = s.seen.newest(s.Reader); err != nil {
		return nil, false, err
	}
	s.now = max(r.api.cfg.Told(), s.mark.Time)
	settle, err = f(s)
	return s, settle, err
}

// done is what a command came to, in force at every edge.
type done struct {
	state.Outcome
	propagation hub.Propagation
}

// commit proposes a command on the caller's behalf and returns only when what came of it is in force at every edge, unless the
// caller prefers not to wait (propagation.go): also if it
// changed nothing, for the caller must not be told so earlier than the one whose change it met, and also if it was refused.
// A refusal is returned as a *refusal.
func (r *request) commit(ctx context.Context, cmd *statepb.Command) (done, error) {
	cmd.TimeMs, cmd.Actor, cmd.Address, cmd.RequestId = r.api.cfg.Now(), r.actor, r.address(), string(r.in.ID)
	cmd.Caller, cmd.OperatorHash, cmd.Once = r.caller, r.token, r.once()
	if err := r.first(ctx, cmd); err != nil {
		return done{}, err
	}
	index, out, err := r.propose(ctx, cmd)
	if err != nil {
		return done{}, err
	}
	r.committed = r.committed || out.Refusal == state.Granted
	if out.Refusal == state.Granted && r.async() {
		// Nothing is claimed but that it is committed. A refusal reports a state, and so it waits.
		r.replayed(&out)
		r.http.Response.Header.Set(preferenceApplied, respondAsync)
		r.status = fasthttp.StatusAccepted
		return done{out, hub.Propagation{Index: index, Pending: true}}, nil
	}
	// What is committed is committed: the rest is waiting, for which there is a little more time.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.deadline.Add(settleGrace))
	defer cancel()
	p, err := r.api.cfg.Hub.Settle(ctx, index)
	if err == nil {
		r.replayed(&out)
	}
	switch {
	case err != nil && out.Refusal != state.Granted:
		return done{}, &unavailable{outcome: wire.OutcomeNotDone, cause: fmt.Errorf("wait for the edges up to index %d: %w", index, err)}
	case err != nil:
		return done{}, &unavailable{outcome: wire.OutcomeCommitted, cause: fmt.Errorf("wait for the edges to have index %d: %w", index, err)}
	case out.Refusal != state.Granted:
		return done{}, &refusal{out: out, index: index}
	}
	if tell := r.api.cfg.Changed; tell != nil && out.Changed && !out.Replayed {
		tell(out.Action, out.Target, p)
	}
	return done{out, p}, nil
}

// propose proposes a command; those of batches of one org one at a time (F7).
func (r *request) propose(ctx context.Context, cmd *statepb.Command) (index uint64, out state.Outcome, err error) {
	switch cmd.GetChange().(type) {
	case *statepb.Command_RevokeBatch, *statepb.Command_UnrevokeBatch:
		leave, err := r.api.batches.enter(ctx, r.org)
		if err != nil {
			return 0, out, &unavailable{outcome: wire.OutcomeNotDone, cause: fmt.Errorf("wait for the org's other batches: %w", err)}
		}
		defer leave()
	}
	if index, out, err = r.api.cfg.Store.Propose(ctx, cmd); err != nil {
		if early, is := errors.AsType[*format.UpgradeError](err); is {
			return 0, out, wire.UpgradeNotFinished(early.Error())
		}
		return 0, out, notProposed(err)
	}
	return index, out, nil
}

// committer is commit or commitAmong.
type committer func(r *request, ctx context.Context, cmd *statepb.Command) (done, error)

// commitAmong commits a change of which more is told than of the record that it changes: that there is room for one more, how the plan stands,
// that no other key is an admin's. That follows from the org's other records, so their changes are waited for as well, whatever it came to: who gets
// the seat of another would else be told so while an edge still allows that one.
func (r *request) commitAmong(ctx context.Context, cmd *statepb.Command) (done, error) {
	d, err := r.commit(ctx, cmd)
	index := d.propagation.Index
	switch f, refused := errors.AsType[*refusal](err); {
	case refused && f.seen:
		return done{}, err
	case refused:
		index = f.index
	case err != nil:
		return done{}, err
	case d.propagation.Pending:
		return d, nil // its caller does not wait
	}
	outcome := wire.OutcomeCommitted
	if err != nil {
		outcome = wire.OutcomeNotDone
	}
	if late := r.settleOrg(ctx, &d.propagation, index, outcome); late != nil {
		return done{}, late
	}
	return d, err
}

// settleOrg waits until all changes of the caller's org up to index are in force at every edge, as a part of what p took.
func (r *request) settleOrg(ctx context.Context, p *hub.Propagation, index uint64, outcome string) error {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), r.deadline.Add(settleGrace))
	defer cancel()
	began := time.Now()
	if err := r.api.cfg.Hub.SettleOrg(ctx, index, r.org); err != nil {
		return &unavailable{outcome: outcome, cause: fmt.Errorf("wait for the edges to have the org's changes up to index %d: %w", index, err)}
	}
	p.ElapsedMs += float64(time.Since(began).Microseconds()) / 1000
	return nil
}
