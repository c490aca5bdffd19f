//go:build linux

package cli

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestSoak has everything at once: validates of few and of many devices, changes, lists, exports, backups, new connections and half-open ones, while
// other nodes and edges are killed and ended. What was not revoked is not denied for another reason than SYSTEM_UNAVAILABLE, what was is not
// allowed, and the processes that live on do not grow. How long each kind of work stood still is printed.
func TestSoak(t *testing.T) {
	t.Parallel()
	length, devices := 6*time.Second, 100
	if os.Getenv("MACHINEID_TEST_TORTURE") != "" {
		length, devices = tortureTime(3*time.Minute), 5000
	}
	w := newSoak(t, seeded(t), devices)
	w.work()
	var sizes []map[string]size
	for i, began := 0, time.Now(); time.Since(began) < length; i++ {
		time.Sleep(min(length/12, 10*time.Second))
		if i%3 == 1 {
			w.kill()
		}
		sizes = append(sizes, w.sizes())
	}
	close(w.over)
	w.workers.Wait()
	w.judge(sizes)
}

type soak struct {
	t       *testing.T
	rng     *rand.Rand
	cluster *clusterNodes
	kept    *edgeNode // never ended, like the first node
	other   *edgeNode
	org     org
	devices int
	dir     string
	over    chan struct{}
	workers sync.WaitGroup
	began   time.Time
	wrong   atomic.Int64

	mu    sync.Mutex
	kills []time.Duration
	works map[string]*standing
}

// standing is how one kind of work got on.
type standing struct {
	done   int
	last   time.Duration
	stills [][2]time.Duration // more than a second without any
}

func newSoak(t *testing.T, rng *rand.Rand, devices int) *soak {
	t.Helper()
	w := &soak{t: t, rng: rng, cluster: startCluster(t, 3), devices: devices, dir: t.TempDir(), over: make(chan struct{}), works: map[string]*standing{}}
	w.kept, w.other = startEdge(t, w.cluster.links()), startEdge(t, w.cluster.links())
	w.kept.ready()
	w.other.ready()
	c := newClient(t, w.cluster.nodes[0].http)
	a := c.must(t, "org/create", "", "{}")
	w.org = org{a.text("orgApiKey"), a.text("agentKey")}
	limit := fmt.Sprintf(`{"limit":%d}`, 2*devices)
	if a, err := c.do(http.MethodPatch, "operator/orgs/"+a.text("orgId"), "", limit, "Authorization: Bearer "+clusterToken); err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("raise the limit: %v %+v", err, a)
	}
	for i := range devices {
		c.must(t, "devices/register", w.org.admin, naming(fmt.Sprint("d", i)))
	}
	w.began = time.Now()
	return w
}

func (w *soak) work() {
	repeat := func(what string, do func(r *rand.Rand) bool) {
		r := rand.New(rand.NewPCG(w.rng.Uint64(), 1))
		w.workers.Go(func() {
			for !w.ended() {
				if do(r) {
					w.did(what)
				} else {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	for _, few := range []bool{true, false} {
		what := map[bool]string{true: "validates of few", false: "validates of many"}[few]
		c := &client{addr: w.kept.http}
		repeat(what, func(r *rand.Rand) bool {
			i := r.IntN(w.devices)
			if few {
				i %= 10
			}
			return w.validate(c, fmt.Sprint("d", i))
		})
	}
	repeat("new connections", func(r *rand.Rand) bool {
		c := &client{addr: w.kept.http}
		defer c.close()
		return w.validate(c, fmt.Sprint("d", r.IntN(10)))
	})
	repeat("half-open connections", func(*rand.Rand) bool {
		conn, err := net.DialTimeout("tcp", w.kept.http, time.Second)
		if err != nil {
			return false
		}
		_, err = conn.Write([]byte("POST /api/v1/devices/validate HTTP/1.1\r\nHost: machineid\r\nContent-Length: 1000\r\n\r\n{"))
		time.Sleep(50 * time.Millisecond)
		_ = conn.Close()
		return err == nil
	})
	repeat("changes", w.change())
	reads := map[string]string{"lists": "devices/list?limit=500", "exports": "org/export"}
	for what, path := range reads {
		c := &client{addr: w.cluster.nodes[0].http}
		repeat(what, func(*rand.Rand) bool {
			a, err := c.get(path, w.org.admin)
			if err != nil {
				c.close()
			}
			return err == nil && a.StatusCode == http.StatusOK
		})
	}
	repeat("backups", func(*rand.Rand) bool {
		_, code := w.cluster.operate("snapshot", "save", filepath.Join(w.dir, "backup"), "--force")
		time.Sleep(time.Second)
		return code == exitDone
	})
}

// validate asks about a device that is never revoked.
func (w *soak) validate(c *client, device string) bool {
	a, err := c.post("devices/validate", w.org.agent, naming(device))
	if err != nil {
		c.close()
		return false
	}
	switch a.code() {
	case "ALLOW":
		return true
	case "SYSTEM_UNAVAILABLE":
		return false
	}
	w.wrong.Add(1)
	w.t.Errorf("%s: %s", device, a.raw)
	return false
}

// change revokes and restores a device, and looks at the edge that is kept in between.
func (w *soak) change() func(r *rand.Rand) bool {
	c, edge := &client{addr: w.cluster.nodes[0].http}, &client{addr: w.kept.http}
	id := naming("changes")
	newClient(w.t, c.addr).must(w.t, "devices/register", w.org.admin, id)
	// again repeats a call until it has succeeded, or what came of it could land on a later one.
	again := func(path, key string) bool {
		for !w.ended() {
			a, err := c.do(http.MethodPost, path, w.org.admin, id, "Idempotency-Key: "+key)
			switch {
			case err != nil:
				c.close()
			case a.StatusCode == http.StatusOK:
				return true
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	}
	return func(r *rand.Rand) bool {
		for _, step := range []struct{ path, denied string }{{"devices/revoke", "ALLOW"}, {"devices/unrevoke", "DEVICE_REVOKED"}} {
			if !again(step.path, strconv.FormatUint(r.Uint64(), 36)) {
				return false
			}
			if got, err := edge.post("devices/validate", w.org.agent, id); err != nil {
				edge.close()
			} else if got.code() == step.denied {
				w.wrong.Add(1)
				w.t.Errorf("%s after %s had returned", got.code(), step.path)
			}
		}
		return true
	}
}

func (w *soak) ended() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}

func (w *soak) did(what string) {
	now := time.Since(w.began)
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.works[what]
	if s == nil {
		s = &standing{}
		w.works[what] = s
	}
	if now-s.last > time.Second {
		s.stills = append(s.stills, [2]time.Duration{s.last, now})
	}
	s.done, s.last = s.done+1, now
}

// kill ends or kills one of those that are not kept, and starts it again.
func (w *soak) kill() {
	w.mu.Lock()
	w.kills = append(w.kills, time.Since(w.began))
	w.mu.Unlock()
	if i := w.rng.IntN(3); i > 0 {
		n := w.cluster.nodes[i]
		if w.rng.IntN(2) == 0 {
			n.kill()
		} else {
			n.interrupt()
		}
		n.begin()
		return
	}
	w.other.kill()
	w.other = startEdge(w.t, w.cluster.links())
}

// size is what a process takes.
type size struct{ memory, goroutines, descriptors float64 }

func (w *soak) sizes() map[string]size {
	out := map[string]size{}
	for name, ops := range map[string]string{"node": w.cluster.nodes[0].ops, "edge": w.kept.ops} {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(scrape(w.t, ops)))
		if err != nil {
			w.t.Fatal(err)
		}
		gauge := func(name string) float64 { return families[name].GetMetric()[0].GetGauge().GetValue() }
		out[name] = size{gauge("process_resident_memory_bytes"), gauge("go_goroutines"), gauge("process_open_fds")}
	}
	return out
}

// explained is how long after a kill work may stand still because of it: leases, an election, and the start of a process.
const explained = 10 * time.Second

// judge looks for growth from the second quarter of the time to the last, and prints what stood still.
func (w *soak) judge(sizes []map[string]size) {
	t := w.t
	var table strings.Builder
	for what, s := range w.works {
		longest, unexplained := time.Duration(0), 0
		for _, still := range s.stills {
			if !slices.ContainsFunc(w.kills, func(k time.Duration) bool { return k < still[1] && k+explained > still[0] }) {
				unexplained++
				longest = max(longest, still[1]-still[0])
			}
		}
		fmt.Fprintf(&table, "\n%-22s %8d done, %d stills of more than 1 s, %d of them with no kill before (the longest %v)", what, s.done, len(s.stills), unexplained, longest.Round(time.Millisecond))
		if s.done == 0 {
			t.Errorf("no %s", what)
		}
	}
	most := func(list []map[string]size, name string) (m size) {
		for _, s := range list {
			m = size{max(m.memory, s[name].memory), max(m.goroutines, s[name].goroutines), max(m.descriptors, s[name].descriptors)}
		}
		return m
	}
	n := len(sizes)
	for _, name := range []string{"node", "edge"} {
		early, late := most(sizes[n/4:n/2], name), most(sizes[3*n/4:], name)
		fmt.Fprintf(&table, "\n%s: %.0f MB, %.0f goroutines, %.0f descriptors; at the end %.0f MB, %.0f, %.0f", name,
			early.memory/1e6, early.goroutines, early.descriptors, late.memory/1e6, late.goroutines, late.descriptors)
		if late.memory > 2*early.memory+64e6 || late.goroutines > 2*early.goroutines+200 || late.descriptors > 2*early.descriptors+200 {
			t.Errorf("the %s grows", name)
		}
	}
	t.Logf("%d kills, %d wrong answers%s", len(w.kills), w.wrong.Load(), table.String())
}
