//go:build linux

package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is a cluster to start.
type Config struct {
	Binary       string // machineid, see Build
	Dir          string // for data and logs, on the disk to measure
	Nodes, Edges int
	// NodeFlags and EdgeFlags are given to each besides what makes it a member.
	NodeFlags, EdgeFlags []string
}

// Fleet is a cluster of authority nodes and edges, each a process, over loopback.
type Fleet struct {
	Nodes, Edges []*Member
	// TokenFile holds the operator's token.
	TokenFile string

	token string
}

// Member is a node or an edge.
type Member struct {
	*Process

	ID        string
	HTTP, Ops string // addresses
	Link      string // of a node

	binary, log string
	args        []string
}

const (
	startTime = time.Minute      // until a member is ready
	stopTime  = 10 * time.Second // until it has ended by itself
)

// Build builds machineid into the folder out, and returns the program's path. It
// is called in our module or in one that requires it.
func Build(ctx context.Context, out string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "machineid").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	binary := filepath.Join(out, "machineid")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/machineid")
	cmd.Dir = string(bytes.TrimSpace(root))
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build machineid: %w: %s", err, bytes.TrimSpace(said))
	}
	return binary, nil
}

// Open starts a cluster and waits until all of it is ready. What it has started is ended if it fails.
func Open(ctx context.Context, c Config) (_ *Fleet, err error) {
	f := &Fleet{TokenFile: filepath.Join(c.Dir, "a1", "operator-token")}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	ports, err := FreePorts(4*c.Nodes + 2*c.Edges)
	if err != nil {
		return nil, err
	}
	next := func() string {
		at := "127.0.0.1:" + strconv.Itoa(ports[0])
		ports = ports[1:]
		return at
	}
	var links []string
	for i := range c.Nodes {
		m := &Member{ID: fmt.Sprint("a", i+1), HTTP: next(), Ops: next(), Link: next(), binary: c.Binary}
		m.log = filepath.Join(c.Dir, m.ID+".log")
		m.args = append([]string{
			"authority", "--id", m.ID, "--data", filepath.Join(c.Dir, m.ID), "--http", m.HTTP, "--ops", m.Ops, "--link", m.Link, "--raft", next(), "--log-level", "warn",
		}, c.NodeFlags...)
		if i == 0 {
			m.args = append(m.args, "--bootstrap")
		} else {
			m.args = append(m.args, "--join", f.Nodes[0].HTTP, "--operator-token-file", f.TokenFile)
		}
		f.Nodes = append(f.Nodes, m)
		links = append(links, m.Link)
		if err := m.Run(ctx); err != nil {
			return nil, err
		}
	}
	token, err := os.ReadFile(f.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the operator's token: %w", err)
	}
	f.token = strings.TrimSpace(string(token))
	for i := range c.Edges {
		m := &Member{ID: fmt.Sprint("e", i+1), HTTP: next(), Ops: next(), binary: c.Binary}
		m.log = filepath.Join(c.Dir, m.ID+".log")
		m.args = append([]string{
			"edge", "--id", m.ID, "--http", m.HTTP, "--ops", m.Ops, "--authority", strings.Join(links, ","), "--log-level", "warn",
		}, c.EdgeFlags...)
		f.Edges = append(f.Edges, m)
		if err := m.Run(ctx); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Close ends every process: edges first, so that nobody waits for them.
func (f *Fleet) Close() {
	for _, m := range slices.Concat(f.Edges, f.Nodes) {
		if m.Process != nil {
			m.Kill()
		}
	}
}

// Run starts a member, for the first time or again, and waits until it is ready.
func (m *Member) Run(ctx context.Context) (err error) {
	m.Process, err = Start(exec.CommandContext(ctx, m.binary, m.args...), m.log)
	if err != nil {
		return err
	}
	return m.Await(startTime, m.ID+" is ready", func() bool {
		_, err := get(ctx, "http://"+m.Ops+"/readyz", time.Second)
		return err == nil || ctx.Err() != nil
	})
}

// End stops a member as an operator would.
func (m *Member) End() { m.Stop(stopTime) }

// URL is where a member is called.
func (m *Member) URL() string { return "http://" + m.HTTP }

// Profile takes a CPU profile of the next seconds, in pprof's form.
func (m *Member) Profile(ctx context.Context, length time.Duration) ([]byte, error) {
	seconds := max(1, int(length.Seconds()))
	return get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", m.Ops, seconds), length+10*time.Second)
}

// Heap is the live heap in bytes: what is left right after a collection.
func (m *Member) Heap(ctx context.Context) (int64, error) {
	if _, err := get(ctx, "http://"+m.Ops+"/debug/pprof/heap?gc=1", time.Minute); err != nil {
		return 0, err
	}
	v, err := m.Metric(ctx, "go_memstats_heap_alloc_bytes")
	return int64(v), err
}

// Metric adds up the values of a metric over its labels.
func (m *Member) Metric(ctx context.Context, name string) (sum float64, err error) {
	text, err := get(ctx, "http://"+m.Ops+"/metrics", 10*time.Second)
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(string(text)) {
		rest, is := strings.CutPrefix(line, name)
		if !is || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("%s of %s: %w", name, m.ID, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", m.ID, name)
	}
	return sum, nil
}

// Leader finds the node that leads, by asking them all.
func (f *Fleet) Leader(ctx context.Context) (*Member, error) {
	m, _, err := f.Reign(ctx)
	return m, err
}

// Reign finds the node that leads, and its term.
func (f *Fleet) Reign(ctx context.Context) (leader *Member, term uint64, err error) {
	var last error
	for deadline := time.Now().Add(startTime); time.Now().Before(deadline) && ctx.Err() == nil; {
		for _, n := range f.Nodes {
			var cluster struct {
				Leader string
				Term   uint64
			}
			if last = f.Call(ctx, n, http.MethodGet, "operator/cluster", "", &cluster); last != nil {
				continue
			}
			for _, m := range f.Nodes {
				if m.ID == cluster.Leader {
					return m, cluster.Term, nil
				}
			}
			last = errors.New("nobody leads")
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil, 0, fmt.Errorf("find the leader: %w", errors.Join(last, ctx.Err()))
}

// Call makes one of an operator's calls, at a node, and decodes its answer.
func (f *Fleet) Call(ctx context.Context, at *Member, method, path, body string, into any) error {
	return call(ctx, method, at.URL()+"/api/v1/"+path, "Authorization", "Bearer "+f.token, body, into)
}

// CallOrg makes a call with an org's key.
func CallOrg(ctx context.Context, at *Member, path, key, body string, into any) error {
	return call(ctx, http.MethodPost, at.URL()+"/api/v1/"+path, "X-Org-Key", key, body, into)
}

func call(ctx context.Context, method, url, header, value, body string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("call %s: %w", url, err)
	}
	req.Header.Set(header, value)
	b, err := do(req)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return nil
}

func get(ctx context.Context, url string, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	return do(req)
}

// client knows no proxy: those of the environment must not see a token.
var client = &http.Client{Transport: &http.Transport{}}

func do(req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", req.URL, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %.300s", req.Method, req.URL, resp.Status, b)
	}
	return b, nil
}

// FreePorts finds ports that nobody listens on now.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // all at the end, or one would be found twice
		if addr, is := l.Addr().(*net.TCPAddr); is {
			ports[i] = addr.Port
		}
	}
	return ports, nil
}
