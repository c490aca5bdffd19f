package authority

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"machineid/authority/state/statepb"
)

// TestOperatorTokenIsWhole: what a crash left of the token is no token, and what is there in full stays.
func TestOperatorTokenIsWhole(t *testing.T) {
	t.Parallel()
	whole := strings.Repeat("t", MinOperatorToken)
	for name, content := range map[string]string{"none": "-", "empty": "", "blank": "\n", "cut": whole[1:], "zeros": strings.Repeat("\x00", 53), "whole": whole + "\n"} {
		dir := t.TempDir()
		path := filepath.Join(dir, OperatorTokenFile)
		if err := os.WriteFile(path+".tmp", []byte("of an attempt that was cut"), 0o600); err != nil {
			t.Fatal(err)
		}
		if content != "-" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n := &Node{log: slog.New(slog.DiscardHandler), cfg: Config{Dir: dir}}
		token, err := n.operatorToken(t.Context())
		if err != nil || len(token) < MinOperatorToken || (token == whole) != (name == "whole") {
			t.Errorf("%s: %q, %v", name, token, err)
		}
		kept, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(kept)) != token {
			t.Errorf("%s: %q is kept, %v", name, kept, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		if again, err := n.operatorToken(t.Context()); err != nil || again != token {
			t.Errorf("%s: then %q, %v", name, again, err)
		}
	}
}

// TestACutTokenIsNotHashed: a first start that a crash cut, so that the token's file is empty, begins a cluster whose token is in that file.
func TestACutTokenIsNotHashed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, OperatorTokenFile)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n, stop := runNode(t, dir, "a1", func(c *Config) { c.OperatorToken = "" })
	defer stop()
	token, err := os.ReadFile(path)
	hash := sha256.Sum256([]byte(strings.TrimSpace(string(token))))
	if got := n.state.Cluster().GetOperatorTokenHash(); err != nil || len(token) < MinOperatorToken || string(got) != string(hash[:]) {
		t.Errorf("the file holds %d characters (%v), the state %x", len(token), err, got)
	}
}

// TestTheFirstStateIsTriedAgain in the same term: a cluster of one has no other.
func TestTheFirstStateIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, OperatorTokenFile)
	if err := os.Mkdir(path, 0o700); err != nil { // in the way of the token
		t.Fatal(err)
	}
	n, stop := beginNode(t, dir, "a1", func(c *Config) { c.OperatorToken = "" })
	defer stop()
	until(t, "it says why", func() bool {
		return strings.Contains(strings.Join(n.Ready(), "|"), "state: the cluster's first state could not be written")
	})
	term, _ := n.store.Leading()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	until(t, "it serves", func() bool { return len(n.Ready()) == 0 && n.hub.Leading() })
	if now, leads := n.store.Leading(); !leads || now != term {
		t.Errorf("it leads term %d (%v), and failed in %d", now, leads, term)
	}
}

// narrowDisk says what is left of it.
type narrowDisk struct {
	vfs.FS
	left atomic.Uint64
}

func (d *narrowDisk) Unwrap() vfs.FS { return d.FS }

func (d *narrowDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.left.Load(), TotalBytes: 100 << 30}, nil
}

// TestAFirstStartOnANearlyFullDisk begins a cluster that serves: what takes rights away must be possible. The rest is, when there is room.
func TestAFirstStartOnANearlyFullDisk(t *testing.T) {
	t.Parallel()
	d := &narrowDisk{FS: vfs.Default}
	d.left.Store(300 << 20)
	n, stop := beginNode(t, t.TempDir(), "a1", func(c *Config) { c.FS = d })
	defer stop()
	until(t, "it serves", n.hubLeads)
	propose := func(enabled bool) error {
		_, _, err := n.Propose(context.Background(), &statepb.Command{
			TimeMs: n.Now(), Change: &statepb.Command_SetExecution{SetExecution: &statepb.SetExecution{Enabled: enabled}},
		})
		return err
	}
	if why := strings.Join(n.Ready(), "|"); !strings.HasPrefix(why, "disk: the disk is nearly full") {
		t.Errorf("it says %q", why)
	}
	if err := propose(true); err == nil {
		t.Error("rights are given on a nearly full disk")
	}
	if err := propose(false); err != nil {
		t.Errorf("an org cannot be switched off: %v", err)
	}
	d.left.Store(50 << 30)
	until(t, "it is ready", func() bool { return len(n.Ready()) == 0 })
	if err := propose(true); err != nil {
		t.Error(err)
	}
}

// hubLeads is hub.Leading on a node that may still be opening.
func (n *Node) hubLeads() bool {
	select {
	case <-n.ready:
		return n.hub.Leading()
	default:
		return false
	}
}
