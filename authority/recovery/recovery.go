// Package recovery mails an org that pays a link by which it gets a new admin key.
//
// What it guarantees: who asks cannot tell from the answer, nor from its time, whether an address is known: everything that depends on it
// is done later, by Run. A token is good once, for 15 minutes; only its hash is kept. An address is mailed at most three times
// at once and three times an hour, and a client's address heard as often; who floods it shuts nobody out.
package recovery

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"machineid/authority/mail"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/seldom"
)

// TTL is how long a token is good.
const TTL = 15 * time.Minute

const (
	perHour   = 3   // of an address of either kind
	queueMax  = 256 // what waits to be done; the rest is dropped
	workTime  = time.Minute
	tokenSize = 32
)

// Config is what a Service needs. Without Send or PublicURL nobody is mailed.
type Config struct {
	// Customers returns Stripe's customers of a mail address.
	Customers func(ctx context.Context, address string) ([]string, error)
	// View runs f on a view that holds all that was acknowledged before.
	View func(ctx context.Context, f func(state.Reader) error) error
	// Propose runs a command on behalf of whoever asked.
	Propose func(ctx context.Context, by Asker, c *statepb.BeginRecovery) (state.Outcome, error)
	Send    mail.Sender
	// PublicURL is what the link begins with; never what a request says of itself.
	PublicURL string
	Now       func() time.Time // nil is time.Now
	Logger    *slog.Logger
}

// Asker is where a request came from, and its id: for the audit.
type Asker struct{ Address, RequestID string }

// Service takes requests. It is safe for concurrent use.
type Service struct {
	cfg    Config
	log    *slog.Logger
	queue  *queue
	limits *limits

	dropped, failed, mute seldom.Line
}

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, log: cfg.Logger, queue: newQueue(), limits: newLimits(cfg.Now())}
}

// Ask has an address mailed later, if it is one that is known. It never waits, and does the same for every address.
func (s *Service) Ask(address string, by Asker) {
	now := s.cfg.Now()
	address, ok := mail.Plain(address)
	if !s.limits.client(by.Address, now) || !ok || !s.limits.mail(address, now) {
		return
	}
	if dropped, full := s.queue.put(ask{address, siteOf(by.Address), by}); full {
		s.limits.settle(dropped.address, now, false) // so that who asks again is heard
		s.dropped.Say(context.Background(), s.log, slog.LevelWarn, "a recovery was dropped: too many wait", slog.Int("waiting", queueMax))
	}
}

// Run does what was asked for, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.queue.more:
		}
		for a, ok := s.queue.take(); ok && ctx.Err() == nil; a, ok = s.queue.take() {
			work, cancel := context.WithTimeout(ctx, workTime)
			err := s.mail(work, a)
			if err != nil && ctx.Err() == nil {
				s.failed.Say(ctx, s.log, slog.LevelWarn, "a recovery failed: who asked has to ask again", slog.Any("error", err))
			}
			cancel()
			s.limits.settle(a.address, s.cfg.Now(), err == nil)
		}
	}
}

// mail looks for the orgs of an address and mails a link for each.
func (s *Service) mail(ctx context.Context, a ask) error {
	if s.cfg.Send == nil || s.cfg.PublicURL == "" {
		s.mute.Say(ctx, s.log, slog.LevelWarn, "a recovery was asked for, and no mail can be sent: set --smtp-address, --smtp-from and --public-url")
		return nil
	}
	customers, err := s.cfg.Customers(ctx, a.address)
	if err != nil {
		return err
	}
	for _, customer := range customers {
		var org state.OrgID
		err := s.cfg.View(ctx, func(r state.Reader) (err error) {
			org, err = r.OrgOfCustomer(customer)
			return err
		})
		if err != nil {
			return err
		}
		if org == (state.OrgID{}) {
			continue
		}
		if err := s.begin(ctx, a, org); err != nil {
			return err
		}
	}
	return nil
}

// begin notes a token and mails it.
func (s *Service) begin(ctx context.Context, a ask, org state.OrgID) error {
	token := make([]byte, len(org)+tokenSize)
	copy(token, org[:])
	_, _ = rand.Read(token[len(org):]) // never fails
	hash := sha256.Sum256(token)
	out, err := s.cfg.Propose(ctx, a.by, &statepb.BeginRecovery{OrgId: org[:], TokenHash: hash[:], TtlSeconds: int64(TTL / time.Second)})
	switch {
	case err != nil:
		return fmt.Errorf("begin the recovery of org %s: %w", org, err)
	case out.Refusal != state.Granted:
		return nil // it has gone meanwhile
	}
	name := out.Org.GetName()
	if name == "" {
		name = org.String()
	}
	return s.cfg.Send.Send(ctx, mail.Message{
		To: a.address, Subject: "A new admin key for your MachineID org",
		Text: fmt.Sprintf("Somebody asked for a new admin key of the org %s, which pays with this mail address.\n\n"+
			"If it was you, open this link within 15 minutes. It works once:\n\n%s/recover#%s\n\n"+
			"The org's other keys stay as they are. If it was not you, do nothing: without the link nothing happens.\n",
			name, strings.TrimSuffix(s.cfg.PublicURL, "/"), base64.RawURLEncoding.EncodeToString(token)),
	})
}

// Parse takes a token apart: whose it is, and the hash by which it is known. ok is false for what never was one.
func Parse(token string) (org state.OrgID, hash [32]byte, ok bool) {
	token = strings.TrimSpace(token)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != len(org)+tokenSize || strings.ContainsAny(token, "\r\n") { // line ends are skipped when it is decoded
		return state.OrgID{}, hash, false
	}
	org = state.OrgID(raw[:len(org)])
	return org, sha256.Sum256(raw), org != (state.OrgID{})
}
