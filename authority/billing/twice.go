package billing

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// twice keeps which orgs pay for more than one subscription, as far as was seen: for the metric, and so that the log says it once of each.
type twice struct {
	mu   sync.Mutex
	orgs map[state.OrgID]string // the others, by name
}

// noteTwice notes what a look at Stripe showed of an org.
func (s *Service) noteTwice(ctx context.Context, org state.OrgID, counts *statepb.Subscription, others []*statepb.Subscription) {
	names := strings.Join(each(others), "; ")
	s.twice.mu.Lock()
	was := s.twice.orgs[org]
	if names == "" {
		delete(s.twice.orgs, org)
	} else {
		s.twice.orgs[org] = names
	}
	s.metrics.twice.Set(float64(len(s.twice.orgs)))
	s.twice.mu.Unlock()
	if names != "" && names != was {
		s.log.LogAttrs(ctx, slog.LevelError, "an org pays for more than one subscription: at Stripe, cancel and refund what it did not want",
			slog.String("org", org.String()), slog.String("counts", words(counts)), slog.String("others", names))
	}
}

// Forget drops what is known of orgs that pay more than once: for a node that does not lead any more, and is not told when that ends.
func (s *Service) Forget() {
	s.twice.mu.Lock()
	defer s.twice.mu.Unlock()
	clear(s.twice.orgs)
	s.metrics.twice.Set(0)
}

// Gone drops what is known of an org that was deleted.
func (s *Service) Gone(ctx context.Context, org state.OrgID) { s.noteTwice(ctx, org, nil, nil) }
