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
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"machineid/shared/dial"
	"machineid/shared/hint"
	"machineid/shared/seldom"
	"machineid/shared/wire"
)

// joiningFile marks a data folder whose node was never a voter: it goes on joining when it is started again.
const joiningFile = "joining"

// Times of joining.
const (
	joinCall       = 12 * time.Second // a call's own 8 s, and the way
	joinPause      = 500 * time.Millisecond
	joinMaxPause   = 5 * time.Second
	joinWarn       = 30 * time.Second // that a cluster does not take a node in is a warning if it lasts
	joinAnswerMax  = 64 << 10
	joinFileMode   = 0o600
	joinFolderMode = 0o700
)

// errWrongToken ends a node that joins: it cannot come right by itself.
var errWrongToken = errors.New("the operator's token is not this cluster's: give the right one in --operator-token-file or MACHINEID_OPERATOR_TOKEN")

// Why a node is not taken in yet.
var (
	errOtherStore = errors.New("this node's disk was lost, or its name is another's") // what is to be done stands behind it
	errNoCluster  = errors.New("it waits too")                                        // the node asked is in no cluster itself
	errNoNode     = errors.New("name the addresses of authority nodes' --http in --join")
	// errNoMember says that this node was taken out again before it had a vote: it begins anew.
	errNoMember = errors.New("this node is no member any more")
)

// prepareJoin says whether this node has to join, and marks a new folder before anything else is in it.
func (n *Node) prepareJoin() (joins bool, err error) {
	if len(n.cfg.Join) == 0 {
		return false, nil
	}
	if HasState(n.cfg.Dir) {
		return Joins(n.cfg.Dir)
	}
	if err := os.MkdirAll(n.cfg.Dir, joinFolderMode); err != nil {
		return false, err
	}
	return true, os.WriteFile(filepath.Join(n.cfg.Dir, joiningFile), nil, joinFileMode)
}

// Joins reports whether a data folder is that of a node which has not had a vote yet: it goes on joining, which takes the operator's token.
func Joins(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, joiningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// joinStep is one call on the way to a vote.
type joinStep struct {
	what, path string
	body       any
}

// join asks the nodes of a cluster to take this one in: first to send it the log, then, when it has caught up, to give it a vote. It tries
// them in turn until it has one, as votes tells, also if it has begun the cluster itself meanwhile, and begins anew if it was taken out; only a token that is wrong at all of them, or the end of ctx, ends it otherwise.
func (n *Node) join(ctx context.Context, votes func() bool) error {
	client := n.peerClient(joinCall)
	defer client.CloseIdleConnections()
	add := map[string]any{"id": n.cfg.ID, "address": n.advertisedRaft()}
	if n.cfg.ReplaceLost {
		add["replaceLost"] = true
	}
	steps := []joinStep{
		{"added", "operator/cluster/members", add},
		{"given a vote", "operator/cluster/members/" + n.cfg.ID + "/promote", struct{}{}},
	}
	peers, pause, told := n.peers(), joinPause, newTold(n)
	for i, at := 0, 0; i < len(steps) && !votes(); {
		var err error
		addr := ""
		if len(peers) > 0 {
			addr = peers[at%len(peers)]
			err = n.ask(ctx, client, http.MethodPost, addr, steps[i].path, steps[i].body, nil)
		}
		switch {
		case addr != "" && err == nil:
			n.log.LogAttrs(ctx, slog.LevelInfo, "joining gets on", slog.String("now", steps[i].what), slog.String("by", addr))
			i++
			pause, told = joinPause, newTold(n)
			continue
		case errors.Is(err, errNoMember):
			i = 0
		}
		told.tell(ctx, steps[i].what, addr, err)
		if told.all(errWrongToken, len(peers)) {
			return fmt.Errorf("join the cluster at %s: %w", strings.Join(peers, ", "), errWrongToken)
		}
		at++
		if !sleep(ctx, pause/2+rand.N(pause/2), votes) {
			return nil
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

// sleep waits for d, or until this node votes. It returns false if ctx ended.
func sleep(ctx context.Context, d time.Duration, votes func() bool) bool {
	const look = 50 * time.Millisecond
	for end := time.Now().Add(d); time.Now().Before(end) && !votes(); {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(look, d)):
		}
	}
	return ctx.Err() == nil
}

// told is what the nodes that are asked to take this one in have said, for /readyz and the log.
type told struct {
	node *Node
	said map[string]error // by address, what it said last
	was  map[string]string

	since  time.Time // there is a cluster, and it does not take this node in; zero: it waits for one
	goesOn seldom.Line
}

func newTold(n *Node) *told {
	return &told{node: n, said: make(map[string]error), was: make(map[string]string), goesOn: seldom.Line{Most: seldom.Changes}}
}

// all reports whether each of n nodes has said so last. One that has another token may be a stranger at an old address.
func (t *told) all(err error, n int) bool {
	for _, said := range t.said {
		if !errors.Is(said, err) {
			return false
		}
	}
	return n > 0 && len(t.said) == n
}

// tell puts what a node has said with what the others have: an answer that asks for somebody to act stands alone. Each is logged once.
func (t *told) tell(ctx context.Context, wanted, addr string, err error) {
	n := t.node
	if addr != "" {
		t.said[addr] = err
	}
	why, waits, decides := t.why(wanted, addr, err)
	n.joining.Store(&why)
	key := addr
	if decides {
		key = "" // whoever says it
	}
	text, level := why, t.level(waits)
	if waits && err != nil {
		text = err.Error()
	}
	text += level.String()
	if t.was[key] == text {
		return
	}
	t.was[key] = text
	switch {
	case decides:
		n.log.LogAttrs(ctx, slog.LevelWarn, "this node is not taken in: somebody has to act", slog.String("cause", toBeTyped(err, addr)))
	case waits && (err == nil || errors.Is(err, errNoCluster)):
		n.log.LogAttrs(ctx, slog.LevelInfo, "this node waits for a cluster", slog.String("asked", addr), slog.String("begin_with", strings.Trim(n.initCommand(), "'")))
	default:
		t.goesOn.Say(ctx, n.log, level, "joining goes on", slog.String("wanted", wanted), slog.String("asked", addr), slog.Any("error", err))
	}
}

// toBeTyped is what a node has said of what is to be done, which is done at that node: this one is in no cluster.
func toBeTyped(err error, at string) string {
	return hint.Complete(err.Error(), hint.URL+" http://"+at)
}

// level is that of what is in the way of joining: while a cluster begins, or elects, all nodes are turned away for a moment.
func (t *told) level(waits bool) slog.Level {
	switch {
	case waits:
		t.since = time.Time{}
	case t.since.IsZero():
		t.since = time.Now()
	case time.Since(t.since) > joinWarn:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// why is the reason for /readyz: whether it waits for a cluster of which nobody knows yet, or somebody has to act.
func (t *told) why(wanted, addr string, err error) (why string, waits, decides bool) {
	waits = wanted == "added"                             // so far nobody was in a cluster
	for _, at := range slices.Sorted(maps.Keys(t.said)) { // in one order: the same is told once
		e := t.said[at]
		var answered *answerError
		switch {
		case errors.Is(e, errOtherStore):
			return "join: " + toBeTyped(e, at), false, true
		case errors.As(e, &answered) && !errors.Is(e, errNoCluster):
			waits = false
		}
	}
	if !waits {
		return fmt.Sprintf("join: not %s yet: %s: %v", wanted, addr, err), false, false
	}
	said, mistaken := make([]string, 0, len(t.said)), 0
	for at, e := range t.said {
		said = append(said, fmt.Sprintf("%s: %v", at, e))
		if errors.Is(e, errNoNode) {
			mistaken++
		}
	}
	slices.Sort(said)
	if len(said) == 0 {
		said = []string{"--join names no other node"}
	}
	if mistaken > 0 { // who is not asked may know a cluster: it is no time to begin one
		return fmt.Sprintf("join: this node is in no cluster, and --join names what is no authority node (%s): start it with the addresses of the nodes' --http", strings.Join(said, "; ")), true, false
	}
	return fmt.Sprintf("join: this node is in no cluster, and none of the others has told of one (%s); it goes on asking. If there has been a cluster, start its other nodes; if there has been none, begin one: %s",
		strings.Join(said, "; "), t.node.initCommand()), true, false
}

// initCommand is what begins a cluster with this node.
func (n *Node) initCommand() string {
	return "'machineid cluster init --at " + n.cfg.AdvertiseHTTP + "'"
}

// answerError is an answer that refuses.
type answerError struct{ cause error }

func (e *answerError) Error() string { return e.cause.Error() }
func (e *answerError) Unwrap() error { return e.cause }

// ask makes one operators' call and decodes its answer into out, which may be nil.
func (n *Node) ask(ctx context.Context, client *http.Client, method, addr, path string, body, out any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a call: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+wire.Base+path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("make a call: %w", err)
	}
	if body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("Authorization", "Bearer "+string(n.cfg.OperatorToken))
	resp, err := client.Do(req)
	if err != nil {
		return notAsked(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, joinAnswerMax))
	switch {
	case err != nil:
		return notAsked(fmt.Errorf("read the answer: %w", err))
	case resp.StatusCode == http.StatusOK:
		return decodeAnswer(answer, out)
	case resp.StatusCode == http.StatusUnauthorized:
		return errWrongToken
	case resp.Header.Get(wire.NoClusterHeader) != "":
		return &answerError{errNoCluster}
	}
	var said struct{ Error, Message string }
	switch {
	case json.Unmarshal(answer, &said) != nil || said.Message == "":
		if who := dial.NoNode(resp.StatusCode); who != "" {
			return fmt.Errorf("it %s: %w", who, errNoNode)
		}
		return fmt.Errorf("it answers %s: is it the address of an authority node's --http?", resp.Status)
	case said.Error == wire.NotFound().Code:
		return fmt.Errorf("it is an edge, not an authority node: %w", errNoNode)
	case said.Error == wire.MemberNotFound("").Code:
		return fmt.Errorf("%w: %s", errNoMember, said.Message)
	case said.Error == wire.OtherStore("").Code:
		return &answerError{fmt.Errorf("%w: %s", errOtherStore, said.Message)}
	}
	return &answerError{errors.New(said.Message)}
}

// notAsked says why a call got no answer, in words for people, and whom it met if that is no node.
func notAsked(err error) error {
	if who := dial.Foreign(err); who != "" {
		return fmt.Errorf("it %s: %w", who, errNoNode)
	}
	if dial.HangsUp(err) {
		return dial.Reason(err)
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		err = call.Err // its address stands before it
	}
	return err
}

func (n *Node) advertisedRaft() string {
	if n.cfg.AdvertiseRaft != "" {
		return n.cfg.AdvertiseRaft
	}
	return n.cfg.Raft.Addr().String()
}
