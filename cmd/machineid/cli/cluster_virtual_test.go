//go:build unix

package cli

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// The promise (docs/guarantee.md, The promise) over a whole deployment in virtual time: three authority nodes, five edges, clients at all of them, and
// somebody who cuts links, crashes nodes, moves leaders, restarts edges and sets clocks.

// saga is one history and what it was made of.
type saga struct {
	annals
	ends                           *mortals
	faults                         map[string]int
	met                            map[string]int // what connections and their bytes have met
	log                            []string
	terms                          map[uint64]bool
	unknown, notDone, replays      int
	resumed, resets, expired, seen float64
	firstFault                     time.Duration
}

// actors are those who do something to a site until it is over.
type actors struct {
	*site
	seed uint64
	orgs []string // their keys
	stop chan struct{}

	mu   sync.Mutex
	saga saga
	keys [sagaOrgs][]orgKey // that agents may use, the newest last; those that were revoked lately too
}

// orgKey is a key that comes and goes.
type orgKey struct{ id, secret string }

const (
	sagaOrgs    = 2
	sagaDevices = 3 // an org's limit
	sagaEdges   = 5
	sagaLength  = 20 * time.Second // of virtual time, with faults
)

// play runs one saga.
func play(t *testing.T, seed uint64, length time.Duration) (out *saga) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a := &actors{
			site: newSite(t, rng, 3, sagaEdges), seed: seed, stop: make(chan struct{}),
			saga: saga{faults: map[string]int{}, terms: map[uint64]bool{}},
		}
		c := a.caller("founder")
		for range sagaOrgs {
			a.until("an org is there", func() bool {
				r := c.call("a1", "POST", "org/create", "{}")
				if r.code == 200 {
					a.orgs = append(a.orgs, r.Key)
				}
				return r.code == 200
			})
		}
		a.saga.ends = a.mortals()
		a.until("what ends is there", func() bool { return a.saga.ends.found(c) })
		c.close()
		var clients, nemeses sync.WaitGroup
		a.saga.ends.cast(&clients)
		for i := range sagaEdges {
			for k := range 2 {
				clients.Go(func() { a.agent(100+2*i+k, a.edges[i].id) })
			}
		}
		for o := range sagaOrgs {
			for d := range sagaDevices {
				clients.Go(func() { a.admin(200+10*o+d, o, []string{fmt.Sprint("d", d)}) })
			}
			clients.Go(func() { a.admin(230+o, o, []string{"d0", "d1", "d2"}) }) // in the way of the others
			clients.Go(func() { a.admin(240+o, o, []string{""}) })
			clients.Go(func() { a.keeper(260+o, o) })
			for i, n := range a.nodes {
				clients.Go(func() { a.reader(250+10*o+i, o, n.id) })
			}
		}
		nemeses.Go(a.harmEdges)
		nemeses.Go(a.harmNodes)
		time.Sleep(length)
		close(a.stop)
		nemeses.Wait()
		a.net.mend(func(way) bool { return true })
		for _, n := range a.nodes {
			n.wall.Store(0)
		}
		a.until("every node is ready again", a.nodesReady)
		a.until("every edge is ready again", a.edgesReady)
		a.seeTerm()
		clients.Wait()
		a.site.stop()
		a.saga.resumed, a.saga.resets = a.counted("machineid_link_resumes_total"), a.counted("machineid_link_resets_total")
		a.saga.expired = a.counted("machineid_link_expiries_total")
		a.saga.seen = a.counted("machineid_edge_invalidations_total")
		a.saga.met = map[string]int{}
		for _, what := range hurts {
			a.saga.met[what] = a.net.met.Count(what)
		}
		out = &a.saga
	})
	return out
}

// mortals are what ends here.
func (a *actors) mortals() *mortals {
	m := &mortals{seed: a.seed, token: siteToken, stage: stage{at: a.at, over: a.over, nap: a.nap}}
	m.dial = func(name string) asker { return a.caller(name) }
	m.foreign = func(node string) bool { return a.node(node).alien.Load() }
	edges := map[string]*siteEdge{}
	m.process = func(edge string) string { return fmt.Sprint(edge, ", run ", edges[edge].runs.Load()) }
	for _, n := range a.nodes {
		m.nodes = append(m.nodes, n.id)
	}
	for _, e := range a.edges {
		m.edges, edges[e.id] = append(m.edges, e.id), e
	}
	return m
}

func (a *actors) over() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

// nap sleeps up to d, less if it is over.
func (a *actors) nap(r *rand.Rand, d time.Duration) {
	select {
	case <-time.After(time.Duration(r.Int64N(int64(d)))):
	case <-a.stop:
	}
}

func (a *actors) note(list ...access) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saga.accesses = append(a.saga.accesses, list...)
}

// agent asks an edge whether its devices may run.
func (a *actors) agent(id int, at string) {
	r := rand.New(rand.NewPCG(a.seed, uint64(id)))
	c := a.caller(fmt.Sprint("c", id))
	defer func() { c.close() }()
	for !a.over() {
		a.nap(r, 50*time.Millisecond)
		o := r.IntN(len(a.orgs))
		key := a.anyKey(r, o)
		g := glance{org: fmt.Sprint("o", o), device: fmt.Sprint("d", r.IntN(sagaDevices)), by: at, key: key.id, sent: a.at()}
		got := c.call(at, "POST", "devices/validate", device(g.device), "X-Org-Key", key.secret)
		if got.code != 200 && got.Code != codeUnknownKey {
			continue // the edge is gone
		}
		g.code, g.got = got.Code, a.at()
		a.saw(g)
	}
}

func (a *actors) saw(g glance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saga.glances = append(a.saga.glances, g)
}

// anyKey is the org's first key or one of those that come and go.
func (a *actors) anyKey(r *rand.Rand, org int) orgKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	if list := a.keys[org]; len(list) > 0 && r.IntN(2) == 0 {
		return list[r.IntN(len(list))]
	}
	return orgKey{secret: a.orgs[org]}
}

// keeper makes keys and revokes them again.
func (a *actors) keeper(id, org int) {
	r := rand.New(rand.NewPCG(a.seed, uint64(id)))
	c := a.caller(fmt.Sprint("c", id))
	defer func() { c.close() }()
	for !a.over() {
		made := access{what: makeKey, after: active, called: a.at()}
		got := c.call(a.anywhere(r), "POST", "org/keys", `{"scope":"validate"}`, "X-Org-Key", a.orgs[org])
		if made.returned = a.at(); got.code != 200 || got.Key == "" {
			a.nap(r, 300*time.Millisecond) // if there is one, nobody knows it
			continue
		}
		key := orgKey{got.KeyID, got.Key}
		made.subject = subject{fmt.Sprint("o", org), key.id}
		a.mu.Lock()
		a.saga.keys = append(a.saga.keys, made)
		a.keys[org] = append(a.keys[org], key)
		a.keys[org] = a.keys[org][max(0, len(a.keys[org])-2):]
		a.mu.Unlock()
		a.nap(r, 3*time.Second)
		dropped := access{subject: made.subject, what: dropKey, after: absent, called: a.at(), returned: forever}
		for !a.over() && dropped.returned == forever { // to call it again does no harm
			if c.call(a.anywhere(r), "POST", "org/keys/revoke", fmt.Sprintf(`{"keyId":%q}`, key.id), "X-Org-Key", a.orgs[org]).code == 200 {
				dropped.returned = a.at()
				continue
			}
			a.nap(r, 150*time.Millisecond)
		}
		a.mu.Lock()
		a.saga.keys = append(a.saga.keys, dropped)
		a.mu.Unlock()
	}
}

// anywhere is who takes a call: a node, or an edge that passes it on.
func (a *actors) anywhere(r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return a.edges[r.IntN(len(a.edges))].id
	}
	return a.nodes[r.IntN(len(a.nodes))].id
}

// admin changes and looks up some devices of an org, or its switch.
func (a *actors) admin(id, org int, devices []string) {
	r := rand.New(rand.NewPCG(a.seed, uint64(id)))
	c := a.caller(fmt.Sprint("c", id))
	defer func() { c.close() }()
	off := false
	for !a.over() {
		s := subject{fmt.Sprint("o", org), devices[r.IntN(len(devices))]}
		if s.device != "" {
			a.nap(r, 2*time.Second)
			a.change(c, r, access{
				subject: s, what: []action{register, register, revoke, revoke, revoke, unrevoke, unrevoke, remove}[r.IntN(8)], client: id,
			})
			continue
		}
		if !off {
			a.nap(r, 4*time.Second) // on for longer than off
		}
		a.nap(r, time.Second)
		off = !off
		a.change(c, r, access{subject: s, what: map[bool]action{true: switchOut, false: switchIt}[off], client: id})
	}
}

// change tries a call here and there until its outcome is known, or it is given up.
func (a *actors) change(c *caller, r *rand.Rand, to access) {
	path, body := string(to.what), device(to.device)
	if to.device == "" {
		path, body = string(execute), fmt.Sprintf(`{"enabled":%t}`, to.what == switchIt)
	}
	key := strconv.FormatUint(r.Uint64(), 16)
	to.called, to.returned, to.after = a.at(), forever, to.what.makes()
	var unknown bool
	for tries := range 30 {
		if tries > 0 && (r.IntN(20) == 0 || a.over()) {
			break
		}
		got := c.call(a.anywhere(r), "POST", path, body, "X-Org-Key", a.orgs[to.orgIndex()], "Idempotency-Key", key)
		to.returned = a.at()
		switch {
		case got.code == 200:
			to.changed = got.Changed || to.what == remove || to.what == register && got.Status == "ok"
			a.answered(to, got.Replayed)
			return
		case got.Error == "device_not_found":
			to.after, to.refused = absent, true
			a.answered(to, got.Replayed)
			return
		case got.Error == "device_revoked":
			to.after, to.refused = revoked, true
			a.answered(to, got.Replayed)
			return
		case got.Outcome == "not_done", got.notSent, got.code == 404: // an edge that stops answers 404 to nothing
			a.count(&a.saga.notDone)
		default:
			unknown = true
			a.count(&a.saga.unknown)
		}
		a.nap(r, 150*time.Millisecond)
	}
	if unknown {
		to.returned = forever
		a.note(to)
	}
}

func (a *actors) answered(to access, replayed bool) {
	a.note(to)
	if replayed {
		a.count(&a.saga.replays)
	}
}

func (a *actors) count(n *int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*n++
}

func (s subject) orgIndex() int { return int(s.org[1] - '0') }

// reader asks a node what an org, its devices and their permissions are.
func (a *actors) reader(id, org int, at string) {
	r := rand.New(rand.NewPCG(a.seed, uint64(id)))
	c := a.caller(fmt.Sprint("c", id))
	defer func() { c.close() }()
	n := a.node(at)
	for !a.over() {
		a.nap(r, 300*time.Millisecond)
		if n.alien.Load() {
			continue // what it says is of another cluster
		}
		name := fmt.Sprint("o", org)
		dev := access{subject: subject{name, fmt.Sprint("d", r.IntN(sagaDevices))}, what: sight, called: a.at(), client: id}
		sw := access{subject: subject{name, ""}, what: sight, after: switchOn, called: dev.called, client: id}
		switch r.IntN(4) {
		case 0:
			got := c.call(at, "GET", "org", "", "X-Org-Key", a.orgs[org])
			sw.returned = a.at()
			if got.code == 200 && !n.alien.Load() {
				if !got.Enabled {
					sw.after = switchOff
				}
				a.note(sw)
			}
		case 1:
			got := c.call(at, "POST", "devices/validate", device(dev.device), "X-Org-Key", a.orgs[org])
			dev.returned, sw.returned, dev.passing, sw.passing = a.at(), a.at(), true, true
			if n.alien.Load() {
				continue
			}
			if got.code == 200 {
				a.saw(glance{org: name, device: dev.device, by: at, sent: dev.called, got: a.at(), code: got.Code})
			}
			told, known := says[got.Code]
			if dev.after = told; known {
				a.note(dev, sw)
			} else if got.Code == codeDisabled {
				sw.after = switchOff
				a.note(sw)
			}
		default:
			got := c.call(at, "GET", "devices/get?deviceId="+dev.device, "", "X-Org-Key", a.orgs[org])
			switch dev.returned = a.at(); {
			case n.alien.Load():
			case got.code == 200:
				dev.after = condition(got.Status)
				a.note(dev)
			case got.Error == "device_not_found":
				dev.after = absent
				a.note(dev)
			}
		}
	}
}

// TestThePromiseOfAClusterInVirtualTime: every answer of every edge is regular, and what the authority answers by itself is
// linearizable.
func TestThePromiseOfAClusterInVirtualTime(t *testing.T) {
	t.Parallel()
	n := uint64(3)
	switch {
	case os.Getenv("MACHINEID_TEST_TORTURE") != "":
		n = seedsWanted(300)
	case testing.Short():
		n = 1
	}
	var sum saga
	var decided, allowed, unknownKeys, terms, violations int
	var ends tally
	sum.faults, sum.met = map[string]int{}, map[string]int{}
	list := seeds(t, n)
	for i, seed := range list {
		h := play(t, seed, sagaLength)
		bad := slices.Concat(h.ends.ledger.undead(), h.irregular(), h.nonlinear())
		for _, v := range bad[:min(len(bad), 3)] {
			t.Errorf("seed %d, one of %d: %s", seed, len(bad), v)
		}
		if len(bad) > 0 {
			t.Logf("seed %d: %s", seed, strings.Join(h.log, "; "))
		}
		violations += len(bad)
		for _, g := range h.glances {
			if g.code != codeUnsure {
				decided++
			}
			if g.code == codeAllow && g.sent > h.firstFault {
				allowed++
			}
			if g.code == codeUnknownKey {
				unknownKeys++
			}
		}
		terms += len(h.terms)
		sum.add(h)
		ends.add(h.ends)
		if len(bad) > 0 {
			list = list[:i+1]
			break // one is enough
		}
	}
	t.Logf("%d seeds: %d violations; %d validates, %d decided, %d ALLOWs after the first fault, %d with a key that was revoked; %d calls at the authority (attempts: %d unknown, "+
		"%d not done, %d replays); %d terms, %.0f sessions resumed, %.0f reset, %.0f changes that waited for an expiry, %.0f invalidations; %v; faults %v; %v",
		len(list), violations, len(sum.glances), decided, allowed, unknownKeys, len(sum.accesses), sum.unknown,
		sum.notDone, sum.replays, terms, sum.resumed, sum.resets, sum.expired, sum.seen, &ends, sum.faults, sum.met)
	if k := len(list); decided < len(sum.glances)/4 || allowed < 5*k || unknownKeys < 5*k || len(sum.accesses) < 20*k || terms < 2*k || sum.resumed == 0 || sum.seen == 0 ||
		k > 2 && (sum.resets == 0 || sum.expired == 0 || sum.replays == 0 || !ends.enough(k)) {
		t.Error("too little happened for the check to mean anything")
	}
	for _, what := range hurts {
		enough := 3 // seeds, of which some had it
		if what == bytesSlow {
			enough = 20 // one fault in a dozen
		}
		if sum.met[what] == 0 && len(list) >= enough {
			t.Errorf("of %d seeds none had %s: %v", len(list), what, sum.faults)
		}
	}
	for _, what := range kindsOfFaults {
		if sum.faults[what] == 0 && len(list) >= 20 {
			t.Errorf("of %d seeds none had the fault %q", len(list), what)
		}
	}
}

// add counts another saga in.
func (s *saga) add(h *saga) {
	s.accesses, s.glances = append(s.accesses, h.accesses...), append(s.glances, h.glances...)
	for k, v := range h.faults {
		s.faults[k] += v
	}
	for k, v := range h.met {
		s.met[k] += v
	}
	s.unknown, s.notDone, s.replays = s.unknown+h.unknown, s.notDone+h.notDone, s.replays+h.replays
	s.resumed, s.resets, s.expired, s.seen = s.resumed+h.resumed, s.resets+h.resets, s.expired+h.expired, s.seen+h.seen
}

// seedsWanted is how many seeds a long form plays: MACHINEID_TEST_SEEDS, or its own default.
func seedsWanted(usual uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("MACHINEID_TEST_SEEDS"), 10, 64); err == nil {
		return n
	}
	return usual
}
