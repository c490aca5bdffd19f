//go:build unix

package cli

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"
)

// mortals are keys, devices and orgs that end, by time and by calls, in a history of a cluster; and those who end them, look at
// them, and write down what they are told. What they know of the cluster is its stage: in virtual time or of processes.
type mortals struct {
	stage

	seed   uint64
	token  string // the operator's
	seat   tenancy
	chased int // words that edges said right after the authority's; guarded by mu

	mu      sync.Mutex
	ledger  ledger
	devices []string // of the seat, the newest last
	keys    []orgKey // of the seat's org, likewise
	plan    tenancy  // what is entitled for a while
	stamp   time.Time
	stamped time.Duration
}

// stage is where a history plays.
type stage struct {
	at    func() time.Duration
	over  func() bool
	nap   func(r *rand.Rand, most time.Duration)
	dial  func(name string) asker
	nodes []string
	edges []string
	// process names the process that runs at an edge's place.
	process func(edge string) string
	// foreign: the node is of another cluster for a while.
	foreign func(node string) bool
}

// asker makes calls from one place.
type asker interface {
	call(to, method, path, body string, headers ...string) response
	close()
}

// tenancy is an org.
type tenancy struct{ id, key string }

// remembered is how many of what came one after the other are still asked about.
const remembered = 3

func keepLast[T any](list []T, x T) []T {
	list = append(slices.Clone(list), x)
	return list[max(0, len(list)-remembered):]
}

// found makes the org with one seat, before anything fails. It reports whether that is done.
func (m *mortals) found(c asker) bool {
	if m.seat.key == "" {
		m.seat = m.newOrg(c, m.nodes[0])
	}
	got := m.update(c, m.nodes[0], m.seat, `{"limit":1}`)
	m.clockOf(got)
	return got.code == 200
}

func (m *mortals) newOrg(c asker, at string) (out tenancy) {
	if got := c.call(at, "POST", "org/create", "{}"); got.code == 200 {
		out = tenancy{got.OrgID, got.Key}
	}
	return out
}

func (m *mortals) update(c asker, at string, o tenancy, body string) response {
	return c.call(at, "PATCH", "operator/orgs/"+o.id, body, "Authorization", "Bearer "+m.token)
}

// cast starts everybody.
func (m *mortals) cast(work *sync.WaitGroup) {
	roles := []func(*rand.Rand, asker){m.tenant, m.locksmith, m.steward, m.looker}
	for i := range m.edges {
		roles = append(roles, func(r *rand.Rand, c asker) { m.bystander(r, c, m.edges[i]) })
	}
	for i, role := range roles {
		work.Go(func() {
			c := m.dial(fmt.Sprint("m", i))
			defer c.close()
			role(rand.New(rand.NewPCG(m.seed, uint64(400+i))), c)
		})
	}
}

func (m *mortals) say(words ...word) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.words = append(m.ledger.words, words...)
}

func (m *mortals) did(d deed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.deeds = append(m.ledger.deeds, d)
}

// clockOf learns the authority's time from what an answer was stamped with: nodes' wall clocks are off, and then it is too.
func (m *mortals) clockOf(got response) {
	stamp, err := time.Parse(time.RFC3339, got.CreatedAt)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && stamp.After(m.stamp) {
		m.stamp, m.stamped = stamp, m.at()
	}
}

// in is a time of the authority, from now on.
func (m *mortals) in(d time.Duration) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stamp.Add(m.at() - m.stamped + d).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// anywhere is a node, or an edge that passes calls on.
func (m *mortals) anywhere(r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return m.edges[r.IntN(len(m.edges))]
	}
	return m.nodes[r.IntN(len(m.nodes))]
}

// until makes a call here and there until its outcome is known: whichever attempt did it, Idempotency-Key has it done once. The
// interval is that of all attempts, without an end if it is over before.
func (m *mortals) until(r *rand.Rand, c asker, path, body string, known ...string) (got response, called, returned time.Duration) {
	key := strconv.FormatUint(r.Uint64(), 16)
	called = m.at()
	for !m.over() {
		got = c.call(m.anywhere(r), "POST", path, body, "X-Org-Key", m.seat.key, "Idempotency-Key", key)
		if returned = m.at(); got.code == 200 || slices.Contains(known, got.Error) {
			return got, called, returned
		}
		m.nap(r, 150*time.Millisecond)
	}
	return response{}, called, forever
}

// tenant has one device after the other take the one seat, each when the one before has ended.
func (m *mortals) tenant(r *rand.Rand, c asker) {
	for n := 0; !m.over(); n++ {
		now, before := mortal{mortalDevice, fmt.Sprint("t", n)}, mortal{mortalDevice, fmt.Sprint("t", n-1)}
		if !m.take(r, c, now, before) {
			return
		}
		m.mu.Lock()
		m.devices = keepLast(m.devices, now.id)
		m.mu.Unlock()
		m.nap(r, 3*time.Second)
		switch r.IntN(4) {
		case 0:
			got, called, returned := m.until(r, c, string(register), m.lease(r, now.id), "device_limit_reached")
			if got.code == 200 || returned == forever {
				m.did(deed{now, false, called, returned})
			}
		case 1:
			got, called, returned := m.until(r, c, string(remove), device(now.id), "device_not_found")
			if got.code == 404 {
				m.say(word{mortal: now, how: "remove", ended: true, sent: called, got: returned})
			} else {
				m.did(deed{now, true, called, returned})
			}
		}
		m.chase(r, c, question{device: now.id})
	}
}

func (m *mortals) lease(r *rand.Rand, id string) string {
	return fmt.Sprintf(`{"deviceId":%q,"ttlSeconds":%d}`, id, 1+r.IntN(4))
}

// take waits for the seat. Who has it lives as long as it is refused, and has ended when it is given to another.
func (m *mortals) take(r *rand.Rand, c asker, now, before mortal) bool {
	for {
		got, called, returned := m.until(r, c, string(register), m.lease(r, now.id), "device_limit_reached")
		if got.code != 403 {
			m.did(deed{now, false, called, returned})
		}
		if returned == forever {
			return false
		}
		m.say(word{mortal: before, how: "register of another", ended: got.code == 200, sent: called, got: returned})
		if got.code == 200 {
			m.clockOf(got)
			m.chase(r, c, question{device: before.id})
			return true
		}
		m.nap(r, 200*time.Millisecond)
	}
}

// locksmith makes keys that end by themselves, and rotates others.
func (m *mortals) locksmith(r *rand.Rand, c asker) {
	var key orgKey // to be rotated
	for !m.over() {
		if key.id == "" {
			body, expires := `{"scope":"validate"}`, r.IntN(2) == 0
			if expires {
				body = fmt.Sprintf(`{"scope":"validate","expiresAt":%q}`, m.in(time.Second+time.Duration(r.IntN(4000))*time.Millisecond))
			}
			if made := m.made(c.call(m.anywhere(r), "POST", "org/keys", body, "X-Org-Key", m.seat.key)); !expires {
				key = made
			}
			m.nap(r, time.Second)
			continue
		}
		m.nap(r, 2*time.Second)
		grace := []int{0, 0, 1, 3}[r.IntN(4)]
		got, called, returned := m.until(r, c, "org/keys/rotate", fmt.Sprintf(`{"keyId":%q,"graceSeconds":%d}`, key.id, grace), "secret_already_shown")
		if grace == 0 {
			m.did(deed{mortal{mortalKey, key.id}, true, called, returned})
		}
		m.chase(r, c, question{device: "nobody", key: key})
		key = m.made(got)
	}
}

// made takes note of a key, if an answer shows one.
func (m *mortals) made(got response) (key orgKey) {
	if got.code == 200 && got.Key != "" {
		key = orgKey{got.KeyID, got.Key}
		m.mu.Lock()
		m.keys = keepLast(m.keys, key)
		m.mu.Unlock()
	}
	return key
}

// steward entitles an org for a while, and holds it now and then. Operators' calls have no Idempotency-Key: an org that may have
// been given time by a call of which nobody knows is left for another.
func (m *mortals) steward(r *rand.Rand, c asker) {
	var o tenancy
	for !m.over() {
		if o.key == "" {
			if o = m.newOrg(c, m.nodes[r.IntN(len(m.nodes))]); o.key == "" || m.update(c, m.nodes[r.IntN(len(m.nodes))], o, `{"limit":1000000}`).code != 200 {
				o = tenancy{}
				m.nap(r, 200*time.Millisecond)
				continue
			}
			m.mu.Lock()
			m.plan = o
			m.mu.Unlock()
		}
		d, body := deed{mortal: mortal{mortalAccess, o.id}}, `{"accessUntil":null}`
		switch r.IntN(6) {
		case 0:
			d.ends, body = true, fmt.Sprintf(`{"accessUntil":%q}`, m.in(-time.Minute))
		case 1, 2, 3:
			body = fmt.Sprintf(`{"accessUntil":%q}`, m.in(time.Duration(r.IntN(3000))*time.Millisecond))
		case 4:
			d.kind, d.ends, body = mortalHold, true, `{"hold":true}`
		}
		if !m.steer(r, c, o, d, body) || d.kind == mortalHold && !m.steer(r, c, o, deed{mortal: d.mortal}, `{"hold":false}`) {
			o = tenancy{}
		}
	}
}

// steer makes a change of an org until it is made. It reports whether all is known of it.
func (m *mortals) steer(r *rand.Rand, c asker, o tenancy, d deed, body string) bool {
	known := true
	d.called = m.at()
	for !m.over() {
		got := m.update(c, m.nodes[r.IntN(len(m.nodes))], o, body)
		if d.returned = m.at(); got.code == 200 {
			m.did(d)
			m.chase(r, c, question{device: "nobody", plan: o})
			m.nap(r, 2*time.Second)
			return known
		}
		switch {
		case got.code == 404:
			return false // the node that made the org was of another cluster
		case got.Outcome != "not_done" && !got.notSent && !d.ends:
			known = false
			m.did(deed{d.mortal, false, d.called, forever})
		}
		m.nap(r, 150*time.Millisecond)
	}
	d.returned = forever
	m.did(d)
	return false
}

// question is what is asked: a device under a key, of the org with the seat or of the one with the plan.
type question struct {
	device string
	key    orgKey
	plan   tenancy
}

func (q question) about() map[string]string {
	out := map[string]string{mortalDevice: q.device}
	if q.key.id != "" {
		out[mortalKey] = q.key.id
	}
	if q.plan.key != "" {
		return map[string]string{mortalHold: q.plan.id, mortalAccess: q.plan.id}
	}
	return out
}

// any is a question about what was ended lately, or is to be.
func (m *mortals) any(r *rand.Rand) (q question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q.device = "nobody"
	if n := len(m.devices); n > 0 {
		q.device = m.devices[r.IntN(n)]
	}
	switch n := len(m.keys); {
	case r.IntN(3) == 0:
		q.plan = m.plan
	case n > 0 && r.IntN(2) == 0:
		q.key = m.keys[r.IntN(n)]
	}
	return q
}

func (m *mortals) secret(q question) string {
	switch {
	case q.plan.key != "":
		return q.plan.key
	case q.key.id != "":
		return q.key.secret
	}
	return m.seat.key
}

// believed reports which process answers at a place now, and whether it is of this cluster.
func (m *mortals) believed(at string) (process string, ok bool) {
	if slices.Contains(m.nodes, at) {
		return authorityItself, !m.foreign(at)
	}
	process = m.process(at)
	return process, process != ""
}

// hear makes a call at a place, and takes down the words that read finds in its answer, unless it is not known who answered.
func (m *mortals) hear(at, how string, call func() response, read func(response) []word) (words []word) {
	by, ok := m.believed(at)
	sent := m.at()
	words = read(call())
	if again, still := m.believed(at); !ok || !still || again != by {
		return nil
	}
	for i := range words {
		words[i].by, words[i].how, words[i].sent, words[i].got = by, how, sent, m.at()
	}
	m.say(words...)
	return words
}

func (m *mortals) validate(c asker, at string, q question) []word {
	return m.hear(at, "validate", func() response {
		return c.call(at, "POST", "devices/validate", device(q.device), "X-Org-Key", m.secret(q))
	}, func(got response) []word {
		words := implied(got.Code, q.about())
		for i := range words {
			words[i].passing = slices.Contains(m.nodes, at)
		}
		return words
	})
}

// chase asks edges at once about what the authority has just told of.
func (m *mortals) chase(r *rand.Rand, c asker, q question) {
	time.Sleep(time.Nanosecond) // in virtual time none passes by itself, and what is sent in the same moment is not sent after
	for _, i := range r.Perm(len(m.edges))[:2] {
		words := m.validate(c, m.edges[i], q)
		m.mu.Lock()
		m.chased += len(words)
		m.mu.Unlock()
	}
}

// bystander asks at an edge about anything.
func (m *mortals) bystander(r *rand.Rand, c asker, edge string) {
	for !m.over() {
		m.nap(r, 150*time.Millisecond)
		m.validate(c, edge, m.any(r))
	}
}

// looker asks the nodes in every way that tells of ends.
func (m *mortals) looker(r *rand.Rand, c asker) {
	for n := 0; !m.over(); n++ {
		m.nap(r, 150*time.Millisecond)
		at, q := m.nodes[r.IntN(len(m.nodes))], m.any(r)
		var words []word
		switch about := q.about(); {
		case r.IntN(3) == 0:
			words = m.validate(c, at, q)
		case q.plan.key != "":
			words = m.lookAtPlan(c, at, q.plan, n)
		case q.key.id != "":
			words = m.hear(at, "org", func() response { return c.call(at, "GET", "org", "", "X-Org-Key", q.key.secret) }, func(got response) []word {
				if ended := got.Error == "org_not_found"; ended || got.Error == "insufficient_scope" {
					return []word{{mortal: mortal{mortalKey, q.key.id}, ended: ended}}
				}
				return nil
			})
		case r.IntN(2) == 0:
			words = m.lookAtAll(c, at)
		default:
			id := about[mortalDevice]
			words = m.hear(at, "get", func() response { return c.call(at, "GET", "devices/get?deviceId="+id, "", "X-Org-Key", m.seat.key) }, func(got response) []word {
				if got.code != 200 && got.Error != "device_not_found" {
					return nil
				}
				return []word{{mortal: mortal{mortalDevice, id}, ended: got.code == 404}}
			})
		}
		if slices.ContainsFunc(words, func(w word) bool { return w.ended }) {
			m.chase(r, c, q)
		}
	}
}

// lookAtAll sees which of the seat's devices are listed.
func (m *mortals) lookAtAll(c asker, at string) []word {
	m.mu.Lock()
	ids := slices.Clone(m.devices)
	m.mu.Unlock()
	return m.hear(at, "list", func() response { return c.call(at, "GET", "devices/list", "", "X-Org-Key", m.seat.key) }, func(got response) (words []word) {
		if got.code != 200 {
			return nil
		}
		for _, id := range ids {
			words = append(words, word{mortal: mortal{mortalDevice, id}, ended: !slices.ContainsFunc(got.Devices, func(d seenDevice) bool { return d.DeviceID == id })})
		}
		return words
	})
}

// lookAtPlan registers a device, which only who is entitled may, or asks whether the org is held.
func (m *mortals) lookAtPlan(c asker, at string, o tenancy, n int) []word {
	if n%2 == 0 {
		return m.hear(at, "usage", func() response { return c.call(at, "GET", "usage", "", "X-Org-Key", o.key) }, func(got response) []word {
			if got.code != 200 {
				return nil
			}
			return []word{{mortal: mortal{mortalHold, o.id}, ended: got.IsFrozen}}
		})
	}
	return m.hear(at, "register", func() response {
		return c.call(at, "POST", string(register), device(fmt.Sprint("x", n)), "X-Org-Key", o.key)
	}, func(got response) []word {
		code, known := map[string]string{"plan_frozen": codeFrozen, "entitlement_expired": codeExpired, "": codeAllow}[got.Error]
		if !known || got.code != 200 && got.code != 403 {
			return nil
		}
		return implied(code, question{plan: o}.about())
	})
}

// told reports whether the authority and an edge have said of a key, a device and an org that they have ended.
func (m *mortals) told() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	said := map[string]bool{}
	for _, w := range m.ledger.words {
		if w.ended && w.kind != mortalHold {
			said[fmt.Sprint(w.kind, w.by == authorityItself)] = true
		}
	}
	return len(said) == 2*len([]string{mortalKey, mortalDevice, mortalAccess})
}

// tally is how much was said of ends.
type tally struct {
	told, edges           map[string]int // that it has ended, by kind
	living, chased, deeds int
}

func (t *tally) add(m *mortals) {
	if t.told == nil {
		t.told, t.edges = map[string]int{}, map[string]int{}
	}
	for _, w := range m.ledger.words {
		switch {
		case !w.ended:
			t.living++
		case w.by == authorityItself:
			t.told[w.kind]++
		default:
			t.edges[w.kind]++
		}
	}
	t.chased, t.deeds = t.chased+m.chased, t.deeds+len(m.ledger.deeds)
}

// enough reports whether that means anything, for so many histories. Not each of them holds an org.
func (t *tally) enough(histories int) bool {
	return t.told[mortalKey] > 0 && t.told[mortalDevice] > 0 && t.edges[mortalKey] > 0 && t.edges[mortalDevice] > 0 && t.edges[mortalAccess] > 0 &&
		t.living > 100*histories && t.chased > 20*histories
}

func (t *tally) String() string {
	return fmt.Sprintf("ends told by the authority %v, by edges %v; %d times that it lives; %d words of edges right after the authority's; %d deeds",
		t.told, t.edges, t.living, t.chased, t.deeds)
}
