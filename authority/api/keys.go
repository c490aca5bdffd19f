package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"

	"machineid/authority/hub"
	"machineid/authority/state/statepb"
	"machineid/shared/orgkey"
	"machineid/shared/timestamp"
	"machineid/shared/wire"
)

// What may be asked of a rotation, in seconds.
const (
	maxKeyGrace     = 30 * 24 * 3600
	defaultKeyGrace = 24 * 3600
)

// scopeNames are the scopes that keys may be given.
var scopeNames = map[string]statepb.Key_Scope{
	"admin": statepb.Key_ADMIN, "agent": statepb.Key_AGENT, "validate": statepb.Key_VALIDATE,
}

func scopeName(scope statepb.Key_Scope) string {
	for name, s := range scopeNames {
		if s == scope {
			return name
		}
	}
	return "none"
}

// shownKey is a key in lists.
type shownKey struct {
	KeyID      string  `json:"keyId"`
	Name       *string `json:"name"`
	Scope      string  `json:"scope"`
	CreatedAt  instant `json:"createdAt"`
	ExpiresAt  instant `json:"expiresAt"`
	RevokedAt  instant `json:"revokedAt"`
	LastUsedAt instant `json:"lastUsedAt"`
}

// shown is a key in lists, with when it was used last.
func shown(k *statepb.Key, lastUsed int64) shownKey {
	return shownKey{
		KeyID: k.GetKeyId(), Name: orNull(k.GetName()), Scope: scopeName(k.GetScope()),
		CreatedAt: instant(k.GetCreatedAtMs()), ExpiresAt: instant(k.GetExpiresAtMs()), RevokedAt: instant(k.GetRevokedAtMs()),
		LastUsedAt: instant(lastUsed),
	}
}

// newKey is the answer to what made a key: the one time that it is shown.
type newKey struct {
	wire.Envelope
	KeyID       string          `json:"keyId"`
	OrgAPIKey   string          `json:"orgApiKey"`
	Name        *string         `json:"name"`
	Scope       string          `json:"scope"`
	CreatedAt   instant         `json:"createdAt"`
	ExpiresAt   instant         `json:"expiresAt"`
	Replaced    *replacedKey    `json:"replaced,omitempty"`
	Propagation hub.Propagation `json:"propagation"`
}

// replacedKey is the key in whose place another was put.
type replacedKey struct {
	KeyID     string  `json:"keyId"`
	ExpiresAt instant `json:"expiresAt"`
}

// byMethod is a path that means one thing to GET and another to the method that changes.
func byMethod(get, change func(*request) (step, error)) func(*request) (step, error) {
	return func(r *request) (step, error) {
		if r.http.IsGet() {
			return get(r)
		}
		return change(r)
	}
}

func listKeys(r *request) (step, error) {
	return step{read: func(s *sight) (any, error) {
		keys, err := s.keys()
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			Keys []shownKey `json:"keys"`
		}{r.in.Envelope("ok"), keys}, nil
	}}, nil
}

// keys are the org's, the oldest first.
func (s *sight) keys() ([]shownKey, error) {
	list, err := s.Keys(s.orgID)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b *statepb.Key) int {
		return cmp.Or(cmp.Compare(a.GetCreatedAtMs(), b.GetCreatedAtMs()), cmp.Compare(a.GetKeyId(), b.GetKeyId()))
	})
	keys := make([]shownKey, len(list))
	for i, k := range list {
		used, err := s.LastUsed([32]byte(k.GetHash()))
		if err != nil {
			return nil, err
		}
		keys[i] = shown(k, used)
	}
	return keys, nil
}

func createKey(r *request) (step, error) {
	name, err := r.text("name")
	if err != nil {
		return step{}, err
	}
	word, _, err := r.body.String("scope")
	if err != nil {
		return step{}, err
	}
	scope, known := scopeNames[word]
	if !known {
		return step{}, &wire.ParamError{Param: "scope", Message: "scope is missing or none of admin, agent and validate: send one of them"}
	}
	end, _, err := r.future("expiresAt")
	if err != nil {
		return step{}, err
	}
	rec := &statepb.Key{Scope: scope, ExpiresAtMs: end}
	if name != nil {
		rec.Name = *name
	}
	return step{change: func(ctx context.Context) (any, error) {
		return r.makeKey(ctx, rec, &statepb.Command{Change: &statepb.Command_AddKey{AddKey: &statepb.AddKey{OrgId: r.org[:], Key: rec}}})
	}}, nil
}

func rotateKey(r *request) (step, error) {
	id, err := r.keyID(r.actorless())
	if err != nil {
		return step{}, err
	}
	grace, present, err := r.body.Int("graceSeconds")
	switch {
	case err != nil:
		return step{}, err
	case !present:
		grace = defaultKeyGrace
	case grace < 0 || grace > maxKeyGrace:
		return step{}, &wire.ParamError{Param: "graceSeconds", Message: "graceSeconds is out of range: send 0 to 2592000"}
	}
	return step{change: func(ctx context.Context) (any, error) {
		if id == "" {
			id = r.actor.GetId() // the caller's own
		}
		rec := &statepb.Key{}
		return r.makeKey(ctx, rec, &statepb.Command{Change: &statepb.Command_RotateKey{
			RotateKey: &statepb.RotateKey{OrgId: r.org[:], KeyId: id, Key: rec, GraceSeconds: grace},
		}})
	}}, nil
}

func revokeKey(r *request) (step, error) {
	id, err := r.keyID(true)
	if err != nil {
		return step{}, err
	}
	return step{change: func(ctx context.Context) (any, error) {
		d, err := r.commitAmong(ctx, &statepb.Command{Change: &statepb.Command_RevokeKey{RevokeKey: &statepb.RevokeKey{OrgId: r.org[:], KeyId: id}}})
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			KeyID       string          `json:"keyId"`
			Revoked     bool            `json:"revoked"`
			Changed     bool            `json:"changed"`
			Propagation hub.Propagation `json:"propagation"`
		}{r.in.Envelope("ok"), id, true, d.Changed, d.propagation}, nil
	}}, nil
}

// actorless tells whether the caller has no key of its own that a rotation could mean.
func (r *request) actorless() bool { return len(wire.Trim(r.in.Head.OrgKey)) == 0 }

// keyID is the member of that name, which names a key of the org.
func (r *request) keyID(required bool) (string, error) {
	id, present, err := r.body.String("keyId")
	switch {
	case err != nil:
		return "", err
	case !present && !required:
		return "", nil
	case len(id) != orgkey.IDLen:
		return "", &wire.ParamError{Param: "keyId", Message: "keyId is missing or no key's id: send the 8 characters after org_, not the whole key"}
	}
	return id, nil
}

// future is an optional member that must be a time to come, in milliseconds since 1970.
func (r *request) future(name string) (ms int64, present bool, err error) {
	ms, present, err = r.instant(name)
	if present && err == nil && ms <= r.api.cfg.Now() {
		err = &wire.ParamError{Param: name, Message: name + " has passed: send a time to come"}
	}
	return ms, present, err
}

// instant is an optional member that must be a time, in milliseconds since 1970.
func (r *request) instant(name string) (ms int64, present bool, err error) {
	text, present, err := r.body.String(name)
	if err != nil || !present {
		return 0, present, err
	}
	switch ms, err = timestamp.Parse(text); {
	case err != nil:
		return 0, true, &wire.ParamError{Param: name, Message: name + " " + err.Error()}
	case ms <= 0: // zero means none
		return 0, true, &wire.ParamError{Param: name, Message: name + " is not after 1970: send a later time"}
	}
	return ms, true, nil
}

// makeKey draws a key for a command that holds its record, and shows it once it is in force.
func (r *request) makeKey(ctx context.Context, rec *statepb.Key, cmd *statepb.Command) (any, error) {
	key, err := orgkey.New(rand.Reader)
	if err != nil {
		return nil, &unavailable{outcome: wire.OutcomeNotDone, cause: err}
	}
	hash := key.Hash()
	rec.Hash, rec.KeyId = hash[:], key.ID()
	d, err := r.commitAmong(ctx, cmd)
	switch u, lost := errors.AsType[*unavailable](err); {
	case lost && u.outcome != wire.OutcomeNotDone:
		u.message = "a key may have been made but cannot be shown any more: see org/keys, revoke it there and call again"
		return nil, err
	case err != nil:
		return nil, err
	case d.Replayed:
		return nil, wire.SecretAlreadyShown(d.Key.GetKeyId())
	}
	k := shown(d.Key, 0)
	answer := newKey{
		Envelope: r.in.Envelope("ok"), KeyID: k.KeyID, OrgAPIKey: key.Reveal(), Name: k.Name, Scope: k.Scope,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, Propagation: d.propagation,
	}
	if old := d.Replaced; old != nil {
		answer.Replaced = &replacedKey{old.GetKeyId(), instant(old.GetExpiresAtMs())}
	}
	return answer, nil
}
