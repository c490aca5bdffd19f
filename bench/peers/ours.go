package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// nodeEnv makes this program one of our nodes: a raftstore with the authority's
// state machine, that takes orders on its standard input.
const nodeEnv = "PEERS_NODE"

// order is what a node is told; one JSON object a line, answered by one line.
type order struct {
	Join    map[string]string // make voters of these nodes, by id
	Callers int               // measure registers from so many callers
	For     time.Duration
	Begin   int    // number of the first device, so that every one is new
	Profile string // file for a CPU profile of the measurement
}

// runNode serves orders until its input ends.
func runNode(id, dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	machine := state.New(func(uint64, []state.Concern) {})
	store, err := raftstore.Open(raftstore.Config{
		ID: id, Dir: dir, Listener: l, Bootstrap: id == firstNode,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, machine)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(l.Addr().String()); err != nil {
		return err
	}
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		answer, err := obey(store, o)
		if err != nil {
			return err
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return store.Close(ctx)
}

const firstNode = "a0"

func obey(store *raftstore.Store, o order) (figure, error) {
	ctx := context.Background()
	if o.Join == nil {
		if o.Profile != "" {
			f, err := os.Create(o.Profile)
			if err != nil {
				return figure{}, fmt.Errorf("make a profile: %w", err)
			}
			defer func() { _ = f.Close() }()
			if err := pprof.StartCPUProfile(f); err != nil {
				return figure{}, fmt.Errorf("make a profile: %w", err)
			}
			defer pprof.StopCPUProfile()
		}
		return load(ctx, o.Callers, o.For, func(ctx context.Context, caller, i int) error {
			return propose(ctx, store, register(caller, o.Begin+i))
		}), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, leads := store.Leading(); !leads; _, leads = store.Leading() {
		time.Sleep(time.Millisecond)
	}
	for id, addr := range o.Join {
		if err := store.AddNonvoter(ctx, id, addr); err != nil {
			return figure{}, err
		}
		for err := store.Promote(ctx, id); err != nil; err = store.Promote(ctx, id) {
			if ctx.Err() != nil {
				return figure{}, err
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return figure{}, seed(ctx, store)
}

// orgs is how many orgs the devices are spread over.
const orgs = 64

func orgID(i int) []byte {
	id := state.OrgID{1}
	binary.BigEndian.PutUint32(id[12:], uint32(i%orgs))
	return id[:]
}

// seed makes the plans and orgs that registers need.
func seed(ctx context.Context, store *raftstore.Store) error {
	cmds := make([]*statepb.Command, 0, 1+orgs)
	cmds = append(cmds, &statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
		Cluster: &statepb.Cluster{ClusterId: "peers", Incarnation: make([]byte, 16), HashKey: make([]byte, 16)},
		Plans:   &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free", Limit: 1 << 30}}},
	}}})
	for i := range orgs {
		cmds = append(cmds, &statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: orgID(i)}}})
	}
	for _, cmd := range cmds {
		if err := propose(ctx, store, cmd); err != nil {
			return err
		}
	}
	return nil
}

// register is one real change: a new device, its seat, its place in lists, and
// an audit entry.
func register(caller, i int) *statepb.Command {
	return &statepb.Command{
		TimeMs: time.Now().UnixMilli(), Actor: &statepb.Actor{Type: statepb.Actor_KEY, Id: "abcdefgh"}, Address: "127.0.0.1",
		RequestId: "fbf77ff5-06ed-42eb-8e07-024c32ef1e68",
		Change:    &statepb.Command_Register{Register: &statepb.Register{OrgId: orgID(caller), DeviceId: deviceID(caller, i)}},
	}
}

func deviceID(caller, i int) string { return fmt.Sprintf("device-%06d-%010d", caller, i) }

func propose(ctx context.Context, store *raftstore.Store, cmd *statepb.Command) error {
	raw, err := proto.Marshal(cmd)
	if err != nil {
		return fmt.Errorf("encode a command: %w", err)
	}
	res, err := store.Propose(ctx, raw)
	if err != nil {
		return err
	}
	if out, ok := res.Outcome.(state.Outcome); !ok || out.Refusal != state.Granted {
		return fmt.Errorf("refused: %+v", res.Outcome)
	}
	return nil
}

// ours are three processes of this program as nodes.
type ours struct {
	procs  processes
	nodes  []*node
	leader int // of nodes, as far as is known
	begin  int
}

type node struct {
	in   io.WriteCloser
	out  *json.Decoder
	addr string
}

func startOurs(ctx context.Context, dir string) (_ *ours, err error) {
	o := &ours{}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	join := map[string]string{}
	for i := range 3 {
		id := fmt.Sprintf("a%d", i)
		cmd := exec.CommandContext(ctx, self, filepath.Join(dir, id))
		cmd.Env = append(os.Environ(), nodeEnv+"="+id)
		n := &node{}
		if n.in, err = cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("start a node: %w", err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("start a node: %w", err)
		}
		n.out = json.NewDecoder(out)
		if err := o.procs.start(cmd, filepath.Join(dir, id+".log")); err != nil {
			return nil, fmt.Errorf("start a node: %w", err)
		}
		if err := n.out.Decode(&n.addr); err != nil {
			return nil, fmt.Errorf("node %s did not start (%s): %w", id, filepath.Join(dir, id+".log"), err)
		}
		o.nodes = append(o.nodes, n)
		if id != firstNode {
			join[id] = n.addr
		}
	}
	_, err = o.nodes[0].tell(order{Join: join})
	return o, err
}

func (n *node) tell(o order) (figure, error) {
	if err := json.NewEncoder(n.in).Encode(o); err != nil {
		return figure{}, fmt.Errorf("tell a node: %w", err)
	}
	var f figure
	if err := n.out.Decode(&f); err != nil {
		return figure{}, fmt.Errorf("ask a node: %w", err)
	}
	return f, nil
}

// measure registers devices from callers in the leader's process. On a busy machine another node may lead by now: then that one is told, and
// what was cut off is not a measurement.
func (o *ours) measure(_ context.Context, callers int, d time.Duration, profile string) (f figure, err error) {
	for range 20 {
		before := o.procs.cpu()
		f, err = o.nodes[o.leader].tell(order{Callers: callers, For: d, Begin: o.begin, Profile: profile})
		o.begin += f.Done + f.Errors + 1
		f.CPU = (o.procs.cpu() - before) / time.Duration(max(f.Done, 1))
		if err != nil || (f.Done > 0 && f.Errors == 0) {
			return f, err
		}
		o.leader = (o.leader + 1) % len(o.nodes)
	}
	return f, errors.New("nothing was done without errors: " + strings.TrimSpace(f.Error))
}

func (o *ours) close() {
	for _, n := range o.nodes {
		_ = n.in.Close()
	}
	o.procs.stop()
}
