package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"

	"github.com/valyala/fasthttp"

	"machineid/bench/fleet"
)

// edges is a cluster of ours with an org whose devices are registered.
type edges struct {
	*fleet.Fleet

	leader       *fleet.Member
	admin, agent string
	requests     [][]byte
}

// startEdges builds and starts three nodes and three edges.
func startEdges(ctx context.Context, dir string, s *stops) (*edges, error) {
	binary, err := fleet.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	e := &edges{}
	if e.Fleet, err = fleet.Open(ctx, fleet.Config{Binary: binary, Dir: dir, Nodes: 3, Edges: 3}); err != nil {
		return nil, err
	}
	s.add(e.Close)
	if e.leader, err = e.Leader(ctx); err != nil {
		return nil, err
	}
	var org struct{ OrgID, OrgAPIKey, AgentKey string }
	if err := e.Call(ctx, e.leader, "POST", "org/create", `{"name":"peers"}`, &org); err != nil {
		return nil, err
	}
	var done struct{}
	if err := e.Call(ctx, e.leader, "PATCH", "operator/orgs/"+org.OrgID, fmt.Sprintf(`{"limit":%d}`, devices), &done); err != nil {
		return nil, err
	}
	e.admin, e.agent = org.OrgAPIKey, org.AgentKey
	err = each(ctx, func(i int) error { return fleet.CallOrg(ctx, e.leader, "devices/register", e.admin, naming(i), &done) })
	e.requests = post("/api/v1/devices/validate", "x-org-key: "+e.agent+"\r\n", naming)
	return e, err
}

func naming(i int) string { return `{"deviceId":"` + deviceName(i) + `"}` }

// answer is what an edge answers to a validate from memory, byte by byte.
func (e *edges) answer() ([]byte, error) {
	var raw bytes.Buffer
	for range 3 { // the first is a miss, and what is fetched may be kept a moment later
		conn, err := net.DialTimeout("tcp", e.Edges[0].HTTP, patience)
		if err != nil {
			return nil, fmt.Errorf("ask an edge: %w", err)
		}
		if _, err := conn.Write(e.requests[0]); err != nil {
			return nil, errors.Join(fmt.Errorf("ask an edge: %w", err), conn.Close())
		}
		raw.Reset()
		var resp fasthttp.Response
		err = resp.Read(bufio.NewReader(io.TeeReader(conn, &raw)))
		if err = errors.Join(err, conn.Close()); err != nil {
			return nil, fmt.Errorf("ask an edge: %w", err)
		}
		if bytes.Contains(raw.Bytes(), []byte("X-Cache: hit")) && bytes.Contains(raw.Bytes(), []byte(`"allowed":true`)) {
			return slices.Clone(raw.Bytes()), nil
		}
	}
	return nil, fmt.Errorf("an edge does not answer from memory: %s", raw.Bytes())
}

func (e *edges) peer() *peer {
	var addrs []string
	for _, m := range e.Edges {
		addrs = append(addrs, m.HTTP)
	}
	return &peer{
		name: "MachineID edge", how: "validate, answered from memory, by one of three edges; three authority nodes", timed: true,
		holds: "**yes**, at every edge: the call returns when none can answer from before it; one that cannot be told denies at the latest a lease later",
		procs: []*fleet.Process{e.Edges[0].Process}, places: len(addrs), alone: true, open: httpTo(e.requests, addrs...),
		set: func(ctx context.Context, device int, allowed bool) error {
			call := "devices/revoke"
			if allowed {
				call = "devices/unrevoke"
			}
			var done struct{}
			return fleet.CallOrg(ctx, e.leader, call, e.admin, naming(device), &done)
		},
	}
}

// log is where a program's words go.
func log(dir, name string) string { return filepath.Join(dir, name+".log") }
