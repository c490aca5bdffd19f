package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"strings"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

// keyed is access by an org's key of one of these scopes.
type keyed map[statepb.Key_Scope]bool

func (keyed) present(r *request) error {
	key := wire.Trim(r.in.Head.OrgKey)
	if r.in.Operated() {
		return r.operatorFor()
	}
	if len(key) == 0 {
		return wire.MissingOrgKey()
	}
	if err := orgkey.Check(key); err != nil {
		return wire.InvalidOrgKey(err)
	}
	return nil
}

// operatorFor makes the operator the caller, on behalf of the org that a header names.
func (r *request) operatorFor() (err error) {
	if err = r.byOperator(); err == nil {
		r.org, err = parseOrg(string(wire.Trim(r.in.Head.Operated)))
	}
	return err
}

// admitOperator looks for the org that the operator named.
func (r *request) admitOperator(ctx context.Context, read func(*sight) (any, error)) (answer any, err error) {
	err = r.look(ctx, func(s *sight) (settled bool, err error) {
		s.orgID = r.org
		if s.org, err = s.Org(r.org); err != nil {
			return true, err
		}
		if s.org == nil {
			return true, wire.OrgNotFound()
		}
		if read == nil {
			return false, nil
		}
		answer, err = read(s)
		return true, err
	})
	return answer, err
}

func (scopes keyed) admit(ctx context.Context, r *request, read func(*sight) (any, error)) (answer any, err error) {
	if r.scope != statepb.Key_NONE {
		return r.admitOperator(ctx, read)
	}
	hash := orgkey.Sum(wire.Trim(r.in.Head.OrgKey))
	admit := func(s *sight) (settled bool, err error) {
		key, err := s.authenticate(hash)
		if err != nil {
			return true, err
		}
		r.org = state.OrgID(key.GetOrgId())
		r.actor = &statepb.Actor{Type: statepb.Actor_KEY, Id: key.GetKeyId()}
		r.scope = key.GetScope()
		r.api.cfg.Hub.Used(hash, s.now)
		r.caller = &statepb.Caller{KeyHash: hash[:], Scopes: scopes.list()}
		switch {
		case !scopes[key.GetScope()]:
			return false, wire.InsufficientScope() // a key's scope never changes
		case read == nil:
			return false, nil // what follows is a change, which settles by itself
		}
		answer, err = read(s)
		return true, err
	}
	if r.rejudged && read == nil && r.admitted(ctx, admit) {
		return nil, nil
	}
	err = r.look(ctx, admit)
	return answer, err
}

// admitted reports whether a view that nothing proves to be the newest admits the caller. That is enough for a change which the state
// judges again: a round that confirms the leadership would add a round trip to what the commit proves anyway. A refusal is an
// answer, so it needs the proof.
func (r *request) admitted(ctx context.Context, admit func(*sight) (bool, error)) bool {
	view, err := r.api.cfg.Store.View()
	if err != nil {
		return false
	}
	if _, _, err = r.through(ctx, view, admit); err != nil {
		r.org, r.actor, r.scope, r.caller = state.OrgID{}, nil, statepb.Key_NONE, nil
	}
	return err == nil
}

// list is the scopes in order.
func (scopes keyed) list() []statepb.Key_Scope { return slices.Sorted(maps.Keys(scopes)) }

// authenticate finds the key and its org. Whether both exist is judged as validate judges it.
func (s *sight) authenticate(hash [32]byte) (*statepb.Key, error) {
	key, err := s.seen.key(s.Reader, hash)
	if err != nil {
		return nil, err
	}
	if key != nil {
		if s.org, err = s.seen.org(s.Reader, state.OrgID(key.GetOrgId())); err != nil {
			return nil, err
		}
		s.orgID = state.OrgID(key.GetOrgId())
	}
	if !state.KeyOf(key).Alive(s.now) || !state.HolderOf(s.org).Known {
		return nil, wire.OrgNotFound()
	}
	return key, nil
}

// signup is access to making an org: everyone's if signing up is open, else the operator's.
type signup struct{}

// errNoCluster says that there is nothing yet to compare the operator's token with.
var errNoCluster = errors.New("the cluster has no state yet")

func (signup) present(r *request) error {
	if len(r.in.Head.Authorization) == 0 {
		return nil
	}
	cluster := r.api.cfg.Cluster()
	switch {
	case operates(cluster, r.in.Head.Authorization):
		r.asOperator()
	case r.api.cfg.OpenSignup:
	case cluster == nil:
		return &unavailable{outcome: wire.OutcomeNotDone, cause: errNoCluster}
	default:
		return wire.InvalidOperatorToken()
	}
	return nil
}

func (signup) admit(_ context.Context, r *request, _ func(*sight) (any, error)) (any, error) {
	switch {
	case r.actor != nil:
	case r.api.cfg.OpenSignup:
		r.actor = &statepb.Actor{Type: statepb.Actor_SIGNUP}
	default:
		return nil, wire.SignupClosed()
	}
	return nil, nil
}

// operates tells whether the header Authorization carries the operator's token.
func operates(cluster *statepb.Cluster, authorization []byte) bool {
	sum, ok := shownToken(authorization)
	return ok && subtle.ConstantTimeCompare(sum[:], cluster.GetOperatorTokenHash()) == 1
}

// shownToken is the SHA-256 of the token in the header Authorization.
func shownToken(authorization []byte) (sum [32]byte, ok bool) {
	scheme, token, ok := bytes.Cut(authorization, []byte{' '})
	if !ok || !strings.EqualFold(string(scheme), "Bearer") {
		return sum, false
	}
	return sha256.Sum256(wire.Trim(token)), true
}
