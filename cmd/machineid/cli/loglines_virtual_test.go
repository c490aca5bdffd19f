//go:build unix

package cli

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"machineid/authority/hub"
	"machineid/internal/testkit/bubble"
)

// logbook is what a process has logged, each line with its virtual time.
type logbook struct {
	mu    sync.Mutex
	lines []logLine
}

type logLine struct {
	at   time.Time
	text string
}

// Write takes one line.
func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, logLine{time.Now(), string(bytes.TrimSpace(p))})
	return len(p), nil
}

// between lists what was logged from a moment on and before another.
func (b *logbook) between(from, to time.Time) (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if !l.at.Before(from) && l.at.Before(to) {
			list = append(list, l.text)
		}
	}
	return list
}

// quietSite is a site of which each process keeps a log at the usual level.
type quietSite struct {
	*site

	rng   *rand.Rand
	books map[string]*logbook
}

func newQuietSite(t *testing.T) *quietSite {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 1))
	q := &quietSite{site: emptySite(t, rng), rng: rng, books: map[string]*logbook{}}
	q.net.steady = true // what has to be sent again can cost an election, of which everybody tells
	q.logger = func(id string) *slog.Logger {
		if q.books[id] == nil {
			q.books[id] = &logbook{}
		}
		return slog.New(slog.NewTextHandler(q.books[id], nil))
	}
	return q
}

// waiting starts nodes that are in no cluster yet.
func (q *quietSite) waiting(nodes int) {
	var join []string
	for i := range nodes {
		join = append(join, fmt.Sprintf("a%d:%s", i+1, portHTTP))
	}
	for i := range nodes {
		n := &siteNode{id: fmt.Sprint("a", i+1), disk: vfs.NewCrashableMem(), rate: 1, times: hub.Times{Lease: 3 * time.Second, CacheTTL: time.Minute, Bound: bound}, join: join, dir: q.t.TempDir()}
		q.nodes = append(q.nodes, n)
		q.startNode(n, false)
	}
}

// begun starts three nodes by one line each, and has them begin a cluster.
func (q *quietSite) begun() {
	q.waiting(3)
	q.operate("operator/cluster/init", "{}")
	q.until("every node is ready", q.nodesReady)
}

func (q *quietSite) three() { q.begin(q.rng, 3, 1) }

// others are the nodes that do not lead.
func (q *quietSite) others() []*siteNode {
	leader := q.leader()
	return slices.DeleteFunc(slices.Clone(q.nodes), func(n *siteNode) bool { return n == leader })
}

// down takes nodes away as a loss of power does.
func (q *quietSite) down(nodes ...*siteNode) {
	for _, n := range nodes {
		q.crash(n, q.rng)
	}
}

// stopAll ends what runs, in whatever state it is.
func (q *quietSite) stopAll() {
	q.net.mend(func(way) bool { return true })
	for _, e := range q.edges {
		q.abandon(e.proc.Load())
	}
	for _, n := range q.nodes {
		if p := n.proc.Load(); p != nil {
			q.abandon(p)
		}
	}
	q.old.Wait()
	time.Sleep(2 * time.Minute) // for what fasthttp cleans up
}

// noSession is what an edge without an authority says, once that lasts.
const noSession = `level=WARN msg="no session with the authority"`

// quietStates are states that last, and what leads there.
func quietStates() map[string]quietState {
	three := (*quietSite).three
	return map[string]quietState{
		"nodes wait for a cluster": {before: func(*quietSite) {}, state: func(q *quietSite) { q.waiting(3) }, well: true, want: []string{"this node waits for a cluster"}},
		"a cluster begins": {
			before: func(q *quietSite) { q.waiting(3); time.Sleep(time.Minute) },
			state:  (*quietSite).beginNow, well: true, want: []string{"a cluster begins with this node", "msg=leading", "joined: "},
		},
		"all is well":        {before: three, state: func(*quietSite) {}, well: true},
		"a follower is gone": {before: three, state: func(q *quietSite) { q.down(q.others()[0]) }, want: []string{`level=WARN msg="a member does not answer`}},
		"the leader is gone": {before: three, state: func(q *quietSite) { q.down(q.leader()) }, want: []string{"msg=leading", "this node follows a leader"}},
		"a majority is gone": {before: three, state: func(q *quietSite) { q.down(q.others()...) }, want: []string{"no longer leading", "no leader is known", noSession}},
		"the leader and one more are gone": {
			before: three, state: func(q *quietSite) { q.down(append(q.others()[:1], q.leader())...) }, want: []string{"no leader is known", noSession},
		},
		"an edge lost the authority": {before: three, state: func(q *quietSite) { q.down(q.nodes...) }, want: []string{noSession}},
		"an edge has never had one": {
			before: func(q *quietSite) { q.waiting(2) },
			state: func(q *quietSite) {
				q.edges = append(q.edges, &siteEdge{id: "e1", rate: 1})
				q.startEdge(q.edges[0])
			}, want: []string{noSession},
		},
		"an edge is cut off":  {before: three, state: func(q *quietSite) { q.net.cutOff("e1", true) }, want: []string{noSession}},
		"a leader is cut off": {before: three, state: func(q *quietSite) { q.net.cutOff(q.leader().id, true) }, want: []string{"no leader is known", "msg=leading"}},
		"a node is removed and runs on": {
			before: three, state: func(q *quietSite) { q.order("DELETE", "operator/cluster/members/"+q.others()[0].id, "", 200) },
		},
		"every disk is nearly full": {
			before: func(q *quietSite) {
				q.three()
				q.fill(diskSize / 2)
				time.Sleep(time.Minute)
			},
			state: func(q *quietSite) { q.fill(1 << 20) }, want: []string{"the disk is nearly full"},
		},
		"a clock is off": {before: three, state: func(q *quietSite) { q.leader().wall.Store(int64(time.Minute)) }, want: []string{"set the clock"}},
		"a disk was lost": {
			before: (*quietSite).begun,
			state: func(q *quietSite) {
				n := q.others()[0]
				q.down(n)
				n.disk = vfs.NewCrashableMem()
				q.startNode(n, false)
			}, want: []string{"somebody has to act"},
		},
	}
}

type quietState struct {
	before, state func(*quietSite)
	well          bool     // nothing is wrong: no warning, no error
	want          []string // each in the log of some process
}

func (q *quietSite) beginNow() { q.operate("operator/cluster/init", "{}") }

func (q *quietSite) fill(left uint64) {
	for _, n := range q.nodes {
		n.left.Store(left)
	}
}

// TestStatesAreToldOnce: however long a state lasts, a process tells of it when it begins and says no more, and what is in the way of things is no error.
func TestStatesAreToldOnce(t *testing.T) {
	for name, state := range quietStates() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble.Test(t, func(t *testing.T) { toldOnce(t, state) })
		})
	}
}

func toldOnce(t *testing.T, state quietState) {
	t.Helper()
	const (
		lasts      = 4 // minutes
		firstMost  = 12
		minuteMost = 2 // an edge may have to look for its leader again
	)
	q := newQuietSite(t)
	defer q.stopAll()
	state.before(q)
	from := time.Now()
	state.state(q)
	time.Sleep(lasts * time.Minute)
	var all []string
	for id, book := range q.books {
		for m := range lasts {
			minute := from.Add(time.Duration(m) * time.Minute)
			got, most := book.between(minute, minute.Add(time.Minute)), minuteMost
			if m == 0 {
				most = firstMost
			}
			if len(got) > most {
				t.Errorf("%s says %d lines in minute %d:\n%s", id, len(got), m, strings.Join(got, "\n"))
			}
			for _, l := range got {
				if state.well && (strings.Contains(l, "level=ERROR") || strings.Contains(l, "level=WARN")) {
					t.Errorf("%s: all is well, and it says %s", id, l)
				}
			}
			all = append(all, got...)
		}
	}
	for _, want := range state.want {
		if !slices.ContainsFunc(all, func(l string) bool { return strings.Contains(l, want) }) {
			t.Errorf("nobody says %q:\n%s", want, strings.Join(all, "\n"))
		}
	}
}
