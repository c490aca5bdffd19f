package api

import (
	"github.com/google/uuid"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// auditPage is how many entries come unasked.
const auditPage = 100

// auditEntry is an entry in answers. OrgID is there for operators.
type auditEntry struct {
	ID        string     `json:"id"`
	Index     uint64     `json:"index"`
	At        instant    `json:"at"`
	Action    string     `json:"action"`
	Actor     auditActor `json:"actor"`
	Address   *string    `json:"address"`
	RequestID *string    `json:"request_id"`
	OrgID     *string    `json:"orgId,omitempty"`
	Target    *string    `json:"target"`
	Count     uint32     `json:"count"`
}

// auditActor is who made a change; ID is a key's.
type auditActor struct {
	Type string  `json:"type"`
	ID   *string `json:"id"`
}

func actorOf(a *statepb.Actor) auditActor {
	kind := "system"
	switch a.GetType() {
	case statepb.Actor_KEY:
		kind = "key"
	case statepb.Actor_OPERATOR:
		kind = "operator"
	case statepb.Actor_SIGNUP:
		kind = "signup"
	case statepb.Actor_SYSTEM:
	}
	return auditActor{kind, orNull(a.GetId())}
}

// listAudit lists an org's entries, or for everyone those of all.
func listAudit(everyone bool) func(*request) (step, error) {
	return func(r *request) (step, error) {
		limit, err := r.pageLimit(auditPage)
		if err != nil {
			return step{}, err
		}
		var before state.Place
		if text, present := r.query.Get("cursor"); present {
			var ok bool
			if before, ok = state.ParsePlace(string(text)); !ok {
				return step{}, badCursor()
			}
		}
		return step{read: func(s *sight) (any, error) {
			s.everyone = everyone
			list, more, err := s.Audit(s.orgID, before, limit, s.now)
			if err != nil {
				return nil, err //nolint:wrapcheck // says what
			}
			a, next := &long{list: "entries"}, ""
			for _, e := range list {
				entry := auditEntry{
					ID: e.Place.String(), Index: e.Index, At: instant(e.GetAtMs()), Action: e.GetAction(), Actor: actorOf(e.GetActor()),
					Address: orNull(e.GetAddress()), RequestID: orNull(e.GetRequestId()), Target: orNull(e.GetTarget()), Count: e.GetCount(),
				}
				if id, err := uuid.FromBytes(e.GetOrgId()); everyone && err == nil && id != uuid.Nil {
					entry.OrgID = orNull(id.String())
				}
				if err := a.add(entry); err != nil {
					return nil, err
				}
				if more {
					next = entry.ID
				}
			}
			a.rest = struct {
				wire.Envelope
				Entries    []auditEntry `json:"entries"`
				NextCursor string       `json:"nextCursor,omitempty"`
			}{r.in.Envelope("ok"), []auditEntry{}, next}
			return a, nil
		}}, nil
	}
}
