package machineid

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// RegisterOptions are what a device may be registered with. What is left out stays as it is.
type RegisterOptions struct {
	Name       string
	Metadata   Object
	TTLSeconds int
}

// Register takes a seat for a device ("status" is "ok"), or finds that it has one ("exists"). It never restores a revoked one.
func (c *Client) Register(ctx context.Context, deviceID string, o RegisterOptions) (Object, error) {
	body := Object{"deviceId": trim(deviceID)}
	if o.Name != "" {
		body["name"] = o.Name
	}
	if o.Metadata != nil {
		body["metadata"] = o.Metadata
	}
	if o.TTLSeconds != 0 {
		body["ttlSeconds"] = o.TTLSeconds
	}
	return c.change(ctx, "devices/register", body, Object{"deviceId": trim(deviceID)})
}

// ListDevices returns the devices and the plan fields: all (up to 10,000) if limit is 0, else a page; "nextCursor" is there if more follow.
func (c *Client) ListDevices(ctx context.Context, limit int, cursor string) (Object, error) {
	return c.get(ctx, "devices/list", page(limit, cursor), nil)
}

// Devices walks through all devices, reading page by page. It ends after the first error.
func (c *Client) Devices(ctx context.Context, perPage int) iter.Seq2[Object, error] {
	return walk(func(cursor string) (Object, error) { return c.ListDevices(ctx, perPage, cursor) }, "devices")
}

// GetDevice returns one device; its own fields are at the top.
func (c *Client) GetDevice(ctx context.Context, deviceID string) (Object, error) {
	return c.get(ctx, "devices/get", url.Values{"deviceId": {trim(deviceID)}}, Object{"deviceId": trim(deviceID)})
}

// Revoke takes the right to work away. Once it returns nil no edge says ALLOW. After an outcome Unknown or Committed call it again.
func (c *Client) Revoke(ctx context.Context, deviceID string) (Object, error) {
	return c.device(ctx, "devices/revoke", deviceID, "revoked", true)
}

// Unrevoke gives the right to work back.
func (c *Client) Unrevoke(ctx context.Context, deviceID string) (Object, error) {
	return c.device(ctx, "devices/unrevoke", deviceID, "revoked", false)
}

// Restore is another name of Unrevoke.
func (c *Client) Restore(ctx context.Context, deviceID string) (Object, error) {
	return c.Unrevoke(ctx, deviceID)
}

// Remove deletes the device. Its id is free again: to keep a device out, revoke it.
func (c *Client) Remove(ctx context.Context, deviceID string) (Object, error) {
	return c.device(ctx, "devices/remove", deviceID, "removed", true)
}

func (c *Client) device(ctx context.Context, path, deviceID, field string, want bool) (Object, error) {
	return c.change(ctx, path, Object{"deviceId": trim(deviceID)}, Object{"deviceId": trim(deviceID), field: want})
}

// Batch names devices: at most 500 ids, or a scope ("all_active" to revoke, "all_revoked" to restore).
type Batch struct {
	DeviceIDs []string
	Scope     string
}

func (b Batch) body() Object {
	body := Object{}
	if b.DeviceIDs != nil {
		body["deviceIds"] = trimAll(b.DeviceIDs)
	}
	if b.Scope != "" {
		body["scope"] = b.Scope
	}
	return body
}

// RevokeBatch revokes many devices. "results" tells of each id whether it is off: one that is not found cannot be switched off.
func (c *Client) RevokeBatch(ctx context.Context, b Batch) (Object, error) {
	return c.batch(ctx, "devices/revoke_batch", b)
}

// UnrevokeBatch restores many devices, as far as the plan's limit goes.
func (c *Client) UnrevokeBatch(ctx context.Context, b Batch) (Object, error) {
	return c.batch(ctx, "devices/unrevoke_batch", b)
}

func (c *Client) batch(ctx context.Context, path string, b Batch) (Object, error) {
	k, err := post(path, b.body())
	if err != nil {
		return nil, err
	}
	k.named = b.DeviceIDs
	return c.commit(ctx, k, nil)
}

// Usage returns the plan, its limit and the devices in use.
func (c *Client) Usage(ctx context.Context) (Object, error) { return c.get(ctx, "usage", nil, nil) }

// Org returns the org.
func (c *Client) Org(ctx context.Context) (Object, error) { return c.get(ctx, "org", nil, nil) }

// OrgExecution switches the whole org off (every validate says ORG_DISABLED) or on again.
func (c *Client) OrgExecution(ctx context.Context, enabled bool) (Object, error) {
	return c.change(ctx, "org/execution", Object{"enabled": enabled}, Object{"enabled": enabled})
}

// OrgSettings chooses the API generation of the org, 1 or 2.
func (c *Client) OrgSettings(ctx context.Context, version int) (Object, error) {
	return c.change(ctx, "org/settings", Object{"version": version}, Object{"version": json.Number(strconv.Itoa(version))})
}

// OrgDelete deletes the org with all it has; confirm is its orgId.
func (c *Client) OrgDelete(ctx context.Context, confirm string) (Object, error) {
	return c.change(ctx, "org/delete", Object{"confirm": confirm}, Object{"orgId": confirm, "deleted": true})
}

// OrgExport returns what is kept of the org: "org", "keys", and "devices" as ListDevices has them, with "nextCursor" if more follow.
func (c *Client) OrgExport(ctx context.Context, limit int, cursor string) (Object, error) {
	return c.get(ctx, "org/export", page(limit, cursor), nil)
}

// OrgKeys lists the org's keys, without their secrets.
func (c *Client) OrgKeys(ctx context.Context) (Object, error) {
	return c.get(ctx, "org/keys", nil, nil)
}

// OrgKeysCreate makes a key of scope "admin", "agent" or "validate"; "orgApiKey" is shown this once. expiresAt is RFC 3339 in UTC or empty. If the
// answer was lost the second attempt is refused with secret_already_shown: revoke the key of the error's Body["keyId"] and make another.
func (c *Client) OrgKeysCreate(ctx context.Context, name, scope, expiresAt string) (Object, error) {
	body := Object{"name": name, "scope": scope}
	if expiresAt != "" {
		body["expiresAt"] = expiresAt
	}
	return c.change(ctx, "org/keys", body, Object{"scope": scope})
}

// OrgKeysRotate makes a key in the place of keyID (the client's own if empty), which ends after graceSeconds (the server's default if negative).
func (c *Client) OrgKeysRotate(ctx context.Context, keyID string, graceSeconds int) (Object, error) {
	body := Object{}
	if keyID != "" {
		body["keyId"] = keyID
	}
	if graceSeconds >= 0 {
		body["graceSeconds"] = graceSeconds
	}
	return c.change(ctx, "org/keys/rotate", body, nil)
}

// OrgKeysRevoke ends a key.
func (c *Client) OrgKeysRevoke(ctx context.Context, keyID string) (Object, error) {
	return c.change(ctx, "org/keys/revoke", Object{"keyId": keyID}, Object{"keyId": keyID, "revoked": true})
}

// Audit returns a page of what was changed, newest first.
func (c *Client) Audit(ctx context.Context, limit int, cursor string) (Object, error) {
	return c.get(ctx, "audit", page(limit, cursor), nil)
}

// AuditEntries walks through all that was changed.
func (c *Client) AuditEntries(ctx context.Context, perPage int) iter.Seq2[Object, error] {
	return walk(func(cursor string) (Object, error) { return c.Audit(ctx, perPage, cursor) }, "entries")
}

// Propagation tells how far the change at an index of the log has come.
func (c *Client) Propagation(ctx context.Context, index uint64) (Object, error) {
	return c.get(ctx, "propagation", url.Values{"index": {strconv.FormatUint(index, 10)}}, nil)
}

// NewOrg is what an org may be made with.
type NewOrg struct {
	Name, ExternalID string
	// OperatorToken is needed where signing up is closed.
	OperatorToken string
}

// OrgCreate makes an org; its keys are shown this once. It is not tried again after an unknown outcome: each success is another org. The
// config needs no OrgKey.
func OrgCreate(ctx context.Context, config Config, o NewOrg) (Object, error) {
	c, err := newClient(config)
	if err != nil {
		return nil, invalid("%v", err)
	}
	defer c.Close()
	body := Object{}
	if o.Name != "" {
		body["name"] = o.Name
	}
	if o.ExternalID != "" {
		body["externalId"] = o.ExternalID
	}
	k := newCall(http.MethodPost, "org/create", body)
	if k.body, err = encode(body); err != nil {
		return nil, err
	}
	k.changes, k.retry = true, false
	k.handler = "org_create"
	if o.OperatorToken != "" {
		if strings.ContainsFunc(o.OperatorToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, invalid("the operator's token has spaces or characters that are not ASCII: was more than the token copied?")
		}
		k.header.Set("Authorization", "Bearer "+o.OperatorToken)
	}
	return c.succeed(ctx, k, nil)
}

func page(limit int, cursor string) url.Values {
	query := url.Values{}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	return query
}

func walk(read func(cursor string) (Object, error), name string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		cursor := ""
		for {
			answer, err := read(cursor)
			if err != nil {
				yield(nil, err)
				return
			}
			items, isList := answer[name].([]any)
			if !isList {
				yield(nil, unfit(answer, "%s is no list", name))
				return
			}
			for _, item := range items {
				one, isObject := item.(Object)
				if !isObject {
					yield(nil, unfit(answer, "%s lists what is no object", name))
					return
				}
				if !yield(one, nil) {
					return
				}
			}
			next, more := answer["nextCursor"]
			if !more {
				return
			}
			text, ok := next.(string)
			if !ok || text == cursor {
				yield(nil, unfit(answer, "a page names itself as the next"))
				return
			}
			cursor = text
		}
	}
}
