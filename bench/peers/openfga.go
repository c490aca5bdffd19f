package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"machineid/bench/fleet"
)

// openfgaVersion is built from its module, once, as any user can.
const openfgaVersion = "v1.22.1"

// fgaCache is how long OpenFGA remembers an answer: its default.
const fgaCache = 10 * time.Second

// findOpenFGA returns OpenFGA's server. Where it has not been built it is, into the folder tools, unless build is false.
func findOpenFGA(ctx context.Context, tools string, build bool) (string, error) {
	if binary, err := exec.LookPath("openfga"); err == nil {
		return binary, nil
	}
	folder := filepath.Join(tools, "openfga-"+openfgaVersion)
	binary := filepath.Join(folder, "openfga")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if !build {
		return "", fmt.Errorf("%w, and -build=false", errNotInstalled)
	}
	fmt.Fprintf(os.Stderr, "peers: build OpenFGA %s (once, some minutes)\n", openfgaVersion)
	cmd := exec.CommandContext(ctx, "go", "install", "github.com/openfga/openfga/cmd/openfga@"+openfgaVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+folder)
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("could not be built: %w: %s", err, bytes.TrimSpace(said[max(0, len(said)-300):]))
	}
	return binary, nil
}

// openfga is one server with its store in memory and its check cache on.
type openfga struct {
	http, grpc string
	store      string // the path of the store
	storeID    string
	model      string
	proc       *fleet.Process
}

// fgaModel says what a device is: it runs if its org is on its list.
const fgaModel = `{"schema_version":"1.1","type_definitions":[{"type":"org"},{"type":"device",
	"relations":{"runs":{"this":{}}},"metadata":{"relations":{"runs":{"directly_related_user_types":[{"type":"org"}]}}}}]}`

func startOpenFGA(ctx context.Context, binary, dir string, s *stops) (*openfga, error) {
	ports, err := fleet.FreePorts(2)
	if err != nil {
		return nil, err
	}
	o := &openfga{http: fmt.Sprintf("127.0.0.1:%d", ports[0]), grpc: fmt.Sprintf("127.0.0.1:%d", ports[1])}
	cmd := exec.CommandContext(ctx, binary, "run", "--datastore-engine", "memory", "--http-addr", o.http, "--grpc-addr", o.grpc,
		"--check-query-cache-enabled", "--check-query-cache-ttl", fgaCache.String(), "--metrics-enabled=false", "--log-level", "error")
	if o.proc, err = launch(ctx, cmd, log(dir, "openfga"), o.grpc, s); err != nil {
		return nil, err
	}
	ready := func() bool { return o.call(ctx, "", "", nil) == nil || ctx.Err() != nil }
	if err := o.proc.Await(20*time.Second, "OpenFGA answers", ready); err != nil {
		return nil, err
	}
	var made struct {
		ID    string
		Model string `json:"authorization_model_id"`
	}
	if err := o.call(ctx, "/stores", `{"name":"peers"}`, &made); err != nil {
		return nil, err
	}
	o.storeID, o.store = made.ID, "/stores/"+made.ID
	if err := o.call(ctx, o.store+"/authorization-models", fgaModel, &made); err != nil {
		return nil, err
	}
	o.model = made.Model
	return o, each(ctx, func(i int) error { return o.set(ctx, i, true) })
}

// call makes a POST, or without a path asks whether the server serves.
func (o *openfga) call(ctx context.Context, path, body string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	method := http.MethodPost
	if path == "" {
		method, path = http.MethodGet, "/healthz"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+o.http+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := openfgaClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		return fmt.Errorf("OpenFGA: %s: %s %s %w", path, resp.Status, b, err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(b, into)
}

// openfgaClient goes straight to this machine, whatever the environment says of proxies.
var openfgaClient = &http.Client{Transport: &http.Transport{}}

func tuple(device int) string {
	return `{"user":"org:acme","relation":"runs","object":"device:` + deviceName(device) + `"}`
}

func (o *openfga) set(ctx context.Context, device int, allowed bool) error {
	change := "deletes"
	if allowed {
		change = "writes"
	}
	return o.call(ctx, o.store+"/write", `{"`+change+`":{"tuple_keys":[`+tuple(device)+`]},"authorization_model_id":"`+o.model+`"}`, nil)
}

// checks are the requests by gRPC, encoded beforehand; the numbers are those of OpenFGA's openfga_service.proto.
func (o *openfga) checks(consistency uint64) [][]byte {
	all := make([][]byte, devices)
	for i := range all {
		var key []byte
		for n, v := range []string{"org:acme", "runs", "device:" + deviceName(i)} {
			key = protowire.AppendString(protowire.AppendTag(key, protowire.Number(n+1), protowire.BytesType), v)
		}
		m := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), o.storeID)
		m = protowire.AppendBytes(protowire.AppendTag(m, 2, protowire.BytesType), key)
		m = protowire.AppendString(protowire.AppendTag(m, 4, protowire.BytesType), o.model)
		if consistency != 0 {
			m = protowire.AppendVarint(protowire.AppendTag(m, 7, protowire.VarintType), consistency)
		}
		all[i] = m
	}
	return all
}

const higherConsistency = 200 // ConsistencyPreference

// peers are OpenFGA's ways to ask.
func (o *openfga) peers() []*peer {
	allows := func(answer []byte) bool { return len(answer) >= 2 && answer[0] == 1<<3 && answer[1] == 1 } // field 1: true
	byGRPC := func(requests [][]byte) func(int) (asker, error) {
		return func(int) (asker, error) {
			return dialGRPC(o.grpc, "/openfga.v1.OpenFGAService/Check", requests, allows)
		}
	}
	requests := post(o.store+"/check", "", func(i int) string { return `{"tuple_key":` + tuple(i) + `,"authorization_model_id":"` + o.model + `"}` })
	byHTTP := func(int) (asker, error) {
		s, err := dial(o.http, requests)
		return httpAsker{s}, err
	}
	all := []*peer{
		{
			name: "OpenFGA Check, cached", how: "gRPC; one relation, store in memory, check cache of 10 s (its default)", open: byGRPC(o.checks(0)),
			holds: "no: until the cache forgets, here after 10 s", spread: fgaCache, pause: 5 * time.Millisecond,
		},
		{name: "OpenFGA Check, cached, HTTP", how: "the same through its HTTP gateway", open: byHTTP, holds: "no: the same"},
		{
			name: "OpenFGA Check, HIGHER_CONSISTENCY", how: "gRPC, past the cache", open: byGRPC(o.checks(higherConsistency)),
			holds: "yes, by asking its database each time (here its memory; a real one is another hop)", pause: time.Millisecond,
		},
	}
	for _, p := range all {
		p.procs, p.places, p.timed = []*fleet.Process{o.proc}, 1, true
		p.set = o.set
	}
	all[1].set = nil // as the first
	return all
}
