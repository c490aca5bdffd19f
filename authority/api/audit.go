package api

import (
	"encoding/json"

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
	// Targets are what was changed, as far as it is named.
	Targets []string `json:"targets"`
	Count   uint32   `json:"count"`
	// TargetsLeftOut is how many of count are not named in Targets; of an entry that stands for others that is not known.
	TargetsLeftOut uint32 `json:"targetsLeftOut,omitempty"`
	// LeftOut says that the entry stands for count changes that have none of their own.
	LeftOut bool `json:"leftOut,omitempty"`
	// Before and After are what was set differently, null where nothing is set.
	Before map[string]any `json:"before"`
	After  map[string]any `json:"after"`
}

// auditActor is who made a change; ID is a key's, an operator's token's, or a node's.
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

// entryOf is an entry in answers; named says whether with its org.
func entryOf(e state.Entry, named bool) auditEntry {
	entry := auditEntry{
		ID: e.Place.String(), Index: e.Index, At: instant(e.GetAtMs()), Action: e.GetAction(), Actor: actorOf(e.GetActor()),
		Address: orNull(e.GetAddress()), RequestID: orNull(e.GetRequestId()), Target: orNull(e.GetTarget()), Targets: e.GetTargets(),
		Count: e.GetCount(), LeftOut: e.GetLeftOut(),
	}
	if id, err := uuid.FromBytes(e.GetOrgId()); named && err == nil && id != uuid.Nil {
		entry.OrgID = orNull(id.String())
	}
	switch {
	case entry.LeftOut:
	case len(entry.Targets) > 0:
		entry.TargetsLeftOut = entry.Count - min(entry.Count, uint32(len(entry.Targets)))
	case entry.Count > 1: // an old one, of a batch
		entry.Targets, entry.TargetsLeftOut = []string{}, entry.Count
	case entry.Target != nil:
		entry.Targets = []string{*entry.Target}
	default:
		entry.Targets = []string{}
	}
	for i, s := range e.GetSettings() {
		if i == 0 {
			entry.Before, entry.After = map[string]any{}, map[string]any{}
		}
		entry.Before[s.GetName()], entry.After[s.GetName()] = settingOf(s.GetBefore()), settingOf(s.GetAfter())
	}
	return entry
}

// settingOf is a value as the call that sets it has it.
func settingOf(v *statepb.Value) any {
	switch v := v.GetValue().(type) {
	case *statepb.Value_Flag:
		return v.Flag
	case *statepb.Value_Number:
		return v.Number
	case *statepb.Value_Text:
		return v.Text
	case *statepb.Value_TimeMs:
		return instant(v.TimeMs)
	case *statepb.Value_Json:
		return json.RawMessage(v.Json)
	case *statepb.Value_Plans:
		return tiersOf(v.Plans)
	case *statepb.Value_Digest:
		return v.Digest
	}
	return nil
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
				return nil, err
			}
			a, next := &long{list: "entries"}, ""
			for _, e := range list {
				entry := entryOf(e, everyone)
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
