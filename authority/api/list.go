package api

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"machineid/authority/state"
	"machineid/shared/wire"
)

// Limits of a page of devices.
const (
	maxPage   = 1000   // the most that may be asked for
	wholePage = 10_000 // what comes unasked
)

type deviceList struct {
	wire.Envelope
	Devices    []device `json:"devices"`
	NextCursor string   `json:"nextCursor,omitempty"`
	plan
}

func listDevices(r *request) (step, error) {
	limit, from, err := r.devicePage()
	if err != nil {
		return step{}, err
	}
	return step{read: func(s *sight) (any, error) {
		p, err := s.Plan(s.org, s.now)
		if err != nil {
			return nil, err
		}
		a := &long{list: "devices"}
		next, err := s.devices(r, &a.items, from, limit)
		if err != nil {
			return nil, err
		}
		a.rest = deviceList{Envelope: r.in.Envelope("ok"), Devices: []device{}, NextCursor: next, plan: planOf(p)}
		return a, nil
	}}, nil
}

// devicePage reads which devices are asked for: how many, and from where on.
func (r *request) devicePage() (limit int, from state.Cursor, err error) {
	if limit, err = r.pageLimit(wholePage); err != nil {
		return 0, from, err
	}
	if text, present := r.query.Get("cursor"); present {
		var ok bool
		if from, ok = parseCursor(text); !ok {
			return 0, from, badCursor()
		}
	}
	return limit, from, nil
}

// recordsOfDevice is how many are read for a device in a list.
const recordsOfDevice = 3

// devices adds a page of the org's devices, and returns the cursor of what follows, "" for nothing.
func (s *sight) devices(r *request, to *items, from state.Cursor, limit int) (next string, err error) {
	seats, err := s.Seats(s.orgID)
	if err != nil {
		return "", err
	}
	if err := r.expect(recordsOfDevice * min(limit, int(seats.GetActive()+seats.GetRevoked()))); err != nil {
		return "", err
	}
	list, more, err := s.List(s.orgID, from, limit, s.now)
	if err != nil {
		return "", err
	}
	for _, d := range list {
		seen, err := s.LastSeen(s.orgID, d.GetId())
		if err != nil {
			return "", err
		}
		if err := to.add(deviceOf(d, seen)); err != nil {
			return "", err
		}
	}
	if more {
		last := list[len(list)-1]
		next = cursorText(state.Cursor{CreatedAt: last.GetCreatedAtMs(), ID: last.GetId()})
	}
	return next, nil
}

func badCursor() error {
	return &wire.ParamError{Param: "cursor", Message: "cursor is none that this call returned: send nextCursor as it came, or leave it out to begin anew"}
}

// pageLimit reads limit, which may be left out for unasked.
func (r *request) pageLimit(unasked int) (int, error) {
	n, present, ok := r.query.Number("limit")
	if !present {
		return unasked, nil
	}
	if !ok || n < 1 || n > maxPage {
		return 0, &wire.ParamError{Param: "limit", Message: "limit is no number from 1 to 1000: send one, or leave it out"}
	}
	return int(n), nil
}

// A cursor is sent as base64url of: CRC-32 of what follows 4B | createdAt 8B | device id. The sum finds cursors that were cut
// or changed by mistake. It need not prove anything: a cursor is only a place in the caller's own list, and any place is allowed.
const cursorHead = 4 + 8

var cursorEncoding = base64.RawURLEncoding.Strict()

func cursorText(c state.Cursor) string {
	b := make([]byte, 4, cursorHead+len(c.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(c.CreatedAt))
	b = append(b, c.ID...)
	binary.BigEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
	return cursorEncoding.EncodeToString(b)
}

func parseCursor(text []byte) (state.Cursor, bool) {
	b, err := cursorEncoding.AppendDecode(nil, text)
	if err != nil || bytes.ContainsAny(text, "\r\n") || len(b) <= cursorHead || // line ends are skipped when it is decoded
		binary.BigEndian.Uint32(b) != crc32.ChecksumIEEE(b[4:]) {
		return state.Cursor{}, false
	}
	at := binary.BigEndian.Uint64(b[4:])
	id := b[cursorHead:]                    // as it is kept, and so not trimmed
	if !wire.WellFormed(id) || at > 1<<62 { // a negative time would reach beyond the list
		return state.Cursor{}, false
	}
	return state.Cursor{CreatedAt: int64(at), ID: string(id)}, true
}
