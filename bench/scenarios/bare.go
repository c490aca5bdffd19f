//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/bench/fleet"
)

// bareEnv makes this program the yardstick: a fasthttp server that knows nothing
// and answers what `machineid bench` asks, on the address in bareEnv. What it
// answers to a validate is in the file that is its argument.
const bareEnv = "SCENARIOS_BARE"

// runBare serves until the process is killed.
func runBare(addr, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var resp fasthttp.Response
	if err := resp.Read(bufio.NewReader(bytes.NewReader(text))); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	body := bytes.Clone(resp.Body())
	id, cache := bytes.Clone(resp.Header.Peek("X-Request-Id")), bytes.Clone(resp.Header.Peek("X-Cache"))
	validate, create := []byte("/api/v1/devices/validate"), []byte("/api/v1/org/create")
	s := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Response.Header
		h.SetContentType("application/json")
		h.SetCanonical([]byte("Cache-Control"), []byte("no-store"))
		h.SetCanonical([]byte("X-Request-Id"), id)
		switch {
		case bytes.Equal(ctx.Path(), validate) && len(ctx.Request.Body()) > len(`{}`):
			ctx.Response.SetBodyRaw(body)
			h.SetCanonical([]byte("X-Cache"), cache)
		case bytes.Equal(ctx.Path(), validate):
			ctx.Response.SetBodyString(`{"allowed":false,"code":"INVALID_ORG_KEY","status":"error"}`)
		case bytes.Equal(ctx.Path(), create):
			ctx.Response.SetBodyString(`{"status":"ok","orgApiKey":"org_` + strings.Repeat("a", 46) + `","agentKey":"org_` + strings.Repeat("b", 46) + `","orgId":"bare"}`)
		default:
			ctx.Response.SetBodyString(`{"status":"ok","limit":10000000}`)
		}
	}}
	return s.ListenAndServe(addr)
}

// bareProcess starts this program as the yardstick.
func (r *runner) bareProcess(ctx context.Context, file string) (*fleet.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ports, err := fleet.FreePorts(1)
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	r.bare = "http://" + addr
	cmd := exec.CommandContext(ctx, self, file)
	cmd.Env = append(os.Environ(), bareEnv+"="+addr)
	p, err := fleet.Start(cmd, filepath.Join(r.dir, "bare.log"))
	if err != nil {
		return nil, err
	}
	err = p.Await(20*time.Second, "it listens", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return ctx.Err() != nil
		}
		return c.Close() == nil
	})
	if err != nil {
		p.Kill()
	}
	return p, err
}

// answer is what an edge answers to a validate from memory, byte by byte.
func (r *runner) answer(ctx context.Context) ([]byte, error) {
	leader, err := r.Leader(ctx)
	if err != nil {
		return nil, err
	}
	var org struct{ OrgID, OrgAPIKey, AgentKey string }
	if err := r.Call(ctx, leader, "POST", "org/create", `{}`, &org); err != nil {
		return nil, err
	}
	const device = `{"deviceId":"bench-000000-00000000001"}` // of the load generator's length
	if err := fleet.CallOrg(ctx, leader, "devices/register", org.OrgAPIKey, device, &struct{}{}); err != nil {
		return nil, err
	}
	request := fmt.Appendf(nil, "POST /api/v1/devices/validate HTTP/1.1\r\nHost: e\r\nx-org-key: %s\r\nContent-Length: %d\r\n\r\n%s", org.AgentKey, len(device), device)
	var answer []byte
	for range 5 { // the first is a miss, and what is fetched may be kept a moment later
		if answer, err = exchange(r.Edges[0].HTTP, request); err != nil {
			return nil, err
		}
		if bytes.Contains(answer, []byte("X-Cache: hit")) && bytes.Contains(answer, []byte(`"allowed":true`)) {
			return answer, nil
		}
	}
	return nil, fmt.Errorf("an edge does not answer from memory: %s", answer)
}

// exchange sends one request and returns the whole answer.
func exchange(addr string, request []byte) (_ []byte, err error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	if _, err := conn.Write(request); err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	var raw bytes.Buffer
	var resp fasthttp.Response
	if err := resp.Read(bufio.NewReader(io.TeeReader(conn, &raw))); err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	return raw.Bytes(), nil
}
