package api

import (
	"context"

	"github.com/google/uuid"

	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// overseer is access by the operator's token to calls about orgs and plans.
type overseer struct{}

func (overseer) present(r *request) error { return r.byOperator() }

// byOperator makes the operator the caller, if the token is right.
func (r *request) byOperator() error {
	switch cluster := r.api.cfg.Cluster(); {
	case cluster == nil:
		return &unavailable{outcome: wire.OutcomeNotDone, cause: errNoCluster}
	case !operates(cluster, r.in.Head.Authorization):
		return wire.InvalidOperatorToken()
	}
	r.asOperator()
	r.scope = statepb.Key_ADMIN
	return nil
}

// asOperator makes the operator the caller, whose token was found right.
func (r *request) asOperator() {
	sum, _ := shownToken(r.in.Head.Authorization)
	r.token = sum[:]
	r.actor = &statepb.Actor{Type: statepb.Actor_OPERATOR, Id: state.TokenID(r.token)}
}

func (overseer) admit(ctx context.Context, r *request, read func(*sight) (any, error)) (answer any, err error) {
	if read == nil {
		return nil, nil
	}
	err = r.look(ctx, func(s *sight) (bool, error) {
		answer, err = read(s)
		return true, err
	})
	return answer, err
}

// operated is an org as operators see it.
type operated struct {
	OrgID      string  `json:"orgId"`
	Name       *string `json:"name"`
	ExternalID *string `json:"externalId"`
	Version    uint32  `json:"version"`
	CreatedAt  instant `json:"createdAt"`
	plan
	Hold             bool    `json:"hold"`
	OwnLimit         *uint32 `json:"ownLimit"`
	ExecutionEnabled bool    `json:"executionEnabled"`
}

func (r *request) operated(o *statepb.Org, p state.Plan) operated {
	version := o.GetVersion()
	if version == 0 {
		version = r.api.cfg.DefaultVersion
	}
	id, _ := uuid.FromBytes(o.GetId()) // was one
	return operated{
		OrgID: id.String(), Name: orNull(o.GetName()), ExternalID: orNull(o.GetExternalId()), Version: version, CreatedAt: instant(o.GetCreatedAtMs()),
		plan: planOf(p), Hold: o.GetHeld(), OwnLimit: o.Limit, ExecutionEnabled: !o.GetExecutionDisabled(),
	}
}

// orgsPage is how many orgs come unasked.
const orgsPage = 100

func listOrgs(r *request) (step, error) {
	limit, err := r.pageLimit(orgsPage)
	if err != nil {
		return step{}, err
	}
	var from state.OrgID
	if text, present := r.query.Get("cursor"); present {
		if from, err = orgCursor(string(text)); err != nil {
			return step{}, err
		}
	}
	return step{read: func(s *sight) (any, error) {
		s.everyone = true
		list, more, err := s.Orgs(from, limit)
		if err != nil {
			return nil, err
		}
		a, next := &long{list: "orgs"}, ""
		for _, o := range list {
			p, err := s.Plan(o, s.now)
			if err != nil {
				return nil, err
			}
			org := r.operated(o, p)
			if err := a.add(org); err != nil {
				return nil, err
			}
			if more {
				next = org.OrgID
			}
		}
		a.rest = struct {
			wire.Envelope
			Orgs       []operated `json:"orgs"`
			NextCursor string     `json:"nextCursor,omitempty"`
		}{r.in.Envelope("ok"), []operated{}, next}
		return a, nil
	}}, nil
}

// orgCursor reads a cursor that is an org's id.
func orgCursor(text string) (state.OrgID, error) {
	id, err := parseOrg(text)
	if err != nil {
		return id, badCursor()
	}
	return id, nil
}

// pathOrg takes the org that the path names.
func (r *request) pathOrg() error {
	path, _ := wire.SplitTarget(r.http.Request.Header.RequestURI())
	id, err := parseOrg(r.in.Route.Param(path))
	if err != nil {
		return r.forOperator(wire.OrgNotFound())
	}
	r.org = id
	return nil
}

// parseOrg reads an org's id in its one form.
func parseOrg(text string) (state.OrgID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return state.OrgID{}, &wire.ParamError{Param: "X-MachineID-Org", Message: "X-MachineID-Org is no org's id: send one like b2469749-4abd-45c1-946a-799ce518d2b7"}
	}
	return id, nil
}

func showOperated(r *request) (step, error) {
	if err := r.pathOrg(); err != nil {
		return step{}, err
	}
	return step{read: func(s *sight) (any, error) {
		s.orgID = r.org
		o, err := s.Org(r.org)
		if err != nil {
			return nil, err
		}
		if o == nil {
			return nil, wire.OrgNotFound()
		}
		p, err := s.Plan(o, s.now)
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			operated
		}{r.in.Envelope("ok"), r.operated(o, p)}, nil
	}}, nil
}

// maxOwnLimit is the largest cap that an org may be given of its own.
const maxOwnLimit = 10_000_000

// updateOrg changes what the body names: planTier, hold, accessUntil, limit, version. For accessUntil and limit null means none.
func updateOrg(r *request) (step, error) {
	if err := r.pathOrg(); err != nil {
		return step{}, err
	}
	c := &statepb.UpdateOrg{OrgId: r.org[:]}
	for _, read := range []func(*statepb.UpdateOrg) error{r.planTier, r.hold, r.accessUntil, r.ownLimit, r.generation} {
		if err := read(c); err != nil {
			return step{}, err
		}
	}
	return step{change: func(ctx context.Context) (any, error) {
		d, err := r.commitAmong(ctx, &statepb.Command{Change: &statepb.Command_UpdateOrg{UpdateOrg: c}})
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			operated
			Changed     bool            `json:"changed"`
			Propagation hub.Propagation `json:"propagation"`
		}{r.in.Envelope("ok"), r.operated(d.Org, d.Plan), d.Changed, d.propagation}, nil
	}}, nil
}

func (r *request) planTier(c *statepb.UpdateOrg) error {
	tier, present, err := r.body.String("planTier")
	switch {
	case err != nil || !present:
		return err
	case tier == "": // the state takes it for the free plan
		return &wire.ParamError{Param: "planTier", Message: "planTier is empty: send the name of a plan, or leave it out"}
	}
	c.PlanTier = &tier
	return nil
}

func (r *request) hold(c *statepb.UpdateOrg) error {
	held, present, err := r.body.Bool("hold")
	if present {
		c.Held = &held
	}
	return err
}

func (r *request) accessUntil(c *statepb.UpdateOrg) error {
	if r.body.Null("accessUntil") {
		c.AccessUntilMs = new(int64)
		return nil
	}
	at, present, err := r.instant("accessUntil")
	if present {
		c.AccessUntilMs = &at
	}
	return err
}

func (r *request) ownLimit(c *statepb.UpdateOrg) error {
	if r.body.Null("limit") {
		c.NoLimit = true
		return nil
	}
	limit, present, err := r.body.Int("limit")
	switch {
	case err != nil || !present:
		return err
	case limit < 0 || limit > maxOwnLimit:
		return &wire.ParamError{Param: "limit", Message: "limit is out of range: send 0 to 10000000, or null for the plan's"}
	}
	c.Limit = new(uint32(limit))
	return nil
}

func (r *request) generation(c *statepb.UpdateOrg) error {
	version, present, err := r.body.Int("version")
	switch {
	case err != nil || !present:
		return err
	case version != 1 && version != 2:
		return badVersion()
	}
	c.Version = new(uint32(version))
	return nil
}

// tier is a plan in answers and in bodies.
type tier struct {
	Tier  string `json:"planTier"`
	Limit uint32 `json:"limit"`
}

func tiersOf(p *statepb.Plans) []tier {
	list := make([]tier, len(p.GetPlans()))
	for i, one := range p.GetPlans() {
		list[i] = tier{one.GetTier(), one.GetLimit()}
	}
	return list
}

func (r *request) plans(p *statepb.Plans) any {
	return struct {
		wire.Envelope
		Plans     []tier `json:"plans"`
		GraceDays uint32 `json:"graceDays"`
	}{r.in.Envelope("ok"), tiersOf(p), p.GetGraceDays()}
}

func showPlans(r *request) (step, error) {
	return step{read: func(s *sight) (any, error) {
		s.everyone = true
		p, err := s.Plans()
		if err != nil {
			return nil, err
		}
		return r.plans(p), nil
	}}, nil
}

// Bounds of plans.
const (
	maxPlans     = 50
	maxGraceDays = 90
)

func setPlans(r *request) (step, error) {
	items, present, err := r.body.Items("plans", maxPlans)
	if err != nil {
		return step{}, err
	}
	if !present || len(items) > maxPlans {
		return step{}, &wire.ParamError{Param: "plans", Message: "plans is missing or too long: send all of them, at most 50"}
	}
	p := &statepb.Plans{}
	for _, item := range items {
		o, ok := item.Object()
		name, _, nameErr := o.String("planTier")
		limit, given, limitErr := o.Int("limit")
		if !ok || nameErr != nil || limitErr != nil || name == "" || len(name) > maxText || !printable(name) || !given || limit < 0 || limit > maxOwnLimit {
			return step{}, &wire.ParamError{Param: "plans", Message: `plans holds what is no plan: send objects like {"planTier":"pro","limit":25}`}
		}
		p.Plans = append(p.Plans, &statepb.Plan{Tier: name, Limit: uint32(limit)})
	}
	days, given, err := r.body.Int("graceDays")
	switch {
	case err != nil:
		return step{}, err
	case !given || days < 0 || days > maxGraceDays:
		return step{}, &wire.ParamError{Param: "graceDays", Message: "graceDays is missing or out of range: send 0 to 90"}
	}
	p.GraceDays = uint32(days)
	return step{change: func(ctx context.Context) (any, error) {
		if _, err := r.commit(ctx, &statepb.Command{Change: &statepb.Command_SetPlans{SetPlans: &statepb.SetPlans{Plans: p}}}); err != nil {
			return nil, err
		}
		return r.plans(p), nil
	}}, nil
}

// forOperator says of an org that is not there what the operator named it by.
func (r *request) forOperator(e *wire.Error) *wire.Error {
	if e.Code == "org_not_found" && r.actor.GetType() == statepb.Actor_OPERATOR {
		e.Message = "no org has this id: GET operator/orgs lists those there are"
	}
	return e
}

// changeOperated is PATCH and DELETE of an org.
func changeOperated(r *request) (step, error) {
	if !r.http.IsDelete() {
		return updateOrg(r)
	}
	if err := r.pathOrg(); err != nil {
		return step{}, err
	}
	way, err := r.wayOut()
	if err != nil {
		return step{}, err
	}
	return step{change: func(ctx context.Context) (any, error) { return r.dropOrg(ctx, way) }}, nil
}
