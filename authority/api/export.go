package api

import (
	"machineid/shared/wire"
)

// exportedOrg is an org as it is handed out.
type exportedOrg struct {
	OrgID      string  `json:"orgId"`
	Name       *string `json:"name"`
	ExternalID *string `json:"externalId"`
	Version    uint32  `json:"version"`
	CreatedAt  instant `json:"createdAt"`
	plan
	ExecutionEnabled bool `json:"executionEnabled"`
}

// exportOrg hands out what is kept of an org: itself, its keys but for their secrets, which nobody has, and its devices, a page of
// them after the other. Each page is of one instant.
func exportOrg(r *request) (step, error) {
	limit, from, err := r.devicePage()
	if err != nil {
		return step{}, err
	}
	return step{read: func(s *sight) (any, error) {
		p, err := s.Plan(s.org, s.now)
		if err != nil {
			return nil, err
		}
		keys, err := s.keys()
		if err != nil {
			return nil, err
		}
		a := &long{list: "devices"}
		next, err := s.devices(r, &a.items, from, limit)
		if err != nil {
			return nil, err
		}
		version := s.org.GetVersion()
		if version == 0 {
			version = r.api.cfg.DefaultVersion
		}
		a.rest = struct {
			wire.Envelope
			ExportedAt instant     `json:"exportedAt"`
			Org        exportedOrg `json:"org"`
			Keys       []shownKey  `json:"keys"`
			Devices    []device    `json:"devices"`
			NextCursor string      `json:"nextCursor,omitempty"`
		}{r.in.Envelope("ok"), instant(s.now), exportedOrg{
			OrgID: s.orgID.String(), Name: orNull(s.org.GetName()), ExternalID: orNull(s.org.GetExternalId()), Version: version,
			CreatedAt: instant(s.org.GetCreatedAtMs()), plan: planOf(p), ExecutionEnabled: !s.org.GetExecutionDisabled(),
		}, keys, []device{}, next}
		return a, nil
	}}, nil
}
