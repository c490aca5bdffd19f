package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"machineid/authority/billing"
	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

func createOrg(r *request) (step, error) {
	name, err := r.text("name")
	if err != nil {
		return step{}, err
	}
	externalID, err := r.text("externalId")
	if err != nil {
		return step{}, err
	}
	c := &statepb.CreateOrg{Version: r.api.cfg.DefaultVersion}
	if r.in.Route.Operator { // the operator's own way says what else the org is to be
		more := &statepb.UpdateOrg{}
		if err := r.planTier(more); err != nil {
			return step{}, err
		}
		if err := r.generation(more); err != nil {
			return step{}, err
		}
		c.PlanTier = more.GetPlanTier()
		if more.Version != nil {
			c.Version = more.GetVersion()
		}
	}
	if name != nil {
		c.Name = *name
	}
	if externalID != nil {
		c.ExternalId = *externalID
	}
	return step{change: func(ctx context.Context) (any, error) { return r.createOrg(ctx, c) }}, nil
}

func (r *request) createOrg(ctx context.Context, c *statepb.CreateOrg) (any, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, &unavailable{outcome: wire.OutcomeNotDone, cause: fmt.Errorf("make an org's id: %w", err)}
	}
	c.OrgId = id[:]
	if r.actor.GetType() == statepb.Actor_SIGNUP {
		c.SignUp = &statepb.SignUp{MaxOrgs: r.api.cfg.MaxOrgs}
	}
	admin, err := addKey(c, "admin", statepb.Key_ADMIN)
	if err != nil {
		return nil, err
	}
	agent, err := addKey(c, "agent", statepb.Key_AGENT)
	if err != nil {
		return nil, err
	}
	d, err := r.commit(ctx, &statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: c}})
	if err != nil {
		// Its keys are lost with this answer: to try again is to make another org.
		if u, ok := errors.AsType[*unavailable](err); ok && u.outcome != wire.OutcomeNotDone {
			u.message = "an org may have been made but its keys cannot be shown any more: call org/create again for another"
		}
		return nil, err
	}
	return struct {
		wire.Envelope
		OrgAPIKey   string          `json:"orgApiKey"`
		AgentKey    string          `json:"agentKey"`
		OrgID       string          `json:"orgId"`
		Propagation hub.Propagation `json:"propagation"`
	}{r.in.Envelope("ok"), admin.Reveal(), agent.Reveal(), id.String(), d.propagation}, nil
}

// addKey makes a key for a new org. The command holds its hash only.
func addKey(c *statepb.CreateOrg, name string, scope statepb.Key_Scope) (orgkey.Key, error) {
	key, err := orgkey.New(rand.Reader)
	if err != nil {
		return orgkey.Key{}, &unavailable{outcome: wire.OutcomeNotDone, cause: err}
	}
	hash := key.Hash()
	c.Keys = append(c.Keys, &statepb.Key{Hash: hash[:], KeyId: key.ID(), OrgId: c.GetOrgId(), Scope: scope, Name: name})
	return key, nil
}

func setExecution(r *request) (step, error) {
	enabled, present, err := r.body.Bool("enabled")
	if err != nil {
		return step{}, err
	}
	if !present {
		return step{}, &wire.ParamError{Param: "enabled", Message: "enabled is missing: send true or false"}
	}
	return step{change: func(ctx context.Context) (any, error) {
		d, err := r.commit(ctx, &statepb.Command{Change: &statepb.Command_SetExecution{
			SetExecution: &statepb.SetExecution{OrgId: r.org[:], Enabled: enabled},
		}})
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			Enabled     bool            `json:"enabled"`
			Changed     bool            `json:"changed"`
			Propagation hub.Propagation `json:"propagation"`
		}{r.in.Envelope("ok"), !d.Org.GetExecutionDisabled(), d.Changed, d.propagation}, nil
	}}, nil
}

func badVersion() error {
	return &wire.ParamError{Param: "version", Message: "version is no API generation: send 1 or 2"}
}

func setSettings(r *request) (step, error) {
	version, present, err := r.body.Int("version")
	if err != nil {
		return step{}, err
	}
	if !present || version != 1 && version != 2 {
		return step{}, badVersion()
	}
	v := uint32(version)
	return step{change: func(ctx context.Context) (any, error) {
		d, err := r.commit(ctx, &statepb.Command{Change: &statepb.Command_UpdateOrg{UpdateOrg: &statepb.UpdateOrg{OrgId: r.org[:], Version: &v}}})
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			Version     uint32          `json:"version"`
			Changed     bool            `json:"changed"`
			Propagation hub.Propagation `json:"propagation"`
		}{r.in.Envelope("ok"), d.Org.GetVersion(), d.Changed, d.propagation}, nil
	}}, nil
}

func showOrg(r *request) (step, error) {
	return step{read: func(s *sight) (any, error) {
		p, err := s.Plan(s.org, s.now)
		if err != nil {
			return nil, err
		}
		version := s.org.GetVersion()
		if version == 0 {
			version = r.api.cfg.DefaultVersion
		}
		return struct {
			wire.Envelope
			OrgID   string  `json:"orgId"`
			Name    *string `json:"name"`
			Version uint32  `json:"version"`
			plan
			ExecutionEnabled bool `json:"executionEnabled"`
		}{r.in.Envelope("ok"), s.orgID.String(), orNull(s.org.GetName()), version, planOf(p), !s.org.GetExecutionDisabled()}, nil
	}}, nil
}

func usage(r *request) (step, error) {
	return step{read: func(s *sight) (any, error) {
		p, err := s.Plan(s.org, s.now)
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			plan
			IsActive         bool `json:"isActive"`
			IsGrace          bool `json:"isGrace"`
			IsFrozen         bool `json:"isFrozen"`
			ExecutionEnabled bool `json:"executionEnabled"`
		}{
			r.in.Envelope("ok"), planOf(p),
			p.State == state.PlanActive, p.State == state.PlanGrace, p.State == state.PlanIsFrozen,
			!s.org.GetExecutionDisabled(),
		}, nil
	}}, nil
}

// deleteOrg is the org's own way to its end, which it must name.
func deleteOrg(r *request) (step, error) {
	confirm, err := r.required("confirm")
	if err != nil {
		return step{}, err
	}
	way, err := r.wayOut()
	if err != nil {
		return step{}, err
	}
	return step{change: func(ctx context.Context) (any, error) {
		if confirm != r.org.String() {
			return nil, &wire.ParamError{Param: "confirm", Message: "confirm is not this org's orgId: send it, which GET org tells, to delete the org with all its devices and keys"}
		}
		return r.dropOrg(ctx, way)
	}}, nil
}

// What is to become of the subscription of an org that is deleted; unsaid, an org that has one is not deleted.
const (
	cancelsSubscription = "cancel"
	leavesSubscription  = "leave"
)

// wayOut reads what is to become of the org's subscription.
func (r *request) wayOut() (string, error) {
	way, given, err := r.body.String("subscription")
	if given && way != cancelsSubscription && way != leavesSubscription {
		return "", &wire.ParamError{Param: "subscription", Message: "subscription is neither cancel nor leave: leave it out, or send cancel to end at once what the org pays for"}
	}
	return way, err
}

// release sees to it that nobody is charged for an org that is gone.
func (r *request) release(ctx context.Context, way string) error {
	operator := r.actor.GetType() == statepb.Actor_OPERATOR
	if way == leavesSubscription {
		if !operator {
			return &wire.ParamError{Param: "subscription", Message: "only an operator can leave a subscription as it is: send cancel, or end it in the portal (billing/portal)"}
		}
		return nil
	}
	err := r.api.cfg.Billing.Release(ctx, &ledger{r: r}, r.org, way == cancelsSubscription)
	pays, ok := errors.AsType[*billing.StillPaysError](err)
	switch {
	case !ok:
		return err
	case pays.Unasked:
		return wire.Refused(pays.Error() + ": Stripe is not set up here, so this cannot be ended; an operator sets --stripe-secret-key-file, or deletes the org with subscription leave")
	case operator:
		return wire.Refused(pays.Error() + ": end it at Stripe, or send subscription cancel to end it at once without a refund, or leave to delete the org all the same")
	}
	return wire.Refused(pays.Error() + ": end it in the portal (billing/portal), or send subscription cancel to end it at once without a refund")
}

// dropOrg deletes the org, once nobody is charged for it any more.
func (r *request) dropOrg(ctx context.Context, way string) (any, error) {
	if err := r.release(ctx, way); err != nil {
		return nil, err
	}
	d, err := r.commit(ctx, &statepb.Command{Change: &statepb.Command_DeleteOrg{DeleteOrg: &statepb.DeleteOrg{OrgId: r.org[:]}}})
	if err != nil {
		return nil, err
	}
	r.api.cfg.Billing.Gone(ctx, r.org)
	return struct {
		wire.Envelope
		OrgID       string          `json:"orgId"`
		Deleted     bool            `json:"deleted"`
		Propagation hub.Propagation `json:"propagation"`
	}{r.in.Envelope("ok"), r.org.String(), true, d.propagation}, nil
}
