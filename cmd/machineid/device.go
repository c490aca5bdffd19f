package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/config"
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
	}
	sub("remove ORG DEVICE", "Delete a device; its id is free again. To keep a device out, revoke it", cobra.ExactArgs(2),
		func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
			return changeFor(ctx, cmd, f, args[0], "devices/remove", map[string]any{"deviceId": trimmed(args[1])}, "device "+trimmed(args[1])+" is removed")
		})
	return parent
}

func deviceList(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
	client, all := f.client(), []json.RawMessage{}
	client.org = args[0]
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
		all = append(all, page.Devices...)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	w := cmd.OutOrStdout()
	if f.output == "json" {
		return printJSON(w, all)
	}
	return table(w, "DEVICE STATUS NAME REGISTERED REVOKED ENDS", all, func(raw json.RawMessage) ([]string, error) {
		var d struct {
			DeviceID, Status                      string
			Name, CreatedAt, RevokedAt, ExpiresAt *string
		}
		err := json.Unmarshal(raw, &d)
		return []string{d.DeviceID, d.Status, text(d.Name), text(d.CreatedAt), text(d.RevokedAt), text(d.ExpiresAt)}, err
	})
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
		Results []struct {
			DeviceID, Status string
			Changed          bool
		}
		Propagation propagationView
		Reason      string
	}
	var counts map[string]any
	if err := errors.Join(json.Unmarshal(raw, &done), json.Unmarshal(raw, &counts)); err != nil {
		return unreadable(err)
	}
	w := cmd.OutOrStdout()
	var failed error
	for _, r := range done.Results {
		if r.Status != "ok" {
			failed = errNotAll
		}
	}
	if done.Reason == "at_cap" {
		failed = errNotAll
	}
	if f.output == "json" {
		if err := printChange(w, raw, late); failed == nil {
			return err
		}
		return failed
	}
	for _, r := range done.Results {
		said := r.Status
		if r.Status == "ok" && !r.Changed {
			said = "it was so before"
		}
		printf(w, "%s: %s\n", r.DeviceID, said)
	}
	printf(w, "devices changed: %v; %s\n", counts[b.count], done.Propagation.told(late))
	return failed
}
