package load

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// UnavailableError says that a target could not be reached, or could not serve.
type UnavailableError struct{ error }

// Unwrap returns what it is about.
func (u UnavailableError) Unwrap() error { return u.error }

// How long preparing and cleaning up try each call, and how often.
const (
	patience = 20 * time.Second
	pause    = 100 * time.Millisecond
)

// patiently calls f again while it says so, as long as it is worth it.
func patiently(ctx context.Context, f func() (again bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		again, err := f()
		if err == nil || !again {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// insist makes a call that may be repeated until it has an answer that is final. The error says what to do about one other than success.
func insist(ctx context.Context, c *Conn, method, path string, who credential, body []byte) (answer, error) {
	var a answer
	foreign := 0
	err := patiently(ctx, func() (bool, error) {
		a = c.call(method, path, who, body)
		if a.ok() {
			return false, nil
		}
		err := c.explain(path, a)
		foreigner := takesAnotherToken(a) && foreign < len(c.others)
		if foreigner {
			foreign++
		}
		if foreigner || a.status == 0 || a.status == http.StatusServiceUnavailable { // gone, or in no cluster any more
			c.elsewhere()
		}
		return foreigner || (a.status == 0 && a.code != codeNoAnswer) || a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable, err
	})
	return a, err
}

// takesAnotherToken reports whether an answer is that of another cluster: one of the other addresses may be of this one.
func takesAnotherToken(a answer) bool { return string(a.text("error")) == "invalid_operator_token" }

// redirect makes another target the connection's.
func (c *Conn) redirect(to *Target) {
	if c.to != to {
		c.Close()
		c.to = to
	}
}

// elsewhere makes the next of the others the connection's target, if there are any.
func (c *Conn) elsewhere() {
	if n := len(c.others); n > 0 {
		c.redirect(c.others[(slices.Index(c.others, c.to)+1)%n])
	}
}

// explain says what went wrong, where, and what to do.
func (c *Conn) explain(what string, a answer) error {
	at := c.to.URL
	switch {
	case a.code == codeRefused:
		return UnavailableError{fmt.Errorf("%s: nobody listens at %s: start it, or correct the address", what, at)}
	case a.code == codeTimeout:
		return UnavailableError{fmt.Errorf("%s: %s does not answer within %v: look whether it is overloaded, stopped or behind a firewall", what, at, c.timeout)}
	case a.status == 0:
		return UnavailableError{fmt.Errorf("%s: %s: %w", what, at, c.last)}
	}
	message := string(a.text("message"))
	switch a.code.String() {
	case "invalid_operator_token":
		return fmt.Errorf("%s: %s refuses the operator's token: give the one of this cluster in --operator-token-file", what, at)
	case "signup_closed":
		return fmt.Errorf("%s: %s lets only an operator make orgs: give --operator-url and --operator-token-file", what, at)
	case "device_limit_reached":
		return fmt.Errorf("%s: the org at %s has as many devices as it may: give --operator-url and --operator-token-file, or fewer --devices", what, at)
	case "rate_limited":
		return UnavailableError{fmt.Errorf("%s: %s allows no more such calls for now: give fewer --orgs, or --operator-url and --operator-token-file", what, at)}
	case "invalid_org_key", "INVALID_ORG_KEY", "org_not_found", "ORG_NOT_FOUND", "insufficient_scope":
		return fmt.Errorf("%s: %s refuses the key of an org that this run has just made (%v): do --target and --operator-url name the same cluster?", what, at, a.code)
	case "SYSTEM_UNAVAILABLE", "system_unavailable":
		return UnavailableError{fmt.Errorf("%s: %s is unavailable: %s: look at its /readyz", what, at, message)}
	}
	if message == "" {
		message = a.code.String()
	}
	return fmt.Errorf("%s: %s answers HTTP %d: %s", what, at, a.status, message)
}

// progress shows how far something is until it has ended.
func (w *World) progress(what string, done *atomic.Int64, total int, ended <-chan struct{}) {
	show := w.cfg.Progress
	if show == nil {
		<-ended
		return
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			show(what, int(done.Load()), total)
		case <-ended:
			show(what, int(done.Load()), total)
			return
		}
	}
}
