package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protowire"

	"machineid/bench/fleet"
)

// etcd is a cluster of three processes of Debian's etcd-server, with its
// defaults: each put is synced by a majority before it is answered.
type etcd struct {
	clients   []*clientv3.Client
	procs     processes
	endpoints []string
	leader    string
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
	binary, err := find("etcd", "etcd-server")
	if err != nil {
		return nil, err
	}
	ports, err := fleet.FreePorts(6)
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
		cmd := exec.CommandContext(ctx, binary,
			"--name", fmt.Sprintf("n%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("etcd-%d", i)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
			"--quota-backend-bytes", "8589934592", "--log-level", "error")
		if err := e.procs.start(cmd, filepath.Join(dir, fmt.Sprintf("etcd-%d.log", i))); err != nil {
			return nil, fmt.Errorf("start etcd: %w", err)
		}
	}
	e.endpoints = endpoints
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
			e.leader = at
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
	return err
}

// record is what is stored for one device: about what our state keeps of one.
var record = make([]byte, 100)

func (e *etcd) close() {
	for _, c := range e.clients {
		_ = c.Close()
	}
	e.procs.stop()
}

// ranges are the requests of a range by gRPC, encoded beforehand; the numbers are those of etcd's rpc.proto.
func ranges(serializable bool) [][]byte {
	all := make([][]byte, devices)
	for i := range all {
		m := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), deviceName(i))
		if serializable {
			m = protowire.AppendVarint(protowire.AppendTag(m, 7, protowire.VarintType), 1)
		}
		all[i] = m
	}
	return all
}

func (e *etcd) set(ctx context.Context, device int, allowed bool) error {
	value := "DEVICE_REVOKED"
	if allowed {
		value = "ALLOW"
	}
	_, err := e.clients[device%len(e.clients)].Put(ctx, deviceName(device), value)
	return err
}

// peers are the two ways to read.
func (e *etcd) peers() []*peer {
	allows := func(answer []byte) bool { return bytes.Contains(answer, []byte("ALLOW")) }
	at := func(requests [][]byte, addrs ...string) func(int) (asker, error) {
		return func(place int) (asker, error) {
			return dialGRPC(addrs[place%len(addrs)], "/etcdserverpb.KV/Range", requests, allows)
		}
	}
	return []*peer{
		{
			name: "etcd range, serializable", how: "three nodes, each answers a third from what it has; gRPC", timed: true, procs: e.procs, places: len(e.endpoints), set: e.set,
			open: at(ranges(true), e.endpoints...), holds: "no: a node that lags answers from before, and one that is cut off does so without end",
		},
		{
			name: "etcd range, linearizable", how: "asked at the leader, which confirms with a majority that it leads; gRPC", timed: true, procs: e.procs, places: 1, set: e.set,
			open: at(ranges(false), e.leader), holds: "yes, for a question to a majority each time; without a majority nothing is answered",
		},
	}
}

// processes are ended together.
type processes []*fleet.Process

func (p *processes) start(cmd *exec.Cmd, log string) error {
	started, err := fleet.Start(cmd, log)
	if err != nil {
		return err
	}
	*p = append(*p, started)
	return nil
}

// cpu is the processor time that the processes have used so far.
func (p *processes) cpu() (all time.Duration) {
	for _, one := range *p {
		all += one.CPU()
	}
	return all
}

func (p *processes) stop() {
	for _, one := range *p {
		one.Kill()
	}
	*p = nil
}
