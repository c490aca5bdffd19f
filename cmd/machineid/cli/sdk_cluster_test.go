//go:build unix

package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "machineid/sdk/go"
)

// gateway is somebody's proxy between clients and an edge: usually it passes on, at times it answers by itself.
type gateway struct {
	*httptest.Server

	pass    *httputil.ReverseProxy
	instead atomic.Pointer[http.HandlerFunc] // nil: pass on
}

func newGateway(t *testing.T, to string) *gateway {
	t.Helper()
	g := &gateway{pass: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})}
	g.pass.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { badGateway(w, nil) }
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := g.instead.Load(); f != nil {
			(*f)(w, r)
			return
		}
		g.pass.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

// during has the gateway answer by itself while f runs.
func (g *gateway) during(instead http.HandlerFunc, f func()) {
	g.instead.Store(&instead)
	defer g.instead.Store(nil)
	f()
}

func badGateway(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(http.StatusBadGateway)
	_, _ = io.WriteString(w, "<html><body>502 Bad Gateway</body></html>")
}

// answersInstead are what proxies say that are no answers of the API.
var answersInstead = map[string]http.HandlerFunc{
	"a page of an error": badGateway,
	"a page to log in at": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>Please log in</html>")
	},
	"another's JSON": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"ok","allowed":true,"revoked":true}`)
	},
	"a redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusMovedPermanently)
	},
	"half an answer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "400")
		_, _ = io.WriteString(w, `{"allowed":true,"code":"ALLOW","handler":"devices/validate","deviceId":"a"`)
		panic(http.ErrAbortHandler)
	},
}

// TestGoClientAndCluster plays sdk/go against an edge of a cluster of three, through a proxy: pages that are no answers, answers that are
// slow, a key rotated under running clients, the leader lost in the middle of changes, and the majority lost.
func TestGoClientAndCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster that is taken apart takes a minute")
	}
	t.Parallel()
	c := startCluster(t, 3, "--lease", "1s")
	e := startEdge(t, c.links())
	e.ready()
	g := newGateway(t, e.http)
	org, err := sdk.OrgCreate(t.Context(), sdk.Config{BaseURL: g.URL}, sdk.NewOrg{})
	if err != nil {
		t.Fatal(err)
	}
	client, agent := goClient(t, g.URL, org["orgApiKey"]), goClient(t, g.URL, org["agentKey"])
	goDeviceLives(t, client, agent)
	if _, err := agent.Register(t.Context(), "a", sdk.RegisterOptions{}); err != nil {
		t.Fatal(err)
	}
	goProxyBetween(t, g, org, client, agent)
	goSlowAnswers(t, g, org)
	goKeyRotatesUnderLoad(t, g.URL, client)
	goLeaderLost(t, c, client, agent)
	goMajorityLost(t, c, client, agent)
}

func goProxyBetween(t *testing.T, g *gateway, org sdk.Object, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	once, err := sdk.New(sdk.Config{OrgKey: fmt.Sprint(org["orgApiKey"]), BaseURL: g.URL, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer once.Close()
	for name, answer := range answersInstead {
		g.during(answer, func() {
			if d := agent.Validate(ctx, "a"); d.Allowed || d.Code != sdk.CodeSystemUnavailable || d.Err == nil {
				t.Errorf("%s: validate: %+v", name, d)
			}
			for _, d := range agent.ValidateBatch(ctx, []string{"a", "b"}) {
				if d.Allowed || d.Code != sdk.CodeSystemUnavailable {
					t.Errorf("%s: validate_batch: %+v", name, d)
				}
			}
			_, err := once.Revoke(ctx, "a")
			if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Refused || e.Outcome != sdk.Unknown {
				t.Errorf("%s: revoke: %v", name, err)
			}
		})
		if d := agent.Validate(ctx, "a"); !d.Allowed {
			t.Errorf("%s: afterwards: %+v", name, d)
		}
	}
	// One bad answer is tried again where that is safe, and a change is made once.
	var first sync.Once
	g.during(func(w http.ResponseWriter, r *http.Request) {
		lost := w
		first.Do(func() { lost = httptest.NewRecorder() })
		if g.pass.ServeHTTP(lost, r); lost != w { // it was passed on, and the answer is lost on its way back
			badGateway(w, r)
		}
	}, func() {
		if a, err := client.Revoke(ctx, "a"); err != nil || a["revoked"] != true {
			t.Errorf("a revoke whose first answer is lost: %v, %v", a, err)
		}
	})
	if d := agent.Validate(ctx, "a"); d.Code != codeRevoked {
		t.Errorf("after it: %+v", d)
	}
	if _, err := client.Unrevoke(ctx, "a"); err != nil {
		t.Error(err)
	}
}

func goSlowAnswers(t *testing.T, g *gateway, org sdk.Object) {
	t.Helper()
	const timeout = 300 * time.Millisecond
	hasty, err := sdk.New(sdk.Config{OrgKey: fmt.Sprint(org["orgApiKey"]), BaseURL: g.URL, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer hasty.Close()
	over := make(chan struct{})
	g.during(func(w http.ResponseWriter, _ *http.Request) {
		<-over
		badGateway(w, nil)
	}, func() {
		began := time.Now()
		if d := hasty.Validate(t.Context(), "a"); d.Allowed || d.Code != sdk.CodeSystemUnavailable || d.Err == nil {
			t.Errorf("%+v", d)
		}
		if took := time.Since(began); took < timeout/2 || took > patient {
			t.Errorf("a validate of %v took %v", timeout, took)
		}
		_, err := hasty.Revoke(t.Context(), "a")
		if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Code != "timeout" || e.Outcome != sdk.Unknown {
			t.Errorf("%v", err)
		}
		close(over)
	})
}

// goKeyRotatesUnderLoad rotates the key of many running callers: with a grace none of them is denied, and behind it none is allowed.
func goKeyRotatesUnderLoad(t *testing.T, base string, client *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	made, err := client.OrgKeysCreate(ctx, "fleet", "validate", "")
	if err != nil {
		t.Fatal(err)
	}
	worker := goClient(t, base, made["orgApiKey"])
	over := make(chan struct{})
	var work sync.WaitGroup
	var asked, denied atomic.Int64
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if asked.Add(1); !worker.Validate(ctx, "a").Allowed {
					denied.Add(1)
				}
			}
		})
	}
	next, err := client.OrgKeysRotate(ctx, fmt.Sprint(made["keyId"]), 3600)
	if err == nil {
		err = worker.ReplaceKey(fmt.Sprint(next["orgApiKey"]))
	}
	if err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	eventually(t, patient, "the callers go on with the new key", func() bool { return asked.Load() > before+20 })
	close(over)
	work.Wait()
	if denied.Load() > 0 {
		t.Errorf("%d of %d validates were denied while the key was rotated", denied.Load(), asked.Load())
	}
	old := goClient(t, base, made["orgApiKey"])
	if d := old.Validate(ctx, "a"); !d.Allowed {
		t.Errorf("the old key in its grace: %+v", d)
	}
	if _, err := client.OrgKeysRevoke(ctx, fmt.Sprint(made["keyId"])); err != nil {
		t.Error(err)
	}
	if d := old.Validate(ctx, "a"); d.Allowed || d.Code != "ORG_NOT_FOUND" {
		t.Errorf("the old key, revoked: %+v", d)
	}
	if d := worker.Validate(ctx, "a"); !d.Allowed {
		t.Errorf("the new key: %+v", d)
	}
}

// goLeaderLost kills the leader in the middle of changes. What a change has returned is so for every validate after it, whoever leads.
func goLeaderLost(t *testing.T, c *clusterNodes, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	leader := c.leader()
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		leader.kill()
	}()
	changes := 0
	began := time.Now()
	for done := false; !done || changes < 6; {
		select {
		case <-killed:
			done = true
		default:
		}
		change, want := client.Revoke, codeRevoked
		if changes%2 == 1 {
			change, want = client.Unrevoke, codeAllow
		}
		_, err := change(ctx, "a")
		if err != nil {
			if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Refused {
				t.Fatalf("change %d while the leader is lost: %v", changes, err)
			}
			if time.Since(began) > 2*patient {
				t.Fatalf("no change for %v: %v", time.Since(began), err)
			}
			continue // the same again: that is what the client's errors say
		}
		changes++
		if d := agent.Validate(ctx, "a"); d.Code != want && d.Code != sdk.CodeSystemUnavailable {
			t.Errorf("after change %d: %+v, want %s", changes, d, want)
		}
	}
	leader.begin()
	leader.ready()
}

// goMajorityLost: without a majority nothing is allowed once the lease is over, no change is claimed, and all goes on when it is back.
func goMajorityLost(t *testing.T, c *clusterNodes, client, agent *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	eventually(t, patient, "the edge allows", func() bool { return agent.Validate(ctx, "a").Allowed })
	for _, n := range c.nodes[1:] {
		n.kill()
	}
	eventually(t, patient, "the lease runs out", func() bool { return agent.Validate(ctx, "a").Code == sdk.CodeSystemUnavailable })
	for range 20 {
		if d := agent.Validate(ctx, "a"); d.Allowed {
			t.Errorf("without a majority: %+v", d)
		}
	}
	_, err := client.Revoke(ctx, "a")
	if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Refused || e.Outcome == sdk.Committed {
		t.Errorf("revoke without a majority: %v", err)
	}
	for _, n := range c.nodes[1:] {
		n.begin()
	}
	eventually(t, 2*patient, "the cluster is back", func() bool {
		_, err := client.Revoke(ctx, "a")
		return err == nil
	})
	if d := agent.Validate(ctx, "a"); d.Allowed {
		t.Errorf("after the revoke: %+v", d)
	}
}
