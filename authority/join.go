package authority

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"machineid/shared/wire"
)

// joiningFile marks a data folder whose node was never a voter: it goes on joining when it is started again.
const joiningFile = "joining"

// Times of joining.
const (
	joinCall       = 12 * time.Second // a call's own 8 s, and the way
	joinPause      = 500 * time.Millisecond
	joinMaxPause   = 5 * time.Second
	joinAnswerMax  = 64 << 10
	joinFileMode   = 0o600
	joinFolderMode = 0o700
)

// errWrongToken ends a node that joins: it cannot come right by itself.
var errWrongToken = errors.New("the operator's token is not this cluster's: give the right one in --operator-token-file or MACHINEID_OPERATOR_TOKEN")

// errNoMember says that this node was taken out again before it had a vote: it begins anew.
var errNoMember = errors.New("this node is no member any more")

// prepareJoin says whether this node has to join, and marks a new folder before anything else is in it.
func (n *Node) prepareJoin() (joins bool, err error) {
	if len(n.cfg.Join) == 0 {
		return false, nil
	}
	mark := filepath.Join(n.cfg.Dir, joiningFile)
	if HasState(n.cfg.Dir) {
		_, err := os.Stat(mark)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err //nolint:wrapcheck // names the file
	}
	if err := os.MkdirAll(n.cfg.Dir, joinFolderMode); err != nil {
		return false, err //nolint:wrapcheck // names the folder
	}
	return true, os.WriteFile(mark, nil, joinFileMode) //nolint:wrapcheck // names the file
}

// join asks the nodes of a cluster to take this one in: first to send it the log, then, when it has caught up, to give it a vote. It tries
// them in turn until that is done, and begins anew if it was taken out meanwhile; only a wrong token, or the end of ctx, ends it otherwise.
func (n *Node) join(ctx context.Context) error {
	client := &http.Client{
		Timeout: joinCall,
		// The token must not follow to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	steps := []struct {
		what, path string
		body       any
	}{
		{"added", "operator/cluster/members", map[string]any{"id": n.cfg.ID, "address": n.advertisedRaft()}},
		{"given a vote", "operator/cluster/members/" + n.cfg.ID + "/promote", struct{}{}},
	}
	pause, said := joinPause, ""
	for i, at := 0, 0; i < len(steps); {
		step, addr := steps[i], n.cfg.Join[at%len(n.cfg.Join)]
		err := n.ask(ctx, client, addr, step.path, step.body)
		switch {
		case err == nil:
			n.log.LogAttrs(ctx, slog.LevelInfo, "joining gets on", slog.String("now", step.what), slog.String("by", addr))
			i++
			pause, said = joinPause, ""
			continue
		case errors.Is(err, errWrongToken):
			return fmt.Errorf("join the cluster at %s: %w", addr, err)
		case errors.Is(err, errNoMember):
			i = 0
		}
		why := fmt.Sprintf("join: not %s yet: %s: %v", step.what, addr, err)
		n.joining.Store(&why)
		if said != why {
			n.log.LogAttrs(ctx, slog.LevelWarn, "joining goes on", slog.String("wanted", step.what), slog.String("asked", addr), slog.Any("error", err))
			said = why
		}
		at++
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // jitter is no secret
		}
		pause = min(pause*3/2, joinMaxPause)
	}
	n.joining.Store(nil)
	if err := os.Remove(filepath.Join(n.cfg.Dir, joiningFile)); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	n.log.LogAttrs(ctx, slog.LevelInfo, "joined: this node has a vote")
	return nil
}

// ask makes one operators' call.
func (n *Node) ask(ctx context.Context, client *http.Client, addr, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a call: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+wire.Base+path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("make a call: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+string(n.cfg.OperatorToken))
	resp, err := client.Do(req)
	if err != nil {
		return err //nolint:wrapcheck // names the address
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, joinAnswerMax))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusUnauthorized:
		return errWrongToken
	}
	var said struct{ Error, Message string }
	switch {
	case json.Unmarshal(answer, &said) != nil || said.Message == "":
		return fmt.Errorf("it answers %s: is it an authority's HTTP address?", resp.Status)
	case said.Error == wire.MemberNotFound("").Code:
		return fmt.Errorf("%w: %s", errNoMember, said.Message)
	}
	return errors.New(said.Message)
}

func (n *Node) advertisedRaft() string {
	if n.cfg.AdvertiseRaft != "" {
		return n.cfg.AdvertiseRaft
	}
	return n.cfg.Raft.Addr().String()
}
