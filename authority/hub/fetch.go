package hub

import (
	"context"
	"fmt"
	"log/slog"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/link"
)

// fetch answers a frame's fetches from one snapshot (I5). It needs no proof of
// leadership: the edge uses an answer only under a lease of the same term, and
// no later leader returns from a change while one can be out (I8).
func (h *Hub) fetch(ctx context.Context, r *reign, list []*link.Fetch) []*link.Answer {
	h.metrics.fetches.Add(float64(len(list)))
	if term, ok := h.store.Leading(); !ok || term != r.term {
		return unavailable(list)
	}
	view, err := h.store.View()
	if err != nil {
		h.log.LogAttrs(ctx, slog.LevelWarn, "fetches not answered", slog.Any("error", err))
		return unavailable(list)
	}
	defer func() { _ = view.Close() }()
	rd, index := state.NewReader(view.Reader()), view.Position().Index
	out := make([]*link.Answer, len(list))
	for i, f := range list {
		a, err := lookUp(rd, f)
		if err != nil {
			h.log.LogAttrs(ctx, slog.LevelError, "fetch not answered", slog.Any("error", err))
			a = &link.Answer{Unavailable: true}
		}
		a.Id, a.Index = f.GetId(), index
		out[i] = a
	}
	return out
}

// lookUp reads what one Fetch asks for.
func lookUp(rd state.Reader, f *link.Fetch) (*link.Answer, error) {
	a := &link.Answer{}
	var org state.OrgID
	switch {
	case len(f.GetKeyHash()) == 32:
		k, err := rd.Key([32]byte(f.GetKeyHash()))
		if err != nil {
			return nil, err
		}
		a.Key = keyRecord(k)
		if k == nil {
			return a, nil
		}
		org = state.OrgID(k.GetOrgId())
	case len(f.GetOrgId()) == 16:
		org = state.OrgID(f.GetOrgId())
	default:
		return nil, fmt.Errorf("fetch %d names neither a key nor an org", f.GetId())
	}
	o, err := rd.Org(org)
	if err != nil {
		return nil, err
	}
	a.Org = orgRecord(o)
	if o == nil || f.GetDeviceId() == "" {
		return a, nil
	}
	d, err := rd.Occupant(org, f.GetDeviceId())
	if err != nil {
		return nil, err
	}
	a.Device = deviceRecord(d)
	return a, nil
}

func keyRecord(k *statepb.Key) *link.KeyRecord {
	d := state.KeyOf(k)
	return &link.KeyRecord{MinVersion: d.MinVersion, Known: d.Known, OrgId: k.GetOrgId(), ExpiresAtMs: d.ExpiresAt}
}

func orgRecord(o *statepb.Org) *link.OrgRecord {
	d := state.HolderOf(o)
	return &link.OrgRecord{
		MinVersion: d.MinVersion, Known: d.Known, Disabled: d.Disabled, Frozen: d.Frozen,
		GraceUntilMs: d.GraceUntil, AccessUntilMs: d.AccessUntil,
	}
}

func deviceRecord(o *statepb.Occupant) *link.DeviceRecord {
	d := state.OccupantOf(o)
	return &link.DeviceRecord{MinVersion: d.MinVersion, Known: d.Known, Revoked: d.Revoked, ExpiresAtMs: d.ExpiresAt}
}
