package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/authority"
	"machineid/authority/hub"
	"machineid/edge"
)

// tiers are one authority node and one edge in this process, over loopback.
type tiers struct {
	edge, authority string // HTTP addresses
	key             string // an org's admin key
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	var config net.ListenConfig
	l, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// start runs both tiers until the test ends.
func start(tb testing.TB) *tiers {
	tb.Helper()
	t, link := startAuthority(tb, usualLease)
	t.edge = startEdge(tb, "e1", link)
	return t
}

// benchLimits are those of an edge as it is run, but for changes, of which these
// measure as many as there can be.
var benchLimits = func() edge.Limits {
	l := edge.DefaultLimits()
	l.Changes = 0
	return l
}()

// startEdge runs an edge, and returns its HTTP address.
func startEdge(tb testing.TB, id, link string) string {
	tb.Helper()
	return startEdgeWith(tb, edge.Config{ID: id, Authority: []string{link}, Limits: benchLimits, Registerer: prometheus.NewRegistry()})
}

func startEdgeWith(tb testing.TB, cfg edge.Config) string {
	tb.Helper()
	agents := listen(tb)
	cfg.HTTP, cfg.Logger = agents, slog.New(slog.DiscardHandler)
	e, err := edge.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, e.Run)
	ready(tb, e.Ready)
	return agents.Addr().String()
}

const usualLease = 3 * time.Second

// operatorToken is the one of these authorities.
const operatorToken = "a-token-of-more-than-thirty-two-characters"

// lift gives the org room for as many devices.
func (t *tiers) lift(tb testing.TB, limit int) {
	tb.Helper()
	var org struct{ OrgID string }
	t.do(tb, http.MethodGet, "org", "", &org)
	t.do(tb, http.MethodPatch, "operator/orgs/"+org.OrgID, fmt.Sprintf(`{"limit":%d}`, limit), &org)
}

// startAuthority runs an authority alone, with an org, and returns its link address.
func startAuthority(tb testing.TB, lease time.Duration) (t *tiers, linkAddress string) {
	tb.Helper()
	api, link := listen(tb), listen(tb)
	node := authority.New(authority.Config{
		ID: "a1", Dir: tb.TempDir(), HTTP: api, Link: link, Raft: listen(tb), Bootstrap: true, OpenSignup: true, OperatorToken: operatorToken,
		Times: hub.Times{Lease: lease, CacheTTL: time.Minute, Bound: 0.01}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	run(tb, node.Run)
	ready(tb, node.Ready)
	t = &tiers{authority: api.Addr().String()}
	var made struct {
		OrgAPIKey string `json:"orgApiKey"`
	}
	t.call(tb, "org/create", `{}`, &made)
	t.key = made.OrgAPIKey
	return t, link.Addr().String()
}

func ready(tb testing.TB, why func() []string) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); len(why()) > 0; <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatal(why())
		}
	}
}

// run runs one part until the test ends, in the reverse order of starts.
func run(tb testing.TB, part func(context.Context) error) {
	tb.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- part(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

// call makes one call at the authority and decodes its answer.
func (t *tiers) call(tb testing.TB, path, body string, into any) {
	tb.Helper()
	t.do(tb, http.MethodPost, path, body, into)
}

func (t *tiers) do(tb testing.TB, method, path, body string, into any) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, "http://"+t.authority+"/api/v1/"+path, bytes.NewBufferString(body))
	if err != nil {
		tb.Fatal(err)
	}
	if strings.HasPrefix(path, "operator/") {
		req.Header.Set("Authorization", "Bearer "+operatorToken)
	} else {
		req.Header.Set("X-Org-Key", t.key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.Fatalf("%s: %s %s %v", path, resp.Status, b, err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		tb.Fatal(err)
	}
}
