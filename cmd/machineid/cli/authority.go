package cli

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"machineid/authority"
	"machineid/authority/hub"
	"machineid/cmd/machineid/cli/config"
	"machineid/raftstore"
	"machineid/shared/listener"
	"machineid/shared/ops"
)

// operatorTokenEnv holds the operator's token itself.
const operatorTokenEnv = "MACHINEID_OPERATOR_TOKEN"

// leastDiskReserve is what a node needs to write for what is still done on a nearly full disk.
const leastDiskReserve = 64 << 20

// leastCache holds the filters of the tables of a million devices.
const leastCache = 8 << 20

type authorityFlags struct {
	id, data                     string
	http, link, raft, ops        string
	advertiseHTTP, advertiseRaft string
	advertiseLink                string
	join                         []string
	tokenFile                    string
	token                        authority.Secret
	bootstrap, signup, insecure  bool
	replaceLost                  bool
	version                      uint32
	heartbeat                    time.Duration
	deadAfter                    time.Duration
	minVoters                    int
	diskReserve, cacheSize       byteSize
	maxOrgs                      uint32
	idleAfter                    time.Duration
	edges                        hub.Limits
	times                        timeFlags
	billing                      billingFlags
	mail                         mailFlags
	connections                  connectionFlags
	server                       serverFlags
}

func newAuthorityCommand(settings *config.Settings, env environment, std *standard) *cobra.Command {
	f := &authorityFlags{}
	cmd := &cobra.Command{
		Use:   "authority --id ID --data DIR [--join ADDRESSES | --bootstrap]",
		Short: "Run an authority node: it holds the truth",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return std.serve(cmd, &f.server, func(logger *slog.Logger) error { return runAuthority(cmd, f, std, logger) })
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.id, "id", "", "this node's `NAME` in the cluster, of one node at a time (required)")
	fs.StringVar(&f.data, "data", "", "the folder `DIR` of its state (required)")
	fs.StringVar(&f.http, "http", "127.0.0.1:7070", "`ADDRESS` of the API, for edges and admins")
	fs.StringVar(&f.link, "link", "127.0.0.1:7071", "`ADDRESS` of the link, for edges")
	fs.StringVar(&f.raft, "raft", "127.0.0.1:7072", "`ADDRESS` of Raft, for other authority nodes")
	fs.StringVar(&f.ops, "ops", "127.0.0.1:7073", "`ADDRESS` of metrics, health and profiles, for operators")
	fs.StringVar(&f.advertiseHTTP, "advertise-http", "", "the `ADDRESS` at which edges reach --http, where it differs")
	fs.StringVar(&f.advertiseRaft, "advertise-raft", "", "the `ADDRESS` at which nodes reach --raft, where it differs")
	fs.StringVar(&f.advertiseLink, "advertise-link", "", "the `ADDRESS` at which edges reach --link, where it differs")
	fs.StringSliceVar(&f.join, "join", nil, "the HTTP `ADDRESSES` of the cluster's nodes, this one too if you like: become a member of their cluster, or wait for 'machineid cluster init --at ADDRESS'; does nothing where state exists")
	fs.BoolVar(&f.replaceLost, "replace-lost", false, "where the disk of this node was lost: have it exchanged for the member of its name, if that does not answer and the others are a majority")
	fs.BoolVar(&f.bootstrap, "bootstrap", false, "begin a cluster with this node alone; does nothing where state exists")
	fs.Uint32Var(&f.version, "default-version", 2, "the API generation of new orgs, 1 or 2 (in 1, register with an admin key undoes a revoke)")
	fs.BoolVar(&f.signup, "open-signup", false, "let anyone create an org; otherwise that needs the operator's token")
	fs.Uint32Var(&f.maxOrgs, "max-orgs", 0, "how many orgs there may be for one more to be signed up with --open-signup; 0: any number")
	fs.DurationVar(&f.idleAfter, "delete-idle-after", 30*24*time.Hour, "delete an org that was signed up so long ago and never had a device, 24h at least; 0s: never")
	fs.StringVar(&f.tokenFile, "operator-token-file", "", "the `FILE` of the operator's token, the same on every node of a cluster; --bootstrap without it makes one in --data")
	fs.DurationVar(&f.heartbeat, "heartbeat-timeout", 500*time.Millisecond, "how long a node goes without hearing of the leader before it stands for election, 100ms to 10s; the same on all nodes")
	fs.DurationVar(&f.deadAfter, "dead-server-after", 0, "remove a node that is silent for so long, 1m at least; 0s: nodes are removed by people only")
	fs.IntVar(&f.minVoters, "min-voters", 3, "how many voters --dead-server-after leaves in any case")
	f.diskReserve = raftstore.DefaultDiskReserve
	fs.Var(&f.diskReserve, "disk-reserve", "the `SIZE` below which the disk of --data counts as nearly full, so that only what takes rights away is done; a quarter of a disk that is smaller than four times as much")
	fs.IntVar(&f.edges.Edges, "max-edges", hub.DefaultEdges, "how many edges may have a session with the leader at once")
	fs.IntVar(&f.edges.PerAddress, "max-edges-per-address", hub.DefaultEdgesPerAddress, "how many of them may be at one address; raise it where many edges are behind one")
	f.cacheSize = raftstore.DefaultCacheBytes
	fs.Var(&f.cacheSize, "cache-size", "how much memory, a `SIZE`, the blocks of the state may take that are read again and again")
	fs.BoolVar(&f.insecure, "insecure", false, "allow listeners on other than loopback addresses, unauthenticated")
	f.times.register(fs)
	f.billing.register(fs)
	f.billing.registerPlans(fs)
	f.mail.register(fs)
	f.connections.register(fs)
	f.server.register(fs, "info")
	settings.Validate(cmd, func() error { return errors.Join(f.validate(env), checkShares(fs)) })
	return cmd
}

func (f *authorityFlags) listeners() []address {
	return []address{{"http", f.http}, {"link", f.link}, {"raft", f.raft}, {"ops", f.ops}}
}

func (f *authorityFlags) validate(env environment) error {
	var faults []error
	if f.id == "" {
		faults = append(faults, errors.New("--id: is required; give this node a name of its own, for example a1"))
	}
	if f.data == "" {
		faults = append(faults, errors.New("--data: is required; name the folder that keeps this node's state"))
	}
	faults = append(faults, checkData(f.data))
	faults = append(faults, checkListeners(f.listeners(), f.insecure, beInsecure)...)
	faults = append(faults, checkAdvertised(address{"http", f.http}, address{"advertise-http", f.advertiseHTTP})...)
	faults = append(faults, checkAdvertised(address{"raft", f.raft}, address{"advertise-raft", f.advertiseRaft})...)
	faults = append(faults, checkAdvertised(address{"link", f.link}, address{"advertise-link", f.advertiseLink})...)
	if f.bootstrap && len(f.join) > 0 {
		faults = append(faults, errors.New("--join: --bootstrap is set too; start every node with the same --join and begin the cluster with 'machineid cluster init --at ADDRESS'; --bootstrap is for one node alone"))
	}
	if f.replaceLost && len(f.join) == 0 {
		faults = append(faults, errors.New("--replace-lost: is for a node that comes back to its cluster; name the others in --join"))
	}
	for _, addr := range f.join {
		if err := raftstore.CheckAddress(addr); err != nil {
			faults = append(faults, fmt.Errorf("--join: %w", err))
		}
	}
	if f.heartbeat < raftstore.MinHeartbeatTimeout || f.heartbeat > 10*time.Second {
		faults = append(faults, fmt.Errorf("--heartbeat-timeout: %v is out of range; choose %v to 10s, and the same on all nodes", f.heartbeat, raftstore.MinHeartbeatTimeout))
	}
	if f.deadAfter != 0 && f.deadAfter < raftstore.MinDeadServerAfter {
		faults = append(faults, fmt.Errorf("--dead-server-after: %s is out of range; choose %s or more, or 0s for never", f.deadAfter, raftstore.MinDeadServerAfter))
	}
	if f.idleAfter != 0 && f.idleAfter < 24*time.Hour {
		faults = append(faults, fmt.Errorf("--delete-idle-after: %v is out of range; choose 24h or more, or 0s for never", f.idleAfter))
	}
	if f.diskReserve < leastDiskReserve {
		least := byteSize(leastDiskReserve)
		faults = append(faults, fmt.Errorf("--disk-reserve: %s is out of range; choose %s or more", &f.diskReserve, &least))
	}
	if f.cacheSize < leastCache {
		least := byteSize(leastCache)
		faults = append(faults, fmt.Errorf("--cache-size: %s is out of range; choose %s or more", &f.cacheSize, &least))
	}
	if f.minVoters < 1 {
		faults = append(faults, fmt.Errorf("--min-voters: %d is out of range; choose 1 or more", f.minVoters))
	}
	if f.edges.Edges < 1 {
		faults = append(faults, fmt.Errorf("--max-edges: %d is out of range; choose 1 or more", f.edges.Edges))
	}
	if f.edges.PerAddress < 1 {
		faults = append(faults, fmt.Errorf("--max-edges-per-address: %d is out of range; choose 1 or more", f.edges.PerAddress))
	}
	faults = append(faults, checkVersion(f.version)...)
	faults = append(faults, f.times.validate(env)...)
	faults = append(faults, f.billing.validate(env), f.mail.validate(env))
	faults = append(faults, f.connections.validate(shareAuthority(listener.Descriptors()).http)...)
	faults = append(faults, f.server.validate()...)
	if err := f.readToken(env); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// idle are the flags that were given and do nothing, because the node has its state.
func (f *authorityFlags) idle(fresh, joins bool) (names []string) {
	for _, flag := range []struct {
		name  string
		given bool
	}{{"--bootstrap", f.bootstrap}, {"--join", len(f.join) > 0 && !joins}, {"--replace-lost", f.replaceLost && !joins}} {
		if flag.given && !fresh {
			names = append(names, flag.name)
		}
	}
	return names
}

func (f *authorityFlags) readToken(env environment) error {
	token, err := operatorToken(f.tokenFile, env)
	if err != nil {
		return err
	}
	f.token = authority.Secret(token)
	return nil
}

func runAuthority(cmd *cobra.Command, f *authorityFlags, std *standard, logger *slog.Logger) error {
	for _, file := range []string{f.tokenFile, f.billing.keyFile, f.billing.webhookFile, f.mail.passwordFile} {
		if readableByAll(file) {
			logger.LogAttrs(cmd.Context(), slog.LevelWarn, "everybody on this machine can read a secret: take that away, as by chmod o-r", slog.String("file", file))
		}
	}
	fresh := !authority.HasState(f.data)
	joins, err := authority.Joins(f.data)
	switch {
	case err != nil:
		return err
	case fresh && !f.bootstrap && len(f.join) == 0:
		return usageError{fmt.Errorf("%s holds no state: start every node of a cluster with --join NODES and then, once, 'machineid cluster init --at ADDRESS'; "+
			"or one node alone with --bootstrap; or name the right folder with --data", filepath.Clean(f.data))}
	case (fresh || joins) && len(f.join) > 0 && f.token == "":
		return usageError{fmt.Errorf("--join takes the operator's token of the cluster, or of the one that is to begin: give it in --operator-token-file or %s", operatorTokenEnv)}
	}
	ctx := cmd.Context()
	if idle := f.idle(fresh, joins); len(idle) > 0 {
		logger.LogAttrs(ctx, slog.LevelInfo, "the data folder holds this node's state: flags for a start without one do nothing", slog.Any("flags", idle), slog.String("data", f.data))
	}
	reg, share := ops.NewRegistry(), shareAuthority(listener.Descriptors())
	ls, err := listenAll(ctx, counted(reg, share.serve(f.listeners(), f.connections.http(share.http, nil))...), logger)
	if err != nil {
		return err
	}
	std.register(reg)
	node := authority.New(authority.Config{
		ID: f.id, Dir: f.data, HTTP: ls[0], Link: ls[1], Raft: ls[2], AdvertiseHTTP: f.advertiseHTTP, AdvertiseRaft: f.advertiseRaft,
		AdvertiseLink: f.advertiseLink, Join: f.join, ReplaceLost: f.replaceLost, Version: Version(), HeartbeatTimeout: f.heartbeat, DeadServerAfter: f.deadAfter, MinVoters: f.minVoters, DiskReserve: int64(f.diskReserve), CacheSize: int64(f.cacheSize),
		Bootstrap: f.bootstrap, OpenSignup: f.signup, MaxOrgs: f.maxOrgs, DeleteIdleAfter: f.idleAfter, DefaultVersion: f.version, OperatorToken: f.token, Times: f.times.times(), Edges: f.edges,
		Billing: f.billing.config, GraceDays: &f.billing.graceDays, Plans: f.billing.plans.plans, Mail: f.mail.sender, PublicURL: f.mail.publicURL,
		OpenFiles: share.files, BodyRoom: int64(f.connections.bodies),
		Logger: logger, Typed: reaching(cmp.Or(f.advertiseHTTP, ls[0].Addr().String())), Flush: std.flush, Registerer: reg,
	})
	a := ls.addresses()
	printf(cmd.OutOrStdout(), "machineid authority %s %s: http %s, link %s, raft %s, ops %s%s\n",
		Version(), f.id, a[0], a[1], a[2], a[3], insecureNote(f.insecure))
	g, ctx := errgroup.WithContext(ctx)
	opsCtx, stopOps := contextAfter(ctx)
	g.Go(func() error {
		defer stopOps()
		return node.Run(ctx)
	})
	g.Go(func() error { return ops.Serve(opsCtx, ls[3], reg, node.Ready, ls.notes(std.notes)) })
	return g.Wait()
}
