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

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/link"
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
	_, _, err = n.Propose(ctx, &statepb.Command{
		TimeMs: n.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: n.cfg.ID},
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
// disk before the state that needs it is written.
func (n *Node) operatorToken(ctx context.Context) (string, error) {
	if n.cfg.OperatorToken != "" {
		return string(n.cfg.OperatorToken), nil
	}
	path := filepath.Join(n.cfg.Dir, OperatorTokenFile)
	if b, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(b)), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the operator's token: %w", err)
	}
	token := rand.Text() + rand.Text()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep the operator's token: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("keep the operator's token: %w", err)
	}
	n.log.LogAttrs(ctx, slog.LevelInfo, "made an operator's token", slog.String("file", path))
	return token, nil
}

// HasState reports whether a data folder holds a node's state.
func HasState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, storeDir))
	return err == nil
}

// storeDir is the folder of the replicated state in the data folder.
const storeDir = "store"
