package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"machineid/cmd/machineid/cli/config"
	"machineid/edge"
	"machineid/raftstore"
	"machineid/shared/link"
	"machineid/shared/listener"
	"machineid/shared/ops"
)

type edgeFlags struct {
	id, http, ops string
	authority     []string
	cluster       string
	insecure      bool
	proxyOperator bool
	maxWait       time.Duration
	entries       int64
	limits        limitFlags
	connections   connectionFlags
	server        serverFlags
}

func newEdgeCommand(settings *config.Settings, std *standard) *cobra.Command {
	f := &edgeFlags{}
	cmd := &cobra.Command{
		Use:   "edge --id ID --authority ADDRESS,...",
		Short: "Run an edge node: it answers validate from memory",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return std.serve(cmd, &f.server, func(logger *slog.Logger) error { return runEdge(cmd, f, std, logger) })
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.id, "id", "", "this edge's `NAME` in logs, metrics and answers (required)")
	fs.StringVar(&f.http, "http", "127.0.0.1:8080", "`ADDRESS` where agents call")
	fs.StringVar(&f.ops, "ops", "127.0.0.1:8081", "`ADDRESS` of metrics, health and profiles, for operators")
	fs.StringSliceVar(&f.authority, "authority", nil, "link `ADDRESSES` of the authority nodes, with commas between them (required)")
	fs.StringVar(&f.cluster, "cluster", "", "the `NAME` of the cluster that this edge keeps to, as cluster status tells it; without it the first that it meets")
	fs.BoolVar(&f.insecure, "insecure", false, "allow listeners and a link on other than loopback addresses, unauthenticated")
	fs.DurationVar(&f.maxWait, "max-wait", edge.DefaultMaxWait, "how long a validate waits for the authority, 1ms to 900ms")
	fs.BoolVar(&f.proxyOperator, "proxy-operator", false, "pass operators' calls on to the authority, but for snapshots; without it they are answered 404")
	fs.Int64Var(&f.entries, "cache-entries", edge.DefaultCacheEntries, "how many devices the edge remembers, 1000 to 100000000")
	f.limits.register(fs)
	f.connections.register(fs)
	f.server.register(fs, "info")
	settings.Validate(cmd, func() error { return errors.Join(f.validate(), checkShares(fs)) })
	return cmd
}

func (f *edgeFlags) validate() error {
	var faults []error
	if f.id == "" {
		faults = append(faults, errors.New("--id: is required; give this edge a name of its own, for example e1"))
	}
	if len(f.id) > link.MaxName {
		faults = append(faults, fmt.Errorf("--id: it has %d characters; choose a name of %d at most", len(f.id), link.MaxName))
	}
	if f.cluster != "" && !isClusterName(f.cluster) {
		faults = append(faults, fmt.Errorf("--cluster: %q is no cluster's name, which has %d hexadecimal digits; 'machineid cluster status' tells it; "+
			"without --cluster the edge keeps to the first that it meets", f.cluster, clusterDigits))
	}
	faults = append(faults, checkListeners([]address{{"http", f.http}, {"ops", f.ops}}, f.insecure, beInsecure)...)
	if len(f.authority) == 0 {
		faults = append(faults, errors.New("--authority: is required; name the link addresses of the authority nodes, for example 127.0.0.1:7071"))
	}
	for _, a := range f.authority {
		host, _, _ := net.SplitHostPort(a) // judged in the next line
		switch err := raftstore.CheckAddress(a); {
		case err != nil:
			faults = append(faults, fmt.Errorf("--authority: %w", err))
		case !f.insecure && !isLoopback(host):
			faults = append(faults, fmt.Errorf("--authority: %s is not a loopback address, and there is no TLS yet; "+
				"add --insecure if only trusted hosts are in between", a))
		}
	}
	faults = append(faults, checkMaxWait(f.maxWait)...)
	if f.entries < edge.MinCacheEntries || f.entries > edge.MaxCacheEntries {
		faults = append(faults, fmt.Errorf("--cache-entries: %d is out of range; choose %d to %d", f.entries, edge.MinCacheEntries, edge.MaxCacheEntries))
	}
	faults = append(faults, f.limits.validate()...)
	faults = append(faults, f.connections.validate(shareEdge(listener.Descriptors()).http)...)
	return errors.Join(append(faults, f.server.validate()...)...)
}

// clusterDigits is how long the name of a cluster is.
const clusterDigits = 32

func isClusterName(name string) bool {
	return len(name) == clusterDigits && strings.Trim(name, "0123456789abcdef") == ""
}

// checkMaxWait keeps validate's promise to answer within a second.
func checkMaxWait(d time.Duration) (faults []error) {
	if d < time.Millisecond || d > 900*time.Millisecond {
		faults = append(faults, fmt.Errorf("--max-wait: %v is out of range; choose 1ms to 900ms", d))
	}
	return faults
}

func runEdge(cmd *cobra.Command, f *edgeFlags, std *standard, logger *slog.Logger) error {
	ctx := cmd.Context()
	reg, share := ops.NewRegistry(), shareEdge(listener.Descriptors())
	ls, err := listenAll(ctx, counted(reg,
		served{address{"http", f.http}, f.connections.http(share.http, f.limits.trusted())},
		served{address{"ops", f.ops}, fairly(share.ops)},
	), logger)
	if err != nil {
		return err
	}
	std.register(reg)
	e, err := edge.New(edge.Config{
		ID: f.id, Version: Version(), Authority: f.authority, Cluster: f.cluster, HTTP: ls[0], MaxWait: f.maxWait, CacheEntries: f.entries,
		Limits: f.limits.limits(), TrustedProxies: f.limits.trusted(), ProxyOperator: f.proxyOperator,
		ProxyConns: share.proxy, BodyRoom: int64(f.connections.bodies),
		Logger: logger, Registerer: reg,
	})
	if err != nil {
		return err
	}
	a := ls.addresses()
	printf(cmd.OutOrStdout(), "machineid edge %s %s: http %s, ops %s, authority %v%s\n",
		Version(), f.id, a[0], a[1], f.authority, insecureNote(f.insecure))
	// The ops listener outlives the edge, so that /readyz can tell of the drain.
	g, ctx := errgroup.WithContext(ctx)
	opsCtx, stopOps := contextAfter(ctx)
	g.Go(func() error {
		defer stopOps()
		return e.Run(ctx)
	})
	g.Go(func() error { return ops.Serve(opsCtx, ls[1], reg, e.Ready, ls.notes(std.notes)) })
	return g.Wait()
}
