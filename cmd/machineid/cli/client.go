package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	exact "github.com/go-json-experiment/json"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/dial"
	"machineid/shared/wire"
)

// operatorClient makes operators' calls.
type operatorClient struct {
	urls  []string
	token string
	org   string // the org that calls are made for; "": operators' own calls
	http  *http.Client
	notes io.Writer
	// rehearses has every call fail before it is made: what a command judges by itself is judged by then.
	rehearses bool
}

var errRehearsed = errors.New("it would be called")

// Times of one call.
const (
	operatorCall  = 12 * time.Second       // the call's own 8 s, and the way
	operatorShare = 500 * time.Millisecond // the least that one address has, if there is as much
	operatorPause = 200 * time.Millisecond
	answerMax     = 64 << 20
)

func (f *operatorFlags) client() *operatorClient {
	return &operatorClient{urls: f.urls, token: string(f.token), notes: f.notes, rehearses: f.rehearses, http: &http.Client{
		Timeout:       operatorCall,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
		Transport:     operatorTransport,
	}}
}

// operatorTransport is the usual one, but for how long connecting may take, and that it knows no proxy: those of the environment must not see the token.
var operatorTransport = &http.Transport{
	Proxy: nil, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: operatorCall,
	DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if share, ok := ctx.Value(shareKey{}).(time.Duration); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, share)
			defer cancel()
		}
		conn, err := dial.Context(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &dial.Asking{Conn: conn}, nil
	},
}

// shareKey is where a call's context says how long connecting may take.
type shareKey struct{}

// errNotConnected says that no connection was made.
var errNotConnected = errors.New("not connected")

// attempts is one call, however often it is tried.
type attempts struct {
	client       *operatorClient
	method, path string
	body, out    any
	key          string // its Idempotency-Key
	// rank is how poor an answer is: one above 0 is taken only if no address has a better one; nil: each is good.
	rank func(raw []byte) int

	unknown error          // of an attempt that may have been done
	last    error          // of one that surely was not
	told    error          // of the newest that said why, which one that only took too long does not
	said    []attemptError // of each address that was asked, in their order: why it did not do it, the newest time
	pause   time.Duration  // before the next round
	second  []byte         // the best poor answer of this round
}

// errPoor says that another address may have a better answer.
var errPoor = errors.New("a better answer is looked for")

// call makes one call and decodes its answer into out, which may be nil. What was surely not done it tries again until ctx ends, at the other nodes too, and so
// what may have been done if that is safe. Each address has its share of the time. One that takes another token is another cluster's, or its node was
// started with another; one may be no authority node at all: the next ones are asked, and if nobody is left all is told that they have said.
func (c *operatorClient) call(ctx context.Context, method, path string, body, out any) error {
	if err := sound(body); err != nil {
		return err
	}
	if c.rehearses {
		return errRehearsed
	}
	return c.try(ctx, &attempts{method: method, path: path, body: body, out: out})
}

// sound refuses what cannot be sent as it was meant. Arguments and flags were judged before: this holds what else may come into a call.
func sound(body any) error {
	// encoding/json would put another character in the place of what is no UTF-8, and so name another device.
	if _, err := exact.Marshal(body); err != nil {
		return usageError{errors.New("a name in the call is no text in UTF-8: " + config.NoText)}
	}
	return nil
}

func (c *operatorClient) try(ctx context.Context, a *attempts) error {
	a.client, a.key = c, rand.Text()
	w := c.wait(ctx)
	defer w.end()
	for {
		a.pause = operatorPause
		done, err := a.round(ctx, w)
		if done {
			return err
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < a.pause {
			return a.givenUp(ctx)
		}
		select {
		case <-ctx.Done():
			return a.givenUp(ctx)
		case <-time.After(a.pause):
		}
	}
}

// attemptError is what came of an attempt at an address.
type attemptError struct {
	base string
	error
}

func (e *attemptError) Error() string { return fmt.Sprintf("%s: %v", e.base, reason(e.error)) }
func (e *attemptError) Unwrap() error { return e.error }

// givenUp is what is known when the time is up.
func (a *attempts) givenUp(ctx context.Context) error {
	if a.unknown != nil {
		return unavailableError{a.because(a.unknown)}
	}
	if a.told != nil && tookTooLong(a.last) { // the end of the time cut it off
		a.last = a.told
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return unavailableError{fmt.Errorf("not done, it was stopped before: %w", a.last)}
	}
	if errors.Is(a.last, errNotConnected) {
		return unavailableError{a.nobodyThere()}
	}
	return unavailableError{fmt.Errorf("not done: %w", a.last)}
}

// nobodyThere is what is said where the last address had nobody: of several each with what it said last, since the last one alone says little.
func (a *attempts) nobodyThere() error {
	if len(a.said) < 2 {
		return fmt.Errorf("not done: %w; is a node running there? Others are named in --operator-url", a.last)
	}
	return fmt.Errorf("not done: %s; are the nodes running?", byCause(a.said))
}

// because adds to what is not known what was said before the time was up.
func (a *attempts) because(unknown error) error {
	if a.told == nil || strings.Contains(unknown.Error(), a.told.Error()) || strings.HasSuffix(unknown.Error(), reason(errors.Unwrap(a.told)).Error()) {
		return unknown
	}
	return fmt.Errorf("%w; before that, %w", unknown, a.told)
}

// tookTooLong reports whether an attempt says nothing but that its time was up.
func tookTooLong(err error) bool {
	return reason(err).Error() == reason(context.DeadlineExceeded).Error() && !errors.Is(err, errNotConnected)
}

// round asks each address once. done says that there is no sense in another round.
func (a *attempts) round(ctx context.Context, w *waiting) (done bool, err error) {
	urls := a.client.urls
	var stranger error
	said, ours := make([]attemptError, 0, len(urls)), false
	for i, base := range urls {
		w.asks(base)
		err := a.within(ctx, len(urls)-i, base)
		refused, _ := errors.AsType[*refusedError](err)
		strange, _ := errors.AsType[strangerError](err)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, errPoor):
			continue
		case strange.error != nil, refused != nil && refused.status == http.StatusUnauthorized:
			stranger = err
		case refused != nil && refused.status == http.StatusTooManyRequests:
			ours, a.last, a.pause = true, fmt.Errorf("%s: %w", base, err), max(a.pause, refused.retryAfter)
		case a.unknown != nil && a.method == http.MethodDelete && refused != nil && refused.Code == "member_not_found":
			return true, nil // an attempt before did it
		case refused != nil && refused.status < http.StatusInternalServerError:
			return true, err
		case a.surelyNotDone(err):
			ours, a.last = ours || refused != nil, &attemptError{base, err}
		default:
			a.unknown = fmt.Errorf("%s: whether it was done is not known; look, and do it again if need be: %w", base, reason(err))
			if !a.safe() {
				if others := slices.Concat(urls[:i], urls[i+1:]); len(others) > 0 {
					a.unknown = fmt.Errorf("%w; it may still be done, so others were not asked: once you have looked, do it again with --operator-url %s", a.unknown, strings.Join(others, ","))
				}
				return true, unavailableError{a.because(a.unknown)}
			}
			ours = ours || refused != nil
		}
		if !tookTooLong(err) {
			a.told = &attemptError{base, err}
		}
		w.failed(base, reason(err))
		said = append(said, attemptError{base, err})
		a.hear(attemptError{base, err})
	}
	switch {
	case a.second != nil:
		return true, a.decode(a.second)
	case stranger == nil || ours: // who is ours may serve in a moment
		return false, nil
	case a.unknown != nil:
		return true, unavailableError{a.unknown}
	case len(urls) == 1:
		if _, ok := errors.AsType[strangerError](stranger); ok {
			return true, fmt.Errorf("%s %w", urls[0], stranger)
		}
		return true, stranger
	}
	return true, &nobodyError{said, stranger}
}

// hear keeps what an address said last. That its time was up takes the place of nothing that says more.
func (a *attempts) hear(one attemptError) {
	i := slices.IndexFunc(a.said, func(e attemptError) bool { return e.base == one.base })
	switch {
	case i < 0:
		a.said = append(a.said, one)
	case !tookTooLong(one.error):
		a.said[i] = one
	}
}

// nobodyError says that no address takes the token.
type nobodyError struct {
	said []attemptError
	error
}

func (e *nobodyError) Error() string {
	return "no address takes the operator's token: " + byCause(e.said)
}

// byCause has what several say alike once.
func byCause(said []attemptError) string {
	var whys []string
	bases := map[string][]string{}
	for _, one := range said {
		why := reason(one.error).Error()
		if bases[why] == nil {
			whys = append(whys, why)
		}
		bases[why] = append(bases[why], one.base)
	}
	for i, why := range whys {
		whys[i] = strings.Join(bases[why], ", ") + ": " + why
	}
	return strings.Join(whys, "; ")
}

func (e *nobodyError) Unwrap() error { return e.error }

// safe reports whether a call may be sent again though it may have been done: it changes nothing, it is done once (an org remembers Idempotency-Keys, the
// operator's token takes the place of one only), or it only takes rights away. Nothing else is: what gives rights, done so late by a node that hung, would undo an off switch that has returned.
func (a *attempts) safe() bool {
	if a.method == http.MethodGet || a.path == tokenPath || stops(a.path, a.body) {
		return true
	}
	if a.method == http.MethodDelete { // of a member, which is taken out
		return true
	}
	return a.client.org != "" && a.path != "org/delete"
}

// stops reports whether a call takes rights away, and does the same however often it is done.
func stops(path string, body any) bool {
	set, _ := body.(map[string]any)
	switch {
	case path == "devices/revoke", path == "devices/revoke_batch", path == "org/keys/revoke":
		return true
	case path == "org/execution":
		return set["enabled"] == false
	case strings.HasPrefix(path, orgsPath):
		return stopsOrg(set)
	}
	return false
}

// stopsOrg reports whether all that is changed of an org is a hold, no device at all, or an end of access that has come.
func stopsOrg(set map[string]any) bool {
	for name, value := range set {
		switch name {
		case "hold":
			if value != true {
				return false
			}
		case "limit":
			if value != uint64(0) {
				return false
			}
		case "accessUntil":
			text, _ := value.(string)
			if at, err := time.Parse(time.RFC3339, text); err != nil || at.After(time.Now()) {
				return false
			}
		default:
			return false
		}
	}
	return len(set) > 0
}

// surelyNotDone reports whether an attempt that failed was surely not done.
func (a *attempts) surelyNotDone(err error) bool {
	if refused, ok := errors.AsType[*refusedError](err); ok && refused.Outcome != "" {
		return refused.Outcome == wire.OutcomeNotDone
	}
	// A call that got no answer may have been done, or one that a balancer answered, unless it only asks or nobody was there.
	return a.method == http.MethodGet || errors.Is(err, errNotConnected)
}

// within is once in the share that one address of so many has of the time left. What it is not safe to repeat keeps its time once it is sent: it would not be
// known whether it was done.
func (a *attempts) within(ctx context.Context, addresses int, base string) error {
	if end, ok := ctx.Deadline(); ok {
		share := max(time.Until(end)/time.Duration(addresses), operatorShare)
		ctx = context.WithValue(ctx, shareKey{}, share)
		if a.safe() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, share)
			defer cancel()
		}
	}
	return a.once(ctx, base)
}

func (a *attempts) once(ctx context.Context, base string) error {
	var content io.Reader = http.NoBody
	if a.body != nil {
		raw, err := json.Marshal(a.body)
		if err != nil {
			return fmt.Errorf("encode the call: %w", err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, a.method, base+wire.Base+a.path, content)
	if err != nil {
		return fmt.Errorf("make the call: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+a.client.token)
	req.Header.Set("X-Request-Id", rand.Text())
	req.Header.Set("Cache-Control", "no-store")
	if a.client.org != "" {
		req.Header.Set("X-MachineID-Org", a.client.org)
	}
	if a.method != http.MethodGet {
		req.Header.Set("Idempotency-Key", a.key)
	}
	var connected atomic.Bool // another goroutine may still say so when the call is over
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := a.client.http.Do(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		if foreign := foreignSpeech(err); foreign != nil {
			return foreign
		}
		if !connected.Load() {
			return fmt.Errorf("%w: %w", errNotConnected, err)
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return a.take(resp, raw, req.Header.Get("X-Request-Id"))
}

// take judges an answer, and decodes it if it is one of success.
func (a *attempts) take(resp *http.Response, raw []byte, id string) error {
	if err := refusedBy(resp, raw, a.path, id); err != nil {
		if refused, ok := errors.AsType[*refusedError](err); ok {
			refused.org = a.org()
			refused.body, _ = a.body.(map[string]any)
		}
		return err
	}
	if a.rank != nil && a.rank(raw) > 0 {
		if a.second == nil || a.rank(raw) < a.rank(a.second) {
			a.second = raw
		}
		return errPoor
	}
	return a.decode(raw)
}

// org is the org that the call is for, "" if it is for none.
func (a *attempts) org() string {
	if a.client.org != "" {
		return a.client.org
	}
	escaped, _ := strings.CutPrefix(a.path, orgsPath)
	id, _ := url.PathUnescape(escaped) // it was escaped by this program
	if id == a.path {
		return ""
	}
	return id
}

func (a *attempts) decode(raw []byte) error {
	if a.out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, a.out); err != nil {
		return unreadable(err)
	}
	return nil
}
