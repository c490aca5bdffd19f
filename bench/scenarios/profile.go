//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// profile says what a process' processor time went to.
type profile struct {
	total time.Duration
	parts []part // the largest first
}

// part is what one kind of work took, and the function that did most of it.
type part struct {
	what, most string
	took       time.Duration
}

// read turns a CPU profile into its parts. go tool pprof reads the format: no dependency of ours need.
func (r *runner) read(ctx context.Context, name string, raw []byte) (*profile, error) {
	file := filepath.Join(r.dir, name+".pprof")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, fmt.Errorf("keep the profile: %w", err)
	}
	text, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", file).Output()
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	return parse(text)
}

// parse reads the stacks that `pprof -traces` prints: a line of dashes before each, a time before its innermost frame, and one frame a line.
func parse(text []byte) (*profile, error) {
	p := &profile{}
	took := map[string]map[string]time.Duration{} // by kind and function
	var stack []string
	var spent time.Duration
	flush := func() {
		if len(stack) > 0 {
			kind, by := kindOf(stack)
			if took[kind] == nil {
				took[kind] = map[string]time.Duration{}
			}
			took[kind][by] += spent
			p.total += spent
		}
		stack, spent = stack[:0], 0
	}
	begun := false
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "-----") {
			flush()
			begun = true
			continue
		}
		fields := strings.Fields(strings.TrimSuffix(line, " (inline)"))
		if !begun || len(fields) == 0 {
			continue
		}
		if d, err := time.ParseDuration(fields[0]); err == nil && len(stack) == 0 && len(fields) > 1 {
			spent, fields = d, fields[1:]
		}
		stack = append(stack, fields[0])
	}
	flush()
	if p.total == 0 {
		return nil, fmt.Errorf("no time in the profile: %.300s", text)
	}
	for what, by := range took {
		one := part{what: what}
		for _, name := range slices.Sorted(maps.Keys(by)) {
			one.took += by[name]
			if by[name] > by[one.most] {
				one.most = name
			}
		}
		p.parts = append(p.parts, one)
	}
	slices.SortFunc(p.parts, func(a, b part) int {
		if a.took != b.took {
			return int(b.took - a.took)
		}
		return strings.Compare(a.what, b.what)
	})
	return p, nil
}

// kinds are tried from the innermost frame on; the first that fits a frame says what the time went to. Calls of the kernel come before
// everything: whoever makes them, they are the cost of a socket, a file or of sleeping.
var kinds = []struct{ prefix, what string }{
	{"runtime.mallocgc", "memory and its collection"},
	{"runtime.gc", "memory and its collection"},
	{"runtime.(*gc", "memory and its collection"},
	{"runtime.bgsweep", "memory and its collection"},
	{"runtime.newobject", "memory and its collection"},
	{"runtime.growslice", "memory and its collection"},
	{"runtime.schedule", "scheduling goroutines"},
	{"runtime.findRunnable", "scheduling goroutines"},
	{"runtime.mcall", "scheduling goroutines"},
	{"runtime.park_m", "scheduling goroutines"},
	{"runtime.ready", "scheduling goroutines"},
	{"runtime.goready", "scheduling goroutines"},
	{"runtime.wakep", "scheduling goroutines"},
	{"runtime.mstart", "scheduling goroutines"},
	{"runtime.netpoll", "scheduling goroutines"},
	{"google.golang.org/protobuf", "protobuf"},
	{"google.golang.org/grpc", "gRPC"},
	{"golang.org/x/net/http2", "gRPC"},
	{"github.com/valyala/fasthttp", "HTTP (fasthttp)"},
	{"net/http", "HTTP (net/http)"},
	{"net/textproto", "HTTP (net/http)"},
	{"bufio", "buffers"},
	{"encoding/json", "JSON"},
	{"github.com/cockroachdb/pebble", "Pebble"},
	{"github.com/DataDog/zstd", "Pebble"},
	{"github.com/golang/snappy", "Pebble"},
	{"github.com/hashicorp/raft", "Raft"},
	{"github.com/hashicorp/go-msgpack", "Raft"},
	{"github.com/dgraph-io/ristretto", "cache (ristretto)"},
	{"github.com/prometheus", "metrics"},
	{"crypto", "hashes and checksums"},
	{"hash", "hashes and checksums"},
	{"machineid/authority/state", "the state"},
	{"machineid/authority/hub", "the hub"},
	{"machineid/authority", "the API"},
	{"machineid/raftstore", "raftstore"},
	{"machineid/edge", "the edge's own code"},
	{"machineid/shared", "what both tiers share"},
}

// calls are the ways into the kernel, and what is done there by who is found first further out.
var (
	calls   = []string{"internal/runtime/syscall", "runtime.entersyscall", "runtime.reentersyscall", "runtime.exitsyscall", "syscall.", "internal/poll.", "net.", "runtime.futex", "runtime.epoll", "runtime.usleep", "runtime.nanosleep", "runtime.write", "golang.org/x/sys/unix"}
	kernels = []struct{ part, what string }{
		{"runtime.epoll", "kernel: sleeping and waking"},
		{"runtime.netpoll", "kernel: sleeping and waking"},
		{"runtime.futex", "kernel: sleeping and waking"},
		{"runtime.usleep", "kernel: sleeping and waking"},
		{"runtime.wakep", "kernel: sleeping and waking"},
		{"Fsync", "kernel: syncing files"},
		{"Fdatasync", "kernel: syncing files"},
		{"SyncTo", "kernel: syncing files"},
		{"(*File).Sync", "kernel: syncing files"},
		{"os.(*File)", "kernel: files"},
		{"vfs.", "kernel: files"},
		{"net.(*conn).Write", "kernel: writing to sockets"},
		{"net.(*netFD).Write", "kernel: writing to sockets"},
		{"net.(*netFD).writeBuffers", "kernel: writing to sockets"},
		{"net.(*conn).Read", "kernel: reading from sockets"},
		{"net.(*netFD).Read", "kernel: reading from sockets"},
	}
)

// kindOf says what the innermost frame of a stack did, and whose it was: the function that the kind was told by.
func kindOf(stack []string) (kind, by string) {
	if anyPrefix(stack[0], calls) {
		for _, frame := range stack {
			for _, k := range kernels {
				if strings.Contains(frame, k.part) {
					return k.what, frame
				}
			}
		}
		return "kernel: other calls", stack[0]
	}
	for _, frame := range stack {
		for _, k := range kinds {
			if strings.HasPrefix(frame, k.prefix) {
				return k.what, frame
			}
		}
	}
	if strings.HasPrefix(stack[0], "runtime.") {
		return "scheduling goroutines", stack[0]
	}
	return "other code", stack[0]
}

func anyPrefix(text string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(text, p) })
}

// top names what took most, at least 5 % each, with the function that did most of it where that says more.
func (p *profile) top() string {
	if p == nil {
		return ""
	}
	var named []string
	for _, x := range p.parts[:min(len(p.parts), 5)] {
		share := float64(x.took) / float64(p.total)
		if share < 0.05 {
			break
		}
		function := ""
		if !strings.HasPrefix(x.what, "kernel") && !strings.HasPrefix(x.what, "scheduling") {
			function = " (`" + x.most[strings.LastIndexByte(x.most, '/')+1:] + "`)"
		}
		named = append(named, fmt.Sprintf("%s %.0f %%%s", x.what, 100*share, function))
	}
	return strings.Join(named, ", ")
}
