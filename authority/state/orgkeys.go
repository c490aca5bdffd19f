package state

import (
	"cmp"
	"math"
	"slices"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

const (
	// KeysMax is how many live keys an org may have.
	KeysMax = 50
	// deadKeysMax is how many keys that are revoked or have expired stay to be listed; the
	// longest dead go first.
	deadKeysMax = 100
	// deadKeysStay is how long each stays, in milliseconds: longer than a lease, since by a key that
	// is not there nobody finds the org whose changes must be waited for.
	deadKeysStay = 30_000
	// lookKeysMax is how many keys of an org a first look reads. Who has more changes them all the time, and whether that is refused is decided where it is applied:
	// there they are known already.
	lookKeysMax = KeysMax + deadKeysMax + 50
)

// Keys lists an org's keys, dead ones too, in the order of their ids.
func (r Reader) Keys(org OrgID) (list []*statepb.Key, err error) {
	ring, _, err := r.ring(org, math.MaxInt)
	if err != nil {
		return nil, err
	}
	for _, named := range ring {
		k, err := r.Key(named.hash)
		if err != nil {
			return nil, err
		}
		if k != nil {
			list = append(list, k)
		}
	}
	return list, nil
}

// ring lists so many of an org's keys at most, and whether there are more.
func (r Reader) ring(org OrgID, most int) (ring []ringKey, more bool, err error) {
	from := orgKeyKey(org, "")
	err = r.scan(from, after(from), func(k, hash []byte) (bool, error) {
		if more = len(ring) == most; more {
			return false, nil
		}
		if len(hash) == len([32]byte{}) {
			ring = append(ring, ringKey{string(k[len(from):]), [32]byte(hash)})
		}
		return true, nil
	})
	return ring, more, err
}

// keyring is an org with its keys, as a command on one of them finds it.
type keyring struct {
	id   OrgID
	org  *statepb.Org // nil if there is none
	keys []*statepb.Key
}

func (t *tx) keyring(id []byte) *keyring {
	h := t.holder(id)
	r := &keyring{id: h.id, org: h.org}
	if r.org != nil {
		for _, k := range t.ring(r.id) {
			if key := t.key(k.hash); key != nil {
				r.keys = append(r.keys, key)
			}
		}
	}
	return r
}

// ringKey names a key of an org.
type ringKey struct {
	id   string
	hash [32]byte
}

// ring lists the keys of an org in the order of their ids. It is kept: an org that changes its keys often has left many that were forgotten in the way of a scan.
func (t *tx) ring(org OrgID) []ringKey {
	if ring := t.m.recent.rings[org]; ring != nil {
		return ring
	}
	most := math.MaxInt
	if t.dry {
		most = lookKeysMax
	}
	ring, more, err := t.r.ring(org, most)
	t.must(err)
	if more {
		panic(unsaid{})
	}
	t.m.recent.keepRing(org, ring)
	return ring
}

// followKey keeps what is known of an org's keys in step with one that comes, or goes.
func (r *recent) followKey(org OrgID, k ringKey, comes bool) {
	ring := r.rings[org]
	if ring == nil {
		return
	}
	i, found := slices.BinarySearchFunc(ring, k, func(a, b ringKey) int { return cmp.Compare(a.id, b.id) })
	switch {
	case comes && found:
		ring[i] = k
	case comes:
		ring = slices.Insert(ring, i, k)
	case found:
		ring = slices.Delete(ring, i, i+1)
	}
	r.keepRing(org, ring)
}

// find returns the key of an id, nil if the org has none.
func (r *keyring) find(keyID string) *statepb.Key {
	for _, k := range r.keys {
		if k.GetKeyId() == keyID {
			return k
		}
	}
	return nil
}

// live counts the keys in force at now, but for one.
func (r *keyring) live(now decision.Millis, but *statepb.Key, scopes ...statepb.Key_Scope) (n int) {
	for _, k := range r.keys {
		if k != but && KeyOf(k).Alive(now) && (len(scopes) == 0 || slices.Contains(scopes, k.GetScope())) {
			n++
		}
	}
	return n
}

// addKey gives an org one more key.
func (t *tx) addKey(c *statepb.AddKey) Outcome {
	ring := t.keyring(c.GetOrgId())
	return t.giveKey(ring, c.GetKey(), nil, 0)
}

// rotateKey gives an org a key in the place of another, which ends after its grace.
func (t *tx) rotateKey(c *statepb.RotateKey) Outcome {
	ring := t.keyring(c.GetOrgId())
	old := ring.find(c.GetKeyId())
	if ring.org != nil && !KeyOf(old).Alive(t.now) {
		t.askKey(ring.id, old)
		return Outcome{Refusal: KeyNotFound}
	}
	key := c.GetKey()
	if key != nil && old != nil {
		key.Scope, key.Name = old.GetScope(), old.GetName()
	}
	return t.giveKey(ring, key, old, c.GetGraceSeconds())
}

// giveKey makes a key, and ends another if there is one to be ended.
func (t *tx) giveKey(ring *keyring, key, old *statepb.Key, grace int64) Outcome {
	sound := len(key.GetHash()) == len([32]byte{}) && key.GetKeyId() != ""
	end := endOf(t.now, grace)
	if was := old.GetExpiresAtMs(); was != 0 {
		end = min(end, was)
	}
	but := old
	if end > t.now {
		but = nil // it goes on to count
	}
	out := Outcome{}
	switch {
	case ring.org == nil:
		out.Refusal = OrgNotFound
	case !sound || ring.find(key.GetKeyId()) != nil || t.key([32]byte(key.GetHash())) != nil:
		out.Refusal = KeyTaken
	case ring.live(t.now, but) >= KeysMax:
		out.Refusal = KeyLimit
	}
	if !sound {
		return out
	}
	t.changeKey(ring.id, [32]byte(key.GetHash()), func(*statepb.Key) *statepb.Key {
		if out.Refusal != Granted {
			return nil
		}
		key.OrgId, key.CreatedAtMs, key.RevokedAtMs = ring.id[:], t.now, 0
		return key
	})
	if old != nil {
		t.changeKey(ring.id, [32]byte(old.GetHash()), func(k *statepb.Key) *statepb.Key {
			if out.Refusal != Granted {
				return nil
			}
			k.ExpiresAtMs = end
			out.Replaced = k
			return k
		})
	}
	if out.Refusal != Granted {
		return out
	}
	t.forgetKeys(ring)
	if old == nil {
		t.audit(ring.id, "key.created", key.GetKeyId(), keySettings(nil, key)...)
	} else {
		t.audit(ring.id, "key.rotated", old.GetKeyId(),
			Setting("keyId", Text(old.GetKeyId()), Text(key.GetKeyId())), Setting("expiresAt", moment(old.GetExpiresAtMs()), moment(end)))
	}
	out.Key, out.Changed = key, true
	return out
}

// forgetKeys drops what is dead for longest, beyond what is kept: at least as many as come, so they do not pile up, and at most forgetMax with the
// outcomes of one full share, so no command holds the others up. The rest goes with the keys that come later.
func (t *tx) forgetKeys(ring *keyring) {
	dead := slices.DeleteFunc(slices.Clone(ring.keys), func(k *statepb.Key) bool { return KeyOf(k).Alive(t.now) })
	if len(dead) <= deadKeysMax {
		return
	}
	slices.SortFunc(dead, func(a, b *statepb.Key) int {
		return cmp.Or(cmp.Compare(diedAt(a), diedAt(b)), cmp.Compare(a.GetKeyId(), b.GetKeyId()))
	})
	left := uint64(ShareMax)
	for i, k := range dead[:min(len(dead)-deadKeysMax, forgetMax)] {
		first, next, err := t.r.rememberedRange(shareOf(ring.id, k.GetHash()))
		t.must(err)
		if diedAt(k) > t.now-deadKeysStay || i > 0 && next-first > left {
			break
		}
		left -= min(next-first, left)
		t.dropKey(ring.id, k)
		t.forgetShare(ring.id, k)
	}
}

// diedAt is when a key that is dead ceased to be in force.
func diedAt(k *statepb.Key) int64 {
	switch revoked, expired := k.GetRevokedAtMs(), k.GetExpiresAtMs(); {
	case revoked == 0:
		return expired
	case expired == 0:
		return revoked
	default:
		return min(revoked, expired)
	}
}

// revokeKey ends a key at once, unless the org could not be governed any more.
func (t *tx) revokeKey(c *statepb.RevokeKey) Outcome {
	ring := t.keyring(c.GetOrgId())
	out := Outcome{}
	key := ring.find(c.GetKeyId())
	switch {
	case ring.org == nil:
		out.Refusal = OrgNotFound
		return out
	case key == nil:
		out.Refusal = KeyNotFound
		return out
	case key.GetScope() == statepb.Key_ADMIN && KeyOf(key).Alive(t.now) && ring.live(t.now, key, statepb.Key_ADMIN) == 0:
		out.Refusal = LastAdminKey
	}
	t.changeKey(ring.id, [32]byte(key.GetHash()), func(k *statepb.Key) *statepb.Key {
		if out.Refusal != Granted {
			return nil
		}
		if k.GetRevokedAtMs() == 0 {
			k.RevokedAtMs, out.Changed = t.now, true
		}
		out.Key = k
		return k
	})
	if out.Changed {
		t.audit(ring.id, "key.revoked", c.GetKeyId(), keySettings(key, nil)...)
	}
	return out
}

// askKey concerns a key of an org that a command asks about, if there is one.
func (t *tx) askKey(org OrgID, k *statepb.Key) {
	if k != nil {
		t.changeKey(org, [32]byte(k.GetHash()), func(*statepb.Key) *statepb.Key { return nil })
	}
}

// echoKeys concerns the keys that a command is about: those that it names, and
// the one that it made when it was asked first.
func (t *tx) echoKeys(ids ...string) {
	ring := t.keyring(t.subjectID())
	for _, id := range ids {
		t.askKey(ring.id, ring.find(id))
	}
}

// subjectID is subject as a command holds it.
func (t *tx) subjectID() []byte {
	id := subject(t.cmd)
	return id[:]
}
