package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/wire"
)

func newDeviceCommand(settings *config.Settings, env environment) *cobra.Command {
	parent, sub := commandsOf(settings, env, "device", "Look at an org's devices, and switch them off and on")
	sub("list ORG", "List an org's devices", cobra.ExactArgs(1), deviceList)
	for use, b := range map[string]batchCall{
		"revoke":  {"devices/revoke_batch", "all_active", "revokedCount", "Switch devices off: every validate says DEVICE_REVOKED"},
		"restore": {"devices/unrevoke_batch", "all_revoked", "unrevokedCount", "Switch revoked devices on again, as many as the plan has seats for"},
	} {
		var all bool
		cmd := sub(use+" ORG [DEVICE]...", b.short, cobra.MinimumNArgs(1), func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			if all == (len(args) > 1) {
				return usageError{errors.New("give devices, or --all")}
			}
			return b.run(ctx, cmd, f, args[0], args[1:])
		})
		cmd.Flags().BoolVar(&all, "all", false, "all that there are")
		config.TypedOnly(cmd, "all")
	}
	sub("remove ORG DEVICE", "Delete a device; its id is free again. To keep a device out, revoke it", cobra.ExactArgs(2),
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			return changeFor(ctx, cmd, f, args[0], "devices/remove", map[string]any{"deviceId": trimmed(args[1])}, "device "+shown(trimmed(args[1]))+" is removed")
		})
	return parent
}

// deviceView is a device as an org sees it.
type deviceView struct {
	DeviceID, Status                      string
	Name, CreatedAt, RevokedAt, ExpiresAt *string
}

func deviceList(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
	all := []json.RawMessage{}
	if err := eachDevice(ctx, f, args[0], func(_ *deviceView, raw json.RawMessage) { all = append(all, raw) }); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printJSON(w, all)
	}
	return table(w, "DEVICE STATUS NAME REGISTERED REVOKED ENDS", all, func(raw json.RawMessage) ([]string, error) {
		var d deviceView
		err := json.Unmarshal(raw, &d)
		return []string{shown(d.DeviceID), cell(d.Status), text(d.Name), text(d.CreatedAt), text(d.RevokedAt), text(d.ExpiresAt)}, err
	})
}

// eachDevice reads all devices of an org, page by page.
func eachDevice(ctx context.Context, f *operatorFlags, org string, take func(*deviceView, json.RawMessage)) error {
	client := f.client()
	client.org = org
	for cursor := ""; ; {
		q := url.Values{"limit": {"1000"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page struct {
			Devices    []json.RawMessage `json:"devices"`
			NextCursor string            `json:"nextCursor"`
		}
		if err := client.call(ctx, http.MethodGet, "devices/list?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Devices {
			var d deviceView
			if err := json.Unmarshal(raw, &d); err != nil {
				return unreadable(err)
			}
			take(&d, raw)
		}
		if cursor = page.NextCursor; cursor == "" {
			return nil
		}
	}
}

// trimmed is a device's id as every tier understands it.
func trimmed(id string) string { return string(wire.Trim([]byte(id))) }

// batchCall is one of the two batches.
type batchCall struct{ path, scope, count, short string }

// batchMost is how many devices a call may name.
const batchMost = 500

// errNotAll says that a batch was done, but not for each of what it names: the exit code tells scripts.
var errNotAll = errors.New("not every device could be changed")

func (b *batchCall) run(ctx context.Context, cmd *cobra.Command, f *operatorFlags, org string, ids []string) error {
	body := map[string]any{"scope": b.scope}
	if len(ids) > batchMost {
		return usageError{fmt.Errorf("%d devices are named, and %d is the most at once: give them to several commands", len(ids), batchMost)}
	}
	if len(ids) > 0 {
		list := make([]string, len(ids))
		for i, id := range ids {
			list[i] = trimmed(id)
		}
		body = map[string]any{"deviceIds": list}
	}
	client := f.client()
	client.org = org
	var raw json.RawMessage
	late, err := client.change(ctx, http.MethodPost, b.path, body, &raw)
	if err != nil {
		return err
	}
	var done struct {
		Results     []deviceDone
		Propagation propagationView
		Reason      string
	}
	var counts map[string]any
	if err := errors.Join(json.Unmarshal(raw, &done), json.Unmarshal(raw, &counts)); err != nil {
		return unreadable(err)
	}
	w := cmd.OutOrStdout()
	var failed error
	stood, noSeat := len(done.Results) == 0, 0
	for _, r := range done.Results {
		stood = stood || r.Status == deviceOK
		if r.Status != deviceOK {
			failed = errNotAll
		}
		if r.Error == wire.DeviceLimitReached().Code {
			noSeat++
		}
	}
	if done.Reason == "at_cap" {
		failed = errNotAll
	}
	if f.output == "json" {
		failed = errors.Join(failed, printChange(w, raw, late))
	} else {
		for _, r := range done.Results {
			printf(w, "%s: %s\n", shown(r.DeviceID), r.said())
		}
		said := ""
		if stood {
			said = "; " + done.Propagation.told(late)
		}
		printf(w, "devices changed: %v%s\n", counts[b.count], said)
	}
	if b.scope == "all_revoked" && done.Reason != "none_revoked" && (noSeat > 0 || len(ids) == 0) {
		if err := b.stayRevoked(ctx, f, org, noSeat); err != nil {
			return err
		}
	}
	return failed
}

// deviceOK is what stands so now.
const deviceOK = "ok"

// deviceDone is what became of one device of a batch.
type deviceDone struct {
	DeviceID, Status, Error string
	Changed                 bool
}

func (r *deviceDone) said() string {
	switch {
	case r.Status == deviceOK && !r.Changed:
		return "it was so before"
	case r.Error == wire.DeviceLimitReached().Code:
		return "stays revoked, no seat is free"
	}
	return r.Status
}

// stayRevoked says which devices found no seat: of named ones so many, of all those that are revoked still if no seat is free. The answer to a call for all tells it only if none
// was restored, and to call again would restore what somebody revoked meanwhile.
func (b *batchCall) stayRevoked(ctx context.Context, f *operatorFlags, org string, noSeat int) error {
	const notKnown = "whether any device stays revoked for want of a seat is not known: 'machineid device list %s' tells: %w"
	var o orgView
	if err := f.client().call(ctx, http.MethodGet, orgsPath+url.PathEscape(org), nil, &o); err != nil {
		return unavailableError{fmt.Errorf(notKnown, org, err)}
	}
	if noSeat == 0 && o.DevicesUsed >= o.Limit {
		err := eachDevice(ctx, f, org, func(d *deviceView, _ json.RawMessage) {
			if d.Status == "revoked" {
				noSeat++
			}
		})
		if err != nil {
			return unavailableError{fmt.Errorf(notKnown, org, err)}
		}
	}
	if noSeat == 0 {
		return nil
	}
	return fmt.Errorf("%d stay revoked: of the %d devices that may be active %d are, so no seat is free; 'machineid org plan %s --limit %d' makes room for them, or revoke or remove others",
		noSeat, o.Limit, o.DevicesUsed, org, o.DevicesUsed+noSeat)
}
