package authority

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"machineid/authority/api"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/link"
	"machineid/shared/place"
)

// Secret is a string that no log shows.
type Secret string

// LogValue hides the secret (slog.LogValuer).
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// String hides the secret.
func (Secret) String() string { return "***" }

// MinOperatorToken is the least length of an operator's token.
const MinOperatorToken = 32

// OperatorTokenFile is where a token that was made at bootstrap is kept, in the
// data folder.
const OperatorTokenFile = "operator-token"

// seedRetry is the pause between attempts to write the first state.
const seedRetry = 500 * time.Millisecond

// begin writes a new cluster's first state, and tries until that is done or ctx ends: nothing else would try again before the next
// election, and a cluster of one holds none.
func (n *Node) begin(ctx context.Context) bool {
	defer n.seeding.Store(nil)
	said := ""
	for tried := false; ; tried = true {
		err := n.seed(ctx)
		if err == nil {
			return true
		}
		why := fmt.Sprintf("state: the cluster's first state could not be written, and it is tried again: %v", err)
		n.seeding.Store(&why)
		if tried && said != why { // the first attempt may come before the clocks are compared
			n.log.LogAttrs(ctx, slog.LevelError, "the cluster's first state could not be written; it is tried again", slog.Any("error", err))
			said = why
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(seedRetry):
		}
	}
}

// seed writes a new cluster's first state. It does nothing where one exists.
func (n *Node) seed(ctx context.Context) error {
	if n.state.Cluster() != nil {
		return nil
	}
	token, err := n.operatorToken(ctx)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(token))
	hashKey, incarnation := make([]byte, link.HashKeySize), state.NewIncarnation(nil, n.cfg.Wall())
	_, _ = rand.Read(hashKey) // never fails
	by := api.Asker{Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: n.cfg.ID}}
	if asked := n.begunBy.Load(); asked != nil {
		by = *asked
	}
	_, _, err = n.Propose(ctx, &statepb.Command{
		TimeMs: n.Now(), Actor: by.Actor, Address: by.Address, RequestId: by.RequestID,
		Change: &statepb.Command_Seed{Seed: &statepb.Seed{
			Cluster: &statepb.Cluster{
				ClusterId: n.store.Cluster(), Incarnation: incarnation, HashKey: hashKey, OperatorTokenHash: hash[:],
			},
			Plans: plans(n.cfg.Plans, n.cfg.GraceDays),
		}},
	})
	return err
}

// Plan is a tier, and how many devices an org in it may have.
type Plan struct {
	Tier  string
	Limit uint32
}

// usualPlans are those of docs/api.md.
var usualPlans = []Plan{{state.FreeTier, 3}, {"pro", 25}, {"scale", 250}, {"max", 1000}}

// plans are the tiers that a new cluster begins with.
func plans(given []Plan, graceDays *uint32) *statepb.Plans {
	p := &statepb.Plans{GraceDays: 7}
	if graceDays != nil {
		p.GraceDays = *graceDays
	}
	if given == nil {
		given = usualPlans
	}
	for _, one := range given {
		p.Plans = append(p.Plans, &statepb.Plan{Tier: one.Tier, Limit: one.Limit})
	}
	return p
}

// operatorToken returns the token that was given, or one of its own, which is on
// disk before the state that needs it is written. What is too short to be one is
// what a crash left of it: no state knows it yet, so nobody can need it.
func (n *Node) operatorToken(ctx context.Context) (string, error) {
	if n.cfg.OperatorToken != "" {
		return string(n.cfg.OperatorToken), nil
	}
	path := filepath.Join(n.cfg.Dir, OperatorTokenFile)
	b, err := os.ReadFile(path)
	switch token := strings.TrimSpace(string(b)); {
	case err == nil && len(token) >= MinOperatorToken && !strings.Contains(token, "\x00"): // a crash may leave zeros
		return token, nil
	case err == nil:
		n.log.LogAttrs(ctx, slog.LevelWarn, "the operator's token in the data folder is not whole, as a crash may leave it: it is made anew",
			slog.String("file", path), slog.Int("characters", len(token)))
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the operator's token: %w", err)
	}
	token := rand.Text() + rand.Text()
	if err := WriteSecret(path, token); err != nil {
		return "", fmt.Errorf("keep the operator's token: %w", err)
	}
	n.log.LogAttrs(ctx, slog.LevelInfo, "made an operator's token", slog.String("file", path))
	return token, nil
}

// WriteSecret makes a file of one line that only its owner can read, or replaces one, where links lead, with its mode but for what others might. When it returns, the file is on the
// disk; a crash before leaves all of it, or what was there.
func WriteSecret(path, secret string) error {
	at, err := place.Of(path)
	if err != nil {
		return err
	}
	tmp := at + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(secret + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return place.Take(tmp, at, place.Secret)
}

// HasState reports whether a data folder holds a node's state, or one is to come
// there, by a restore or a recovery that was cut.
func HasState(dir string) bool { return raftstore.HasFolder(filepath.Join(dir, storeDir)) }

// storeDir is the folder of the replicated state in the data folder.
const storeDir = "store"
