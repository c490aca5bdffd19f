//go:build unix

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/authority"
	"machineid/authority/hub"
	"machineid/edge"
)

// site is a whole deployment in one bubble of virtual time: authority nodes with their disks, edges, and the network between
// them. Everything is what production runs but network, disks and clocks.
type site struct {
	t     *testing.T
	net   *memNet
	start time.Time
	nodes []*siteNode
	edges []*siteEdge
	// cluster is the name of the cluster that the first node began, which edges are told to keep to.
	cluster string
	// logger is what a process logs to; nil: nowhere.
	logger func(id string) *slog.Logger

	mu         sync.Mutex
	registries []*prometheus.Registry // of every process there was
	old        sync.WaitGroup         // processes that crashed and do not know it
}

// siteNode is one authority node through its runs.
type siteNode struct {
	id    string
	disk  *vfs.MemFS
	times hub.Times
	rate  float64                  // of its clock
	wall  atomic.Int64             // how far its wall clock is off
	left  atomic.Uint64            // how many bytes its disk says are left, 0: it does not say
	alien atomic.Bool              // it is of another cluster for a while
	join  []string                 // what it is started with instead of being told to begin
	dir   string                   // where the marks of joining are, which are no part of disk
	proc  atomic.Pointer[siteProc] // nil while it is down
}

// siteEdge is one edge through its runs.
type siteEdge struct {
	id   string
	rate float64
	runs atomic.Int64
	proc atomic.Pointer[siteProc]
}

// siteProc is one running process.
type siteProc struct {
	host  *memHost
	told  *prometheus.Registry // of an authority node
	ready func() []string
	stop  context.CancelFunc
	ended chan error
}

// Ports of a host.
const (
	portHTTP = "80"
	portLink = "81"
	portRaft = "82"
)

// newSite starts nodes authority nodes and edges edges, each with clocks of its own.
func newSite(t *testing.T, rng *rand.Rand, nodes, edges int) *site {
	t.Helper()
	s := emptySite(t, rng)
	s.begin(rng, nodes, edges)
	return s
}

func emptySite(t *testing.T, rng *rand.Rand) *site {
	t.Helper()
	return &site{t: t, net: newMemNet(rand.New(rand.NewPCG(rng.Uint64(), 1))), start: time.Now()}
}

// begin starts what newSite says.
func (s *site) begin(rng *rand.Rand, nodes, edges int) {
	s.t.Helper()
	rate := func() float64 { return 1 + bound*float64(rng.IntN(3)-1) }
	ttl := []time.Duration{2 * time.Second, 5 * time.Second, time.Minute}[rng.IntN(3)]
	for i := range nodes {
		// A rolling change of the settings: not all nodes give leases of one length.
		lease := []time.Duration{2 * time.Second, 3 * time.Second}[rng.IntN(2)]
		n := &siteNode{
			id: fmt.Sprint("a", i+1), disk: vfs.NewCrashableMem(), rate: rate(),
			times: hub.Times{Lease: lease, CacheTTL: ttl, Bound: bound},
		}
		s.nodes = append(s.nodes, n)
		s.startNode(n, i == 0)
		if i == 0 {
			s.until("the first node is ready", func() bool { return len(n.proc.Load().ready()) == 0 })
			s.cluster = s.view().ClusterID
			continue
		}
		s.operate("operator/cluster/members", fmt.Sprintf(`{"id":%q,"address":%q,"voter":true}`, n.id, n.id+":"+portRaft))
	}
	s.until("every node is ready", s.nodesReady)
	for i := range edges {
		e := &siteEdge{id: fmt.Sprint("e", i+1), rate: rate()}
		s.edges = append(s.edges, e)
		s.startEdge(e)
	}
	s.until("every edge is ready", s.edgesReady)
}

func (s *site) log(id string) *slog.Logger {
	if s.logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.logger(id)
}

// bound is ρ; clocks run as far off as it allows.
const bound = 0.01

func (s *site) nodesReady() bool {
	for _, n := range s.nodes {
		if p := n.proc.Load(); p == nil || len(p.ready()) > 0 {
			return false
		}
	}
	return true
}

func (s *site) edgesReady() bool {
	for _, e := range s.edges {
		if p := e.proc.Load(); p == nil || len(p.ready()) > 0 {
			return false
		}
	}
	return true
}

func (s *site) until(what string, cond func() bool) {
	s.t.Helper()
	for began := time.Now(); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			for _, n := range s.nodes {
				if p := n.proc.Load(); p != nil {
					s.t.Logf("%s: %v", n.id, p.ready())
				}
			}
			for _, e := range s.edges {
				if p := e.proc.Load(); p != nil {
					s.t.Logf("%s: %v", e.id, p.ready())
				}
			}
			s.t.Fatalf("waited a minute until %s", what)
		}
	}
}

func (s *site) at() time.Duration { return time.Since(s.start) }

func (s *site) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registries = append(s.registries, r)
	return r
}

// counted is the sum of a counter over all processes there were.
func (s *site) counted(name string) (sum float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.registries {
		families, err := r.Gather()
		if err != nil {
			s.t.Errorf("gather: %v", err)
		}
		for _, f := range families {
			if f.GetName() == name {
				for _, m := range f.GetMetric() {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// gauge is what a node that is up tells of itself.
func (s *site) gauge(n *siteNode, name string) float64 {
	families, err := n.proc.Load().told.Gather()
	if err != nil {
		s.t.Errorf("gather: %v", err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}

func (s *site) node(id string) *siteNode {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *siteNode) bool { return n.id == id })]
}

func begin(host *memHost, ready func() []string, run func(context.Context) error) *siteProc {
	ctx, stop := context.WithCancel(context.Background())
	p := &siteProc{host: host, ready: ready, stop: stop, ended: make(chan error, 1)}
	go func() { p.ended <- run(ctx) }()
	return p
}

// startNode starts a node on its disk.
func (s *site) startNode(n *siteNode, bootstrap bool) {
	host, told := s.net.host(n.id), s.registry()
	node := authority.New(authority.Config{
		ID: n.id, Dir: cmp.Or(n.dir, "data"), FS: &siteDisk{n.disk, n}, HTTP: host.listen(portHTTP), Link: host.listen(portLink), Raft: host.listen(portRaft), Dial: host.dial,
		Bootstrap: bootstrap, Join: n.join, OpenSignup: true, OperatorToken: siteToken, Times: n.times, NoDate: true, Clock: drifting{s.start, n.rate},
		Wall:   func() time.Time { return time.Now().Add(time.Duration(n.wall.Load())) },
		Logger: s.log(n.id), Registerer: told,
	})
	p := begin(host, node.Ready, node.Run)
	p.told = told
	n.proc.Store(p)
}

// siteDisk is a node's disk, which may say how much it has left.
type siteDisk struct {
	vfs.FS
	node *siteNode
}

const diskSize = 32 << 20 // small: the reserve is a quarter of it, and there is no ballast

func (d *siteDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	left := d.node.left.Load()
	if left == 0 {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	return vfs.DiskUsage{TotalBytes: diskSize, AvailBytes: left, UsedBytes: diskSize - left}, nil
}

const siteToken = "a token of at least thirty-two characters"

// startEdge starts an edge with an empty memory.
func (s *site) startEdge(e *siteEdge) {
	e.runs.Add(1)
	host := s.net.host(e.id)
	var links []string
	for _, n := range s.nodes {
		links = append(links, n.id+":"+portLink)
	}
	node, err := edge.New(edge.Config{
		ID: e.id, Authority: links, Cluster: s.cluster, HTTP: host.listen(portHTTP), Dial: host.dial, Clock: drifting{s.start, e.rate}, CacheEntries: 1000,
		NoDate: true, Logger: s.log(e.id), Registerer: s.registry(),
	})
	if err != nil {
		s.t.Error(err)
		return
	}
	e.proc.Store(begin(host, node.Ready, node.Run))
}

// end stops a process in order.
func (s *site) end(name string, p *siteProc) {
	p.stop()
	if err := <-p.ended; err != nil {
		s.t.Errorf("%s: %v", name, err)
	}
	p.host.fail() // what is left of its connections
}

// abandon cuts a process off for good and lets it end when it may: a machine that lost its power looks so to all others.
func (s *site) abandon(p *siteProc) {
	p.host.fail()
	s.old.Go(func() {
		p.stop()
		<-p.ended //nolint:errcheck // what it says about its end is of no interest
	})
}

// crash ends a node as a loss of power does: of what was not synced its disk keeps some.
func (s *site) crash(n *siteNode, rng *rand.Rand) {
	p := n.proc.Swap(nil)
	p.host.fail()
	disk := n.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[rng.IntN(3)], RNG: rng})
	s.abandon(p)
	n.disk = disk
}

// leader is the node that is ready and leads the newest term, as its clients find it; nil if there is none.
func (s *site) leader() *siteNode {
	v := s.view()
	for _, n := range s.nodes {
		if v.Leader != nil && *v.Leader == n.id && n.proc.Load() != nil {
			return n
		}
	}
	return nil
}

// stop ends everything, edges first.
func (s *site) stop() {
	for _, e := range s.edges {
		s.end(e.id, e.proc.Load())
	}
	for _, n := range s.nodes {
		s.end(n.id, n.proc.Load())
	}
	s.old.Wait()
	time.Sleep(2 * time.Minute) // for what fasthttp cleans up
}

// caller is a client with connections from a machine of its own.
type caller struct {
	host    *memHost
	clients map[string]*fasthttp.HostClient
}

func (s *site) caller(name string) *caller {
	return &caller{host: s.net.host(name), clients: map[string]*fasthttp.HostClient{}}
}

func (c *caller) close() {
	for _, client := range c.clients {
		client.CloseIdleConnections()
	}
}

// response is what every call's answer has.
type response struct {
	code      int // of HTTP, 0 if no answer came
	notSent   bool
	Status    string
	Code      string
	Error     string
	Outcome   string
	Message   string
	Key       string `json:"orgApiKey"`
	KeyID     string
	OrgID     string
	CreatedAt string
	Devices   []seenDevice
	IsFrozen  bool
	Changed   bool
	Leader    *string
	Term      uint64
	ClusterID string
	Enabled   bool `json:"executionEnabled"`
	Replayed  bool `json:"-"`
}

// call makes one call. headers are pairs.
func (c *caller) call(to, method, path, body string, headers ...string) (r response) {
	client := c.clients[to]
	if client == nil {
		client = &fasthttp.HostClient{
			Addr: to + ":" + portHTTP, MaxIdemponentCallAttempts: 1, ReadTimeout: 10 * time.Second, MaxIdleConnDuration: 5 * time.Second,
			Dial: func(addr string) (net.Conn, error) { return c.host.dial(context.Background(), addr) },
		}
		c.clients[to] = client
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + to + "/api/v1/" + path)
	req.Header.SetMethod(method)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.SetBodyString(body)
	if err := client.Do(req, resp); err != nil {
		r.notSent = strings.Contains(err.Error(), "dial") // nothing left this machine
		return r
	}
	if json.Unmarshal(resp.Body(), &r) != nil {
		return response{}
	}
	r.code = resp.StatusCode()
	r.Replayed = len(resp.Header.Peek("Idempotency-Replayed")) > 0
	return r
}

// operate makes an operators' call at one node after the other until it has succeeded.
func (s *site) operate(path, body string) { s.order("POST", path, body, 200) }

// order is operate with a method, until the answer is one of some.
func (s *site) order(method, path, body string, done ...int) {
	s.t.Helper()
	c := s.caller("operator")
	defer c.close()
	s.until(method+" "+path+" "+body, func() bool {
		for _, n := range s.nodes {
			if r := c.call(n.id, method, path, body, "Authorization", "Bearer "+siteToken); slices.Contains(done, r.code) {
				return true
			}
		}
		return false
	})
}

// view is the cluster as the node with the newest term sees it.
func (s *site) view() (newest response) {
	c := s.caller("operator")
	defer c.close()
	for _, n := range s.nodes {
		if n.proc.Load() == nil {
			continue
		}
		if r := c.call(n.id, "GET", "operator/cluster", "", "Authorization", "Bearer "+siteToken); r.Term > newest.Term && (s.cluster == "" || r.ClusterID == s.cluster) {
			newest = r
		}
	}
	return newest
}
