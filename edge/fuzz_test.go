package edge

import (
	"encoding/binary"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
	"google.golang.org/protobuf/proto"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// FuzzClientAddress: whatever a client writes of itself, in either header or in both, it is who the trusted proxy says, or that proxy itself; and without a trusted peer nothing
// that was written counts.
func FuzzClientAddress(f *testing.F) {
	for _, s := range []string{
		"203.0.113.9", "6.6.6.6, nobody, 10.0.0.2", "::ffff:203.0.113.9", "fe80::1%eth0", "", ",", "10.0.0.3,10.0.0.2", "[::1]:80", "203.0.113.9:80", "unknown", "_x",
		"for=6.6.6.6", `for="[2001:db8::1]:_p";proto=https, for=_x`, `for="6.6.6.6`, `for=6.6.6.6;for=7.7.7.7`, `for="a\\"b"`, `by=x;for="\\`,
	} {
		f.Add(s, s)
	}
	e := &Edge{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	f.Fuzz(func(t *testing.T, plain, standard string) {
		ask := func(peer string, headers ...[2]string) netip.Addr {
			ctx, req := &fasthttp.RequestCtx{}, &fasthttp.Request{}
			for _, h := range headers {
				req.Header.Add(h[0], h[1])
			}
			ctx.Init(req, &net.TCPAddr{IP: net.ParseIP(peer)}, nil)
			return e.clientAddress(ctx)
		}
		const proxy, client = "10.0.0.1", "203.0.113.9"
		own := func(got netip.Addr, what string, exact bool) {
			t.Helper()
			if got.String() != client && (exact || got.String() != proxy) {
				t.Fatalf("%s, with %q and %q: %v", what, plain, standard, got)
			}
		}
		x, fwd := "X-Forwarded-For", "Forwarded"
		if got := ask("192.0.2.1", [2]string{x, plain}, [2]string{fwd, standard}); got.String() != "192.0.2.1" {
			t.Fatalf("a stranger with %q and %q: %v", plain, standard, got)
		}
		own(ask(proxy, [2]string{x, plain + ", " + client}), "appended", true)
		own(ask(proxy, [2]string{x, plain}, [2]string{x, client}), "on a line of its own", true)
		own(ask(proxy, [2]string{fwd, standard}, [2]string{fwd, "for=" + client}), "Forwarded on a line of its own", true)
		own(ask(proxy, [2]string{fwd, standard + ", for=" + client}), "Forwarded appended", false)
		own(ask(proxy, [2]string{x, client}, [2]string{fwd, standard}), "beside a Forwarded of the client's", false)
		own(ask(proxy, [2]string{fwd, "for=" + client}, [2]string{x, plain}), "beside an X-Forwarded-For of the client's", false)
	})
}

// FuzzFrames puts any frames of an authority in force. Whatever they say, a floor is at least what was invalidated and never falls, the
// lease ends within a lease of now, a record lands only where it was asked for, and an ALLOW comes from records that say so and are not
// below their floors (I1, I3, I5).
func FuzzFrames(f *testing.F) {
	key := keyOf(1)
	sum := key.Hash()
	hasher, err := link.NewHasher(make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	hash := hasher.Device(&testOrg, []byte("d"))
	good := &link.ToEdge{
		Grant: &link.Grant{AskedAtNs: int64(time.Hour), GrantedNs: int64(testLease), NowMs: 1, Index: 5},
		Answers: []*link.Answer{
			{Id: 1, Index: 5, Key: &link.KeyRecord{Known: true, OrgId: testOrg[:]}, Org: &link.OrgRecord{Known: true}, Device: active()},
			{Id: 2, Index: 6, Org: &link.OrgRecord{Known: true}, Device: revoked()},
			{Id: 3, Unavailable: true},
		},
	}
	addFrames(f, good)
	addFrames(f, good, &link.ToEdge{Invalidates: []*link.Invalidate{{Index: 9, Hashes: []uint64{hash}}}})
	addFrames(f, &link.ToEdge{Invalidates: []*link.Invalidate{{Index: 9, Hashes: []uint64{hash}}, {Index: 3, Hashes: []uint64{hash, 0}}}}, good)
	addFrames(f, &link.ToEdge{Grant: &link.Grant{AskedAtNs: math.MinInt64, GrantedNs: -1, NowMs: math.MaxInt64}})
	addFrames(f, &link.ToEdge{Grant: &link.Grant{AskedAtNs: int64(time.Hour) + 1, GrantedNs: math.MaxInt64}})

	e, err := New(Config{
		ID: "e1", HTTP: fasthttputil.NewInmemoryListener(), CacheEntries: MinCacheEntries, NoDate: true, Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(), Clock: stopped{},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(e.caches.close)
	m := &memory{caches: e.caches, epoch: 1, hasher: hasher, ttl: testTTL, sight: e.sight, incarnation: make([]byte, 16)}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := &session{e: e, memory: m, wake: make(chan struct{}, 1), lease: testLease}
		s.flights = newFlights(func(fl *flight) bool { fl.sent.Store(int64(stopped{}.Now())); return true })
		m.flights.Store(s.flights)
		m.epoch++ // nothing of the last input counts
		e.lease.Store(0)
		m.current = 0
		q := &question{sum: sum, device: []byte("d")}
		waiting := []*flight{
			s.flights.join(need{kind: needKey, hash: hasher.Key((*[32]byte)(&sum))}, q, stopped{}.Now()),
			s.flights.join(need{kind: needOrg, hash: hasher.Org(&testOrg), org: testOrg}, q, stopped{}.Now()),
			s.flights.join(need{kind: needDevice, hash: hash, org: testOrg}, q, stopped{}.Now()),
		}
		floors := map[uint64]uint64{}
		defer func() {
			for h := range floors {
				m.floors[h].Store(0)
			}
		}()
		current := uint64(0)
		for _, f := range framesOf(raw) {
			s.receive(f)
			for _, inv := range f.GetInvalidates() {
				for _, h := range inv.GetHashes() {
					floors[h&(1<<floorBits-1)] = max(floors[h&(1<<floorBits-1)], inv.GetIndex())
				}
			}
			if m.current < current {
				t.Fatalf("current fell from %d to %d", current, m.current)
			}
			current = m.current
		}
		if until, most := e.lease.Load(), int64(stopped{}.Now().Add(testLease)); until > most {
			t.Fatalf("the lease ends %v after now", time.Duration(until-int64(stopped{}.Now())))
		}
		for h, index := range floors {
			if got := m.floors[h].Load(); got != index {
				t.Fatalf("floor %x is %d, %d was invalidated", h, got, index)
			}
		}
		extra := &found{}
		for _, fl := range waiting {
			holdLanded(t, fl, sum, extra)
		}
		if code, _ := m.judge(q, stopped{}.Now(), 1, extra); code == decision.Allow {
			k := m.key(q, stopped{}.Now(), extra)
			o := m.org(k, stopped{}.Now(), extra)
			of := hasher.Device(&k.org, q.device) // of whichever org the key is said to open
			d := m.device(k, q, of, stopped{}.Now(), extra)
			floor := func(h uint64) uint64 { return floors[h&(1<<floorBits-1)] }
			if !k.rec.Known || !o.rec.Known || !d.known || d.revoked || k.index < floor(k.hash) || o.index < floor(k.orgHash) || d.index < floor(of) {
				t.Fatalf("ALLOW by %+v, %+v, %+v with the floors %d, %d, %d", k, o, d, floor(k.hash), floor(k.orgHash), floor(of))
			}
		}
	})
}

// stopped is a clock that stands.
type stopped struct{}

func (stopped) Now() clock.Time { return clock.Time(time.Hour) }

// holdLanded checks that a flight brought what was asked for, and gathers it.
func holdLanded(t *testing.T, fl *flight, sum orgkey.Hash, extra *found) {
	t.Helper()
	got := fl.got
	if got == nil {
		return
	}
	if fl.key.kind == needKey != (got.key != nil) || got.key != nil && got.key.sum != sum {
		t.Fatalf("a flight for %d brought the key %+v", fl.key.kind, got.key)
	}
	var org orgID
	var id string
	if got.device != nil {
		org, id = got.device.name()
	}
	if fl.key.kind != needKey && (got.org != nil && got.org.id != testOrg || got.device != nil && org != testOrg) || got.device != nil && id != "d" {
		t.Fatalf("a flight for %d brought the org %+v, the device %+v", fl.key.kind, got.org, got.device)
	}
	if got.key != nil {
		extra.key = got.key
	}
	if got.org != nil && (extra.key == nil || got.org.id == extra.key.org) {
		extra.org = got.org
	}
	if got.device != nil && (extra.key == nil || org == extra.key.org) {
		extra.device = got.device
	}
}

// addFrames gives a fuzz test frames to begin with, each behind its length.
func addFrames(f *testing.F, list ...*link.ToEdge) {
	f.Helper()
	var raw []byte
	for _, one := range list {
		b, err := proto.Marshal(one)
		if err != nil {
			f.Fatal(err)
		}
		raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(b))), b...)
	}
	f.Add(raw)
}

// framesOf takes bytes for frames, each behind its length, and leaves out what is none: gRPC does so before.
func framesOf(raw []byte) (list []*link.ToEdge) {
	for len(raw) >= 2 {
		n := min(int(binary.BigEndian.Uint16(raw)), len(raw)-2)
		one := &link.ToEdge{}
		if proto.Unmarshal(raw[2:2+n], one) == nil {
			list = append(list, one)
		}
		raw = raw[2+n:]
	}
	return list
}
