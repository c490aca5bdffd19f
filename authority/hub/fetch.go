package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/link"
)

// fetch answers a frame's fetches from one snapshot (I5). It needs no proof of
// leadership: the edge uses an answer only under a lease of the same term, and
// no later leader returns from a change while one can be out (I8).
//
// Interest is recorded before the snapshot is opened: a change that the snapshot
// lacks is dispatched after, and finds it. Which org a key opens is known only from
// the key, so that is read first, and all of it again after.
func (h *Hub) fetch(ctx context.Context, s *session, list []*link.Fetch) []*link.Answer {
	h.metrics.fetches.Add(float64(len(list)))
	if term, ok := h.store.Leading(); !ok || term != s.reign.term {
		return unavailable(list)
	}
	hasher, err := link.NewHasher(h.cfg.State.Cluster().GetHashKey())
	if err != nil {
		return unavailable(list)
	}
	orgs := make([]state.OrgID, len(list)) // zero: none
	out := make([]*link.Answer, len(list))
	byKey := false
	for i, f := range list {
		switch {
		case len(f.GetKeyHash()) == 32:
			s.reign.directory.note(s.slot, hasher.Key((*[32]byte)(f.GetKeyHash())))
			byKey = true
		case len(f.GetOrgId()) == 16:
			orgs[i] = state.OrgID(f.GetOrgId())
		}
	}
	if byKey {
		err = h.look(func(rd state.Reader, _ uint64) error { return openedBy(rd, list, orgs) })
	}
	for i, f := range list {
		if orgs[i] != (state.OrgID{}) {
			note(s, &hasher, orgs[i], f.GetDeviceId())
		}
	}
	if err == nil {
		err = h.look(func(rd state.Reader, index uint64) error {
			if by, _ := h.store.ReignAt(index); by.ID != s.reign.id {
				return errOver
			}
			var last error
			failed := 0
			for i, f := range list {
				a, err := lookUp(rd, f, orgs[i])
				if err != nil {
					if !errors.Is(err, errNotNoted) {
						last = err
						failed++
					}
					a = &link.Answer{Unavailable: true}
				}
				a.Id, a.Index = f.GetId(), index
				out[i] = a
			}
			if failed > 0 {
				h.say(ctx, slog.LevelError, s, "fetches not answered", slog.Int("fetches", failed), slog.Any("error", last))
			}
			return nil
		})
	}
	if err != nil {
		h.say(ctx, slog.LevelWarn, s, "fetches not answered", slog.Any("error", err))
		return unavailable(list)
	}
	return out
}

// look opens a snapshot for f.
func (h *Hub) look(f func(rd state.Reader, index uint64) error) error {
	view, err := h.store.View()
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	defer func() { _ = view.Close() }() // nothing was written that could be lost
	return f(state.NewReader(view.Reader()), view.Position().Index)
}

// openedBy finds the orgs of the keys that are asked for.
func openedBy(rd state.Reader, list []*link.Fetch, orgs []state.OrgID) error {
	for i, f := range list {
		if len(f.GetKeyHash()) != 32 {
			continue
		}
		k, err := rd.Key([32]byte(f.GetKeyHash()))
		if err != nil {
			return err
		}
		if k != nil {
			orgs[i] = state.OrgID(k.GetOrgId())
		}
	}
	return nil
}

// note records interest in an org, and in a device of it if one is named.
func note(s *session, hasher *link.Hasher, org state.OrgID, device string) {
	id := [16]byte(org)
	if device == "" {
		s.reign.directory.note(s.slot, hasher.Org(&id))
		return
	}
	s.reign.directory.note(s.slot, hasher.Org(&id), hasher.Device(&id, []byte(device)))
}

// errNotNoted says that a key came to be while it was looked up: in what it opens no
// interest is recorded. The edge asks again.
var errNotNoted = errors.New("the key is newer than the question")

// errOver says that a later leader's entries are in the state already (I13).
var errOver = errors.New("the term is over")

// lookUp reads what one Fetch asks for. Interest is recorded in org.
func lookUp(rd state.Reader, f *link.Fetch, org state.OrgID) (*link.Answer, error) {
	a := &link.Answer{}
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
		if org != state.OrgID(k.GetOrgId()) {
			return nil, errNotNoted
		}
	case len(f.GetOrgId()) != 16:
		return nil, fmt.Errorf("fetch %d names neither a key nor an org", f.GetId())
	}
	if !f.GetDeviceOnly() || a.Key != nil {
		o, err := rd.Org(org)
		if err != nil {
			return nil, err
		}
		a.Org = orgRecord(o)
		if o == nil {
			return a, nil
		}
	}
	if f.GetDeviceId() == "" {
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
