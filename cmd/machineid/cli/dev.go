package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"machineid/authority"
	"machineid/authority/hub"
	"machineid/authority/mail"
	"machineid/cmd/machineid/cli/config"
	"machineid/edge"
	"machineid/shared/listener"
	"machineid/shared/ops"
	"machineid/shared/orgkey"
)

type devFlags struct {
	data                                                      string
	edgeHTTP, edgeOps                                         string
	authorityHTTP, authorityLink, authorityRaft, authorityOps string
	maxWait                                                   time.Duration
	version                                                   uint32
	times                                                     timeFlags
	billing                                                   billingFlags
	server                                                    serverFlags
}

func newDevCommand(settings *config.Settings, env environment, std *standard) *cobra.Command {
	f := &devFlags{}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run one authority and one edge in one process",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return std.serve(cmd, &f.server, func(logger *slog.Logger) error { return runDev(cmd, f, std, logger) })
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.data, "data", "./machineid-data", "the folder `DIR` of all state; kept between runs")
	fs.StringVar(&f.edgeHTTP, "edge-http", "127.0.0.1:8080", "`ADDRESS` where agents call")
	fs.StringVar(&f.edgeOps, "edge-ops", "127.0.0.1:8081", "`ADDRESS` of the edge's metrics, health and profiles")
	fs.StringVar(&f.authorityHTTP, "authority-http", "127.0.0.1:7070", "`ADDRESS` of the API")
	fs.StringVar(&f.authorityLink, "authority-link", "127.0.0.1:7071", "`ADDRESS` of the link from the edge")
	fs.StringVar(&f.authorityRaft, "authority-raft", "127.0.0.1:7072", "`ADDRESS` of Raft")
	fs.StringVar(&f.authorityOps, "authority-ops", "127.0.0.1:7073", "`ADDRESS` of the authority's metrics, health and profiles")
	fs.DurationVar(&f.maxWait, "max-wait", edge.DefaultMaxWait, "how long a validate waits for the authority, 1ms to 900ms")
	fs.Uint32Var(&f.version, "default-version", 2, "the API generation of new orgs, 1 or 2 (in 1, register with an admin key undoes a revoke)")
	f.times.register(fs)
	f.billing.register(fs)
	f.billing.registerPlans(fs)
	f.server.register(fs, "warn")
	settings.Validate(cmd, func() error {
		faults := checkListeners(f.listeners(), false, ": dev is for this machine; authority and edge can be reached from others")
		faults = append(faults, checkData(f.data))
		faults = append(faults, checkMaxWait(f.maxWait)...)
		faults = append(faults, checkVersion(f.version)...)
		faults = append(faults, f.times.validate(env)...)
		faults = append(faults, f.billing.validate(env))
		return errors.Join(append(faults, f.server.validate()...)...)
	})
	return cmd
}

func (f *devFlags) listeners() []address {
	return []address{
		{"edge-http", f.edgeHTTP},
		{"edge-ops", f.edgeOps},
		{"authority-http", f.authorityHTTP},
		{"authority-link", f.authorityLink},
		{"authority-raft", f.authorityRaft},
		{"authority-ops", f.authorityOps},
	}
}

func runDev(cmd *cobra.Command, f *devFlags, std *standard, logger *slog.Logger) error {
	began := time.Now()
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	edgeReg, authorityReg := ops.NewRegistry(), ops.NewRegistry()
	half, list, unset := listener.Descriptors()/2, f.listeners(), connectionFlags{}
	share, nodeShare := shareEdge(half), shareAuthority(half)
	ls, err := listenAll(ctx, slices.Concat(
		counted(edgeReg, served{list[0], unset.http(share.http, nil)}, served{list[1], fairly(share.ops)}),
		counted(authorityReg, nodeShare.serve(list[2:], unset.http(nodeShare.http, nil))...),
	), logger)
	if err != nil {
		return err
	}
	std.register(edgeReg)
	std.register(authorityReg)
	typed := append(reaching(ls[2].Addr().String()), "--operator-token-file "+config.Word(filepath.Join(f.data, "authority", authority.OperatorTokenFile)))
	node := authority.New(authority.Config{
		Typed: typed, ID: "dev", Version: Version(), Dir: filepath.Join(f.data, "authority"), HTTP: ls[2], Link: ls[3], Raft: ls[4], Bootstrap: true, OpenSignup: true, DefaultVersion: f.version,
		Times: f.times.times(), Billing: f.billing.config, GraceDays: &f.billing.graceDays, Plans: f.billing.plans.plans,
		Ballast: devBallast, Mail: mail.NewPrinter(out), PublicURL: "http://" + ls[2].Addr().String(), OpenFiles: nodeShare.files, Logger: logger, Flush: std.flush, Registerer: authorityReg,
		Changed: func(action, target string, p hub.Propagation) { tellChange(out, action, target, p) },
	})
	e, err := edge.New(edge.Config{
		ID: "dev", Version: Version(), Authority: []string{ls[3].Addr().String()}, HTTP: ls[0], MaxWait: f.maxWait, CacheEntries: devEntries,
		ProxyConns: share.proxy, Logger: logger, Registerer: edgeReg,
	})
	if err != nil {
		return err
	}
	// The edge stops first and gives its lease back, so that the next start need not wait.
	g, ctx := errgroup.WithContext(ctx)
	rest, stopRest := contextAfter(ctx)
	g.Go(func() error {
		defer stopRest()
		return e.Run(ctx)
	})
	g.Go(func() error { return node.Run(rest) })
	g.Go(func() error { return ops.Serve(rest, ls[1], edgeReg, e.Ready, ls[:2].notes(std.notes)) })
	g.Go(func() error { return ops.Serve(rest, ls[5], authorityReg, node.Ready, ls[2:].notes(std.notes)) })
	g.Go(func() error {
		if err := waitReady(ctx, func() []string { return append(node.Ready(), e.Ready()...) }); err != nil {
			return nil //nolint:nilerr // the others say why
		}
		if err := welcome(ctx, out, f.data, ls.addresses(), typed, time.Since(began)); err != nil && ctx.Err() == nil {
			return err
		}
		if f.version == 1 {
			printf(out, "New orgs are of generation 1: there register with an admin key undoes a revoke. Give agents the agent key (docs/api.md, Generations).\n")
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	printf(out, "stopped cleanly\n")
	return nil
}

// devEntries is how many devices the edge of dev remembers: little memory, and
// more than anybody types.
const devEntries = 100_000

// devBallast is what dev holds back for a full disk: a folder that is made to be thrown away has little to lose.
const devBallast = 4 << 20

// keyFile keeps the org key of the first start, in the data folder.
const keyFile = "org-key"

// welcome tells where everything is and what to type next.
func welcome(ctx context.Context, out io.Writer, data string, at, typed []string, took time.Duration) error {
	path := filepath.Join(data, keyFile)
	key, err := devKey(ctx, path, at[2])
	if err != nil {
		return fmt.Errorf("make an org key: %w", err)
	}
	printf(out, `machineid dev is ready (%d ms)

  agents ask      http://%s/api/v1/devices/validate
  admins call     http://%[2]s/api/v1/ (through the edge) or http://%s/api/v1/ (the authority)
  operators read  http://%s/metrics (edge), http://%s/metrics (authority), also /readyz
  org key         %s (kept in %s)
  operator token  kept in %s: %s org list %s

Type next:
  export MACHINEID_ORG_KEY=$(cat %[7]s)
  curl -sS http://%[2]s/api/v1/devices/register -H "x-org-key: $MACHINEID_ORG_KEY" -d '{"deviceId":"agent-01"}'
  curl -sS http://%[2]s/api/v1/devices/validate -H "x-org-key: $MACHINEID_ORG_KEY" -d '{"deviceId":"agent-01"}'
  curl -sS http://%[2]s/api/v1/devices/revoke   -H "x-org-key: $MACHINEID_ORG_KEY" -d '{"deviceId":"agent-01"}'

Ctrl-C stops; the next start has every org and device of this one.
`, took.Milliseconds(), at[0], at[2], at[1], at[5], key, path, filepath.Join(data, "authority", authority.OperatorTokenFile), typedAs(), strings.Join(typed, " "))
	return nil
}

// devKey returns the org key in the file, or makes an org and keeps its key.
func devKey(ctx context.Context, path, authorityHTTP string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		key := strings.TrimSpace(string(b))
		if cerr := orgkey.Check([]byte(key)); cerr != nil {
			return "", fmt.Errorf("%s holds no org key (%w): move it away to get a new org", path, cerr)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+authorityHTTP+"/api/v1/org/create",
		strings.NewReader(`{"name":"dev"}`))
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return "", fmt.Errorf("create an org: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", fmt.Errorf("create an org: %w", err)
	}
	var made struct {
		OrgAPIKey string `json:"orgApiKey"`
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&made); err != nil || made.OrgAPIKey == "" {
		return "", fmt.Errorf("create an org: the authority answered %s: %s", resp.Status, body)
	}
	return made.OrgAPIKey, authority.WriteSecret(path, made.OrgAPIKey)
}

// tellChange shows how long a change took to be in force everywhere.
func tellChange(out io.Writer, action, target string, p hub.Propagation) {
	where := "no edge held it"
	switch {
	case p.Expired > 0:
		where = fmt.Sprintf("%d of %d edges acknowledged, %d had to run out of their lease", p.Confirmed, p.Edges, p.Expired)
	case p.Edges == 1:
		where = "the edge acknowledged"
	case p.Edges > 1:
		where = fmt.Sprintf("all %d edges acknowledged", p.Edges)
	}
	printf(out, "%s %s: in force after %.2f ms (%s)\n", action, shown(target), p.ElapsedMs, where)
}
