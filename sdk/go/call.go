package machineid

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	// maxBody is more than a page of 10,000 devices with 4 KiB of metadata each.
	maxBody = 64 << 20
	// Backing off: at most backOff before the second attempt, then twice as much each time, a random part of it.
	backOff, mostBackOff = 100 * time.Millisecond, 2 * time.Second
	mostDoublings        = 5 // are beyond the most; 37 would be beyond what a time can hold
)

// call is a request and the rules for repeating it.
type call struct {
	method, path, query string
	handler             string   // who must have answered
	named               []string // the devices of which each result must tell; nil: no results are expected
	body                []byte   // nil for GET
	changes             bool
	retry               bool   // may be sent again after an unknown outcome
	requestID           string // of the attempt under way, or of the last one
	header              http.Header
}

// answer is a whole answer, whatever its status.
type answer struct {
	status int
	header http.Header
	body   []byte
	object Object // the body, once the answer is proved
}

func newTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               nil, // the environment's proxies must not see the key
		DialContext:         newDialer().dial,
		TLSClientConfig:     config,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     60 * time.Second, // the server closes after 75 s
	}
}

// shows reports whether the answer has a key. Its connection is not kept: net/http quotes what it finds on one that rests, as an answer that was sent twice, in
// the program's log.
func (k *call) shows() bool {
	switch k.path {
	case "org/create", "org/keys", "org/keys/rotate":
		return k.method == http.MethodPost
	}
	return false
}

func newCall(method, path string, body Object) *call {
	c := &call{method: method, path: path, handler: path, retry: true, header: http.Header{}}
	c.header.Set("Accept", "application/json")
	c.header.Set("Cache-Control", "no-store") // who keeps answers on the way shall keep none of these
	c.header.Set("User-Agent", "machineid-go/"+Version)
	if body != nil {
		c.header.Set("Content-Type", "application/json")
	}
	return c
}

// make calls until there is an answer that judge accepts, an error that trying again cannot mend, or no more time.
func (c *Client) make(ctx context.Context, k *call, judge func(*answer) error) error {
	if c == nil || c.transport == nil {
		return invalid("the client was not made by New or FromEnv")
	}
	ctx, cancel := context.WithTimeout(given(ctx), c.timeout)
	defer cancel()
	header := k.header.Clone()
	if key := c.key.Load(); key != nil {
		header.Set("X-Org-Key", key.text)
	}
	outcome := NotDone
	for attempt := 1; ; attempt++ {
		failed := c.attempt(ctx, k, header, attempt, judge)
		if failed == nil {
			return nil
		}
		if failed.Refused && decided[failed.Code] {
			outcome = failed.Outcome
		} else {
			outcome = outcome.worse(failed.Outcome)
		}
		failed.Outcome = outcome
		mendable := !failed.Refused && failed.Code != "redirected" && failed.Code != "cancelled"
		if attempt > c.retries || !mendable || !k.retry && outcome != NotDone {
			return failed
		}
		pause := upTo(backingOff(attempt))
		if failed.RetryAfter > 0 {
			pause = failed.RetryAfter + upTo(failed.RetryAfter/4)
		}
		if end, _ := ctx.Deadline(); time.Until(end) <= pause {
			return failed
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return failed
		}
	}
}

// given is a context, also where none was given: a program that ends by it would let nobody say no.
func given(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// backingOff is the longest pause after an attempt, the first of which is 1.
func backingOff(attempt int) time.Duration {
	return min(backOff<<min(attempt-1, mostDoublings), mostBackOff)
}

// upTo is a random part of a time.
func upTo(most time.Duration) time.Duration {
	return time.Duration(mrand.Int64N(int64(most) + 1))
}

// attempt sends the request once and judges the answer.
func (c *Client) attempt(ctx context.Context, k *call, header http.Header, attempt int, judge func(*answer) error) *Error {
	k.requestID = rand.Text() // what an earlier attempt was answered is no answer to this one
	header.Set("X-Request-Id", k.requestID)
	whole := ctx
	if k.path == pathValidate && attempt <= c.retries {
		// The server answers validate within 1 s. Half of the time is kept for another connection, should this one lead nowhere.
		end, _ := ctx.Deadline()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(2*time.Second, time.Until(end)/2))
		defer cancel()
	}
	a, sent, err := c.exchange(ctx, k, header)
	if err == nil {
		if err = k.prove(a); err == nil {
			err = judge(a)
		}
		if err == nil {
			return nil
		}
		return explain(k, a, err)
	}
	failed := &Error{Code: "connection_failed", Message: err.Error(), RequestID: k.requestID, Outcome: NotDone, cause: err}
	if sent && k.changes {
		failed.Outcome = Unknown
	}
	if ended := whole.Err(); ended != nil && !errors.Is(err, ended) {
		failed.cause = errors.Join(ended, err) // net/http has told the context's cause alone
	}
	switch {
	case errors.Is(whole.Err(), context.Canceled):
		failed.Code, failed.Message = "cancelled", "the call was given up"
	case ctx.Err() != nil:
		failed.Code, failed.Message = "timeout", "out of time"
		c.transport.CloseIdleConnections() // after one has timed out the others may lead nowhere as well
	case a != nil:
		failed.Code = "broken_answer"
	}
	return failed
}

// exchange returns a whole answer. sent: the server may have seen the request. An answer beside an error has only its head.
func (c *Client) exchange(ctx context.Context, k *call, header http.Header) (a *answer, sent bool, err error) {
	var connected atomic.Bool // another goroutine may still say so when the round trip is over
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	url := c.baseURL + "/api/v1/" + k.path + k.query
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), k.method, url, body)
	if err != nil {
		return nil, false, fmt.Errorf("make a request to %s: %w", c.baseURL, err)
	}
	req.Header = header.Clone()
	req.Close = k.shows()
	if k.path == pathValidate || k.path == pathValidateBatch {
		req.Header["X-Idempotency-Key"] = nil // not sent: tells net/http that a connection closed while it rested may be replaced
	}
	resp, err := c.transport.RoundTrip(req) // not a http.Client: that would follow redirects
	if err != nil {
		return nil, connected.Load(), fmt.Errorf("call %s: %w", c.baseURL, err)
	}
	defer func() { _ = resp.Body.Close() }()
	a = &answer{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode < http.StatusOK {
		return a, true, fmt.Errorf("%s wants to speak another protocol: HTTP %d", c.baseURL, resp.StatusCode) // its body ends with no context
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return a, true, fmt.Errorf("read the answer of %s: %w", c.baseURL, err)
	}
	if len(a.body) > maxBody {
		return a, true, fmt.Errorf("the answer of %s is larger than %d bytes", c.baseURL, maxBody)
	}
	return a, true, nil
}

// mostRetryAfter is the longest that Retry-After counts for. A call never waits beyond its time in any case.
const mostRetryAfter = 365 * 24 * time.Hour

// retryAfter reads the header's form in seconds; the server does not use the one with a date.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(min(seconds, uint64(mostRetryAfter/time.Second))) * time.Second
}

// sound refuses texts that encoding/json would change, and what is nested too deep, or within itself, before it would be followed.
func sound(v any, depth int) error {
	if depth == 0 {
		return errors.New("it is nested too deep")
	}
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return fmt.Errorf("%q is no UTF-8", v)
		}
	case Object:
		for name, one := range v {
			if err := cmp.Or(sound(name, depth), sound(one, depth-1)); err != nil {
				return err
			}
		}
	case []any:
		for _, one := range v {
			if err := sound(one, depth-1); err != nil {
				return err
			}
		}
	case []string:
		for _, one := range v {
			if err := sound(one, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func encode(body Object) ([]byte, error) {
	if err := sound(body, maxDepth); err != nil {
		return nil, invalid("%v", err)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, invalid("it cannot be sent as JSON: %v", err)
	}
	// What sound did not look into, such as structs: in the place of bytes that are no UTF-8 encoding/json puts this escape, and that character itself it leaves.
	if replaced.Match(text) {
		return nil, invalid("a text in it is no UTF-8")
	}
	return text, nil
}

// replaced finds the escape of U+FFFD, with no escaped backslash in front.
var replaced = regexp.MustCompile(`(^|[^\\])(\\\\)*\\ufffd`)
