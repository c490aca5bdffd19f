package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap" //nolint:depguard // etcd's client takes no other logger
)

// etcd is a cluster of three processes of Debian's etcd-server, with its
// defaults: each put is synced by a majority before it is answered.
type etcd struct {
	clients []*clientv3.Client
	procs   processes
}

// startEtcd starts the cluster in dir and makes the clients: etcd's own, with
// several connections, since one is its bottleneck at many callers.
func startEtcd(ctx context.Context, dir string, connections int) (_ *etcd, err error) {
	e := &etcd{}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	binary, err := exec.LookPath("etcd")
	if err != nil {
		return nil, fmt.Errorf("find etcd (Debian: apt-get install etcd-server): %w", err)
	}
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	var cluster, endpoints []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("n%d=http://127.0.0.1:%d", i, ports[3+i]))
		endpoints = append(endpoints, fmt.Sprintf("127.0.0.1:%d", ports[i]))
	}
	for i := range 3 {
		client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[i]), fmt.Sprintf("http://127.0.0.1:%d", ports[3+i])
		cmd := exec.CommandContext(ctx, binary, //nolint:gosec // what it is here for
			"--name", fmt.Sprintf("n%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("etcd-%d", i)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
			"--quota-backend-bytes", "8589934592", "--log-level", "error")
		if err := e.procs.start(cmd, filepath.Join(dir, fmt.Sprintf("etcd-%d.log", i))); err != nil {
			return nil, fmt.Errorf("start etcd: %w", err)
		}
	}
	for range connections {
		c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
		if err != nil {
			return nil, fmt.Errorf("make a client of etcd: %w", err)
		}
		e.clients = append(e.clients, c)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err = e.clients[0].Put(try, "ready", "1")
		cancel()
		if err == nil {
			return e, e.preferLeader(ctx, endpoints)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("wait for etcd: %w", err)
		}
	}
}

// preferLeader sends all calls straight to the leader, where they are answered
// one hop sooner: ours are sent there too.
func (e *etcd) preferLeader(ctx context.Context, endpoints []string) error {
	for _, at := range endpoints {
		st, err := e.clients[0].Status(ctx, at)
		if err != nil {
			return fmt.Errorf("ask etcd who leads: %w", err)
		}
		if st.Leader == st.Header.GetMemberId() {
			for _, c := range e.clients {
				c.SetEndpoints(at)
			}
		}
	}
	return nil
}

// put stores a record of the size of a device's.
func (e *etcd) put(ctx context.Context, caller, i int) error {
	_, err := e.clients[caller%len(e.clients)].Put(ctx, deviceID(caller, i), string(record))
	return err //nolint:wrapcheck // shown as it is
}

// record is what is stored for one device: about what our state keeps of one.
var record = make([]byte, 100)

func (e *etcd) close() {
	for _, c := range e.clients {
		_ = c.Close()
	}
	e.procs.stop()
}

// freePorts finds ports that nobody listens on now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }()
		addr, _ := l.Addr().(*net.TCPAddr)
		ports[i] = addr.Port
	}
	return ports, nil
}

// processes are ended together.
type processes []*exec.Cmd

func (p *processes) start(cmd *exec.Cmd, logFile string) error {
	if logFile != "" {
		f, err := os.Create(logFile)
		if err != nil {
			return fmt.Errorf("make a log: %w", err)
		}
		defer func() { _ = f.Close() }() // the process has its own
		cmd.Stderr = f
	}
	if err := cmd.Start(); err != nil {
		return err //nolint:wrapcheck // the caller says what
	}
	*p = append(*p, cmd)
	return nil
}

// cpu is the processor time that the processes have used so far.
func (p *processes) cpu() time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ of Linux
	var all time.Duration
	for _, cmd := range *p {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, f := range fields[11:13] { // utime and stime, proc(5)
			n, _ := strconv.Atoi(f)
			all += time.Duration(n) * tick
		}
	}
	return all
}

func (p *processes) stop() {
	for _, cmd := range *p {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	*p = nil
}
