package api

import (
	"context"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// first refuses what would be refused, before it is proposed: the log grows by nothing that plainly cannot succeed (A5). That nothing speaks against a command a
// view tells that may be old, which costs no round among the nodes. That something does is an answer: it is told by the newest, once that is in force at every
// edge. What races is decided where it is applied, as before.
func (r *request) first(ctx context.Context, cmd *statepb.Command) error {
	if view, err := r.api.cfg.Store.View(); err == nil {
		if _, _, err := r.through(ctx, view, r.refuses(cmd)); err == nil {
			return nil
		}
	}
	return r.look(ctx, r.refuses(cmd))
}

// refuses looks at a view.
func (r *request) refuses(cmd *statepb.Command) func(*sight) (settle bool, err error) {
	return func(s *sight) (bool, error) {
		known := state.First{Orgs: r.api.cfg.Orgs()}
		var err error
		if known.Plans, err = s.seen.tiers(s.Reader); err != nil {
			return false, err
		}
		if s.orgID = r.org; r.org != (state.OrgID{}) {
			if known.Org, err = s.seen.org(s.Reader, r.org); err != nil {
				return false, err
			}
		}
		if hash := cmd.GetCaller().GetKeyHash(); len(hash) == len([32]byte{}) {
			if known.Key, err = s.seen.key(s.Reader, [32]byte(hash)); err != nil {
				return false, err
			}
		}
		out, refused, err := s.Refuses(cmd, s.now, known)
		if err != nil || !refused {
			return false, err
		}
		s.everyone = r.org == (state.OrgID{}) && r.actor.GetType() == statepb.Actor_OPERATOR
		return true, &refusal{out: out, index: s.mark.Index, seen: true}
	}
}
