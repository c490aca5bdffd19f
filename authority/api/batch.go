package api

import (
	"context"
	"errors"

	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// maxItems bounds what a batch may list, whatever it is: each item has its line in the answer.
const maxItems = 10_000

// batchItem is one line of a batch's results. What is no string has no id, and its place instead.
type batchItem struct {
	DeviceID *string `json:"deviceId,omitempty"`
	Index    *int    `json:"index,omitempty"`
	Status   string  `json:"status"`
	Error    string  `json:"error,omitempty"`
	Changed  bool    `json:"changed"`
}

// batched is what a batch is to do: with ids, or with all that there are.
type batched struct {
	ids   []string // valid, distinct
	items []batchItem
	all   bool
}

// batch reads the parameters of both batches; scope is the word that means all.
func (r *request) batch(scope string) (*batched, error) {
	items, listed, err := r.body.Items("deviceIds", maxItems)
	if err != nil {
		return nil, err
	}
	named, scoped, err := r.body.String("scope")
	switch {
	case err != nil:
		return nil, err
	case listed == scoped:
		return nil, &wire.ParamError{Param: "deviceIds", Message: `send either deviceIds, an array, or "scope":"` + scope + `"`}
	case scoped && named != scope:
		return nil, &wire.ParamError{Param: "scope", Message: `scope is none that this call knows: send "` + scope + `", or deviceIds instead`}
	case scoped:
		return &batched{all: true}, nil
	case len(items) == 0:
		return nil, &wire.ParamError{Param: "deviceIds", Message: "deviceIds is empty: send at least one id"}
	case len(items) > maxItems:
		return nil, &wire.ParamError{Param: "deviceIds", Message: "deviceIds lists too much: send at most 500 ids"}
	}
	b := &batched{}
	seen := make(map[string]bool, len(items))
	for i, item := range items {
		text, ok := item.String()
		if !ok {
			b.items = append(b.items, batchItem{Index: &i, Status: statusInvalid})
			continue
		}
		id := string(wire.Trim([]byte(text)))
		if seen[id] {
			continue
		}
		seen[id] = true
		if _, ok := wire.DeviceID([]byte(text)); !ok {
			b.items = append(b.items, batchItem{DeviceID: &id, Status: statusInvalid})
			continue
		}
		b.items = append(b.items, batchItem{DeviceID: &id, Status: statusOK})
		b.ids = append(b.ids, id)
	}
	if len(b.ids) > state.BatchMax {
		return nil, &wire.ParamError{Param: "deviceIds", Message: "deviceIds names more than 500 devices: send them in several calls"}
	}
	return b, nil
}

// Status of an item.
const (
	statusOK      = "ok"
	statusInvalid = "invalid"
)

// fill tells each valid item what became of it.
func (b *batched) fill(done []state.Item) {
	for i := range b.items {
		if b.items[i].Status != statusOK || len(done) == 0 {
			continue
		}
		item := &b.items[i]
		item.Changed = done[0].Changed
		switch done[0].Refusal {
		case state.DeviceNotFound:
			item.Status = wire.StatusNotFound
		case state.LimitReached:
			item.Status, item.Error = wire.StatusBlocked, wire.DeviceLimitReached().Code
		default:
		}
		done = done[1:]
	}
}

func revokeBatch(r *request) (step, error) {
	b, err := r.batch("all_active")
	if err != nil {
		return step{}, err
	}
	return step{change: func(ctx context.Context) (any, error) {
		d, err := r.commitBatch(ctx, b, (*request).commit, func(all *statepb.Stretch) *statepb.Command {
			return &statepb.Command{Change: &statepb.Command_RevokeBatch{RevokeBatch: &statepb.RevokeBatch{OrgId: r.org[:], DeviceIds: b.ids, All: all}}}
		})
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			RevokedCount uint32          `json:"revokedCount"`
			Results      []batchItem     `json:"results,omitempty"`
			Propagation  hub.Propagation `json:"propagation"`
		}{r.in.Envelope("ok"), d.Batch.Count, b.items, d.propagation}, nil
	}}, nil
}

func unrevokeBatch(r *request) (step, error) {
	b, err := r.batch("all_revoked")
	if err != nil {
		return step{}, err
	}
	return step{change: func(ctx context.Context) (any, error) {
		d, err := r.commitBatch(ctx, b, (*request).commitAmong, func(all *statepb.Stretch) *statepb.Command {
			return &statepb.Command{Change: &statepb.Command_UnrevokeBatch{UnrevokeBatch: &statepb.UnrevokeBatch{OrgId: r.org[:], DeviceIds: b.ids, All: all}}}
		})
		if err != nil {
			return nil, err
		}
		reason := ""
		switch {
		case d.Batch.Count > 0:
		case d.Batch.AtCap:
			reason = "at_cap"
		default:
			reason = "none_revoked"
		}
		if d.Batch.Sample == nil {
			d.Batch.Sample = []string{}
		}
		return struct {
			wire.Envelope
			UnrevokedCount  uint32          `json:"unrevokedCount"`
			UnrevokedSample []string        `json:"unrevokedSample"`
			Reason          string          `json:"reason,omitempty"`
			Results         []batchItem     `json:"results,omitempty"`
			Propagation     hub.Propagation `json:"propagation"`
		}{r.in.Envelope("ok"), d.Batch.Count, d.Batch.Sample, reason, b.items, d.propagation}, nil
	}}, nil
}

// commitBatch makes the change, of all that there are stretch by stretch, each of which is one change. The first counts for what came
// before it: what is registered, or revoked, while they are made is left alone.
func (r *request) commitBatch(ctx context.Context, b *batched, commit committer, command func(*statepb.Stretch) *statepb.Command) (sum done, err error) {
	if !b.all {
		if sum, err = commit(r, ctx, command(nil)); err == nil {
			b.fill(sum.Batch.Items)
		}
		return sum, err
	}
	next := &statepb.Stretch{}
	for r.part = 0; next != nil; r.part++ {
		d, err := r.commit(ctx, command(next))
		if err != nil {
			return done{}, partly(err, sum.Changed)
		}
		sum.add(&d)
		next = d.Batch.Next
	}
	if sum.propagation.Pending {
		return sum, nil // its caller does not wait
	}
	// The answer is about every device of the org, also those that no stretch had to look at.
	if err := r.settleOrg(ctx, &sum.propagation, sum.propagation.Index, wire.OutcomeCommitted); err != nil {
		return done{}, err
	}
	return sum, nil
}

// add counts one stretch more.
func (d *done) add(one *done) {
	d.Changed = d.Changed || one.Changed
	d.Batch.Count += one.Batch.Count
	d.Batch.AtCap = one.Batch.AtCap
	d.Batch.Sample = append(d.Batch.Sample, one.Batch.Sample[:min(len(one.Batch.Sample), state.SampleMax-len(d.Batch.Sample))]...)
	d.propagation.Add(one.propagation)
}

// partly corrects what an error says after some stretches were done: that nothing was changed is not true any more. What they
// changed stays, and the same call goes on from there.
func partly(err error, changed bool) error {
	u, ok := errors.AsType[*unavailable](err)
	switch {
	case !changed && (!ok || u.outcome != wire.OutcomeCommitted):
		return err
	case !ok:
		u = &unavailable{cause: err}
	}
	u.outcome = wire.OutcomeUnknown
	u.message = "some of the devices were changed and some may not have been: send the call again for the rest"
	return u
}
