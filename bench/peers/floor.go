package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/bench/fleet"
)

// bareEnv makes this program the yardstick: a fasthttp server that knows one
// answer. It listens on the address in bareEnv and reads the answer from the
// file that is its argument.
const bareEnv = "PEERS_BARE"

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
	s := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Response.Header
		h.SetContentType("application/json")
		h.SetCanonical([]byte("Cache-Control"), []byte("no-store"))
		h.SetCanonical([]byte("X-Request-Id"), id)
		ctx.Response.SetBodyRaw(body)
		h.SetCanonical([]byte("X-Cache"), cache)
	}}
	return s.ListenAndServe(addr)
}

// startBare starts the yardstick, which answers as an edge did.
func startBare(ctx context.Context, dir string, answer []byte, requests [][]byte, s *stops) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	file := filepath.Join(dir, "answer")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		return nil, fmt.Errorf("keep the answer: %w", err)
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, file)
	cmd.Env = append(os.Environ(), bareEnv+"="+addr)
	p, err := launch(ctx, cmd, filepath.Join(dir, "bare.log"), addr, s)
	if err != nil {
		return nil, err
	}
	return &peer{
		name: "bare fasthttp", how: "a handler that knows one answer, of the size of the edge's: the floor", holds: "knows nothing", timed: true,
		procs: []*fleet.Process{p}, places: 1, open: httpTo(requests, addr),
	}, nil
}

// httpTo opens connections to the places' addresses.
func httpTo(requests [][]byte, addrs ...string) func(int) (asker, error) {
	return func(place int) (asker, error) {
		s, err := dial(addrs[place%len(addrs)], requests)
		return httpAsker{s}, err
	}
}

const nginxConf = `daemon off;
pid nginx.pid;
error_log stderr error;
worker_processes auto;
events { worker_connections 4096; }
http {
  access_log off;
  server_tokens off;
  keepalive_requests 1000000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen %s;
    default_type application/json;
    add_header Cache-Control no-store;
    add_header X-Request-Id %s;
    location / { return 200 '%s'; }
  }
}
`

// startNginx starts nginx, which answers the same from its configuration.
func startNginx(ctx context.Context, dir string, answer []byte, requests [][]byte, s *stops) (*peer, error) {
	binary, err := find("nginx", "nginx-light")
	if err != nil {
		return nil, err
	}
	var resp fasthttp.Response
	if err := resp.Read(bufio.NewReader(bytes.NewReader(answer))); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "nginx")
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	conf := filepath.Join(home, "nginx.conf")
	text := fmt.Sprintf(nginxConf, addr, resp.Header.Peek("X-Request-Id"), resp.Body())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configure nginx: %w", err)
	}
	p, err := launch(ctx, exec.CommandContext(ctx, binary, "-p", home, "-e", "stderr", "-c", conf), filepath.Join(dir, "nginx.log"), addr, s)
	if err != nil {
		return nil, err
	}
	return &peer{
		name: "nginx", how: "`return 200` with the same body, a worker for each core", holds: "knows nothing", timed: true,
		procs: []*fleet.Process{p}, places: 1, open: httpTo(requests, addr),
	}, nil
}

var errNotInstalled = errors.New("not installed")

// find looks for a program, and says which package of Debian has it.
func find(program, pkg string) (string, error) {
	binary, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%w (Debian: apt-get install %s)", errNotInstalled, pkg)
	}
	return binary, nil
}

func freeAddress() (string, error) {
	ports, err := fleet.FreePorts(1)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0]), nil
}

// launch starts a program and waits until it listens.
func launch(ctx context.Context, cmd *exec.Cmd, log, addr string, s *stops) (*fleet.Process, error) {
	p, err := fleet.Start(cmd, log)
	if err != nil {
		return nil, err
	}
	s.started(p)
	return p, p.Await(20*time.Second, "it listens on "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return ctx.Err() != nil
		}
		return c.Close() == nil
	})
}
