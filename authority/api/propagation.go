package api

import (
	"bytes"
	"context"
	"errors"

	"machineid/authority/hub"
	"machineid/shared/wire"
)

// respondAsync is the preference of a caller who does not wait for the edges (RFC 7240, 4.1); preferenceApplied says that it was kept to.
const (
	respondAsync      = "respond-async"
	preferenceApplied = "Preference-Applied"
)

// async tells whether the caller prefers an answer as soon as the change is committed.
func (r *request) async() bool {
	return prefers(r.in.Head.Prefer, respondAsync)
}

// prefers tells whether a header Prefer names a preference, with whatever value and parameters (RFC 7240, 2). What stands between
// quotation marks names nothing.
func prefers(header []byte, name string) bool {
	for len(header) > 0 {
		end, quoted := 0, false
		for end < len(header) && (quoted || header[end] != ',') {
			switch c := header[end]; {
			case quoted && c == '\\':
				end++
			case c == '"':
				quoted = !quoted
			}
			end++
		}
		one := header[:min(end, len(header))]
		if i := bytes.IndexAny(one, ";="); i >= 0 {
			one = one[:i]
		}
		if bytes.EqualFold(bytes.TrimSpace(one), []byte(name)) {
			return true
		}
		header = header[min(end+1, len(header)):]
	}
	return false
}

// propagation is the answer of the call of that name. What this node does not know is null: another led when the change was made,
// or it is long ago, or it is another org's.
type propagation struct {
	wire.Envelope
	Index     uint64    `json:"index"`
	Pending   bool      `json:"pending"`
	Edges     *int      `json:"edges"`
	Confirmed *int      `json:"confirmed"`
	Expired   *int      `json:"expired"`
	Waiting   *[]string `json:"waiting"`
	ElapsedMs *float64  `json:"elapsedMs"`
}

// showPropagation tells how far a change has come. It is no read: those wait until what they tell is everywhere.
func showPropagation(r *request) (step, error) {
	index, _, ok := r.query.Number("index")
	if !ok || index == 0 {
		return step{}, &wire.ParamError{Param: "index", Message: "index is no positive number: send that of a propagation which you were answered"}
	}
	return step{change: func(ctx context.Context) (any, error) {
		p, err := r.api.cfg.Hub.Progress(ctx, index, r.org)
		switch {
		case errors.Is(err, hub.ErrNoIndex):
			return nil, wire.IndexNotFound()
		case err != nil:
			return nil, &unavailable{outcome: wire.OutcomeNotDone, cause: err}
		}
		a := propagation{Envelope: r.in.Envelope("ok"), Index: p.Index, Pending: p.Pending}
		if p.Known {
			elapsed, waiting := float64(p.Elapsed.Microseconds())/1000, append([]string{}, p.Waiting...)
			a.Edges, a.Confirmed, a.Expired, a.Waiting, a.ElapsedMs = &p.Edges, &p.Confirmed, &p.Expired, &waiting, &elapsed
		}
		return a, nil
	}}, nil
}
