package machineid

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The environment that FromEnv and New look at, and where a client turns to without it.
const (
	OrgKeyEnv      = "MACHINEID_ORG_KEY"
	BaseURLEnv     = "MACHINEID_BASE_URL"
	DefaultBaseURL = "http://127.0.0.1:8080"
)

const (
	defaultTimeout = 10 * time.Second
	defaultRetries = 2
	longest        = 50 * 365 * 24 * time.Hour // that any time may be: three of them together are a time still
)

// Config is what a client needs.
type Config struct {
	// OrgKey: agents carry the agent key; calls that change who may run need the admin key.
	OrgKey string
	// BaseURL: without it MACHINEID_BASE_URL counts, then http://127.0.0.1:8080.
	BaseURL string
	// Timeout is for a whole call with all its attempts, 10 s by default. The server may take 9 s for a change.
	Timeout time.Duration
	// Retries is how often a call is tried again at most, 2 by default, none if negative. Only what is safe to repeat is.
	Retries int
	// TLS is for https; the system's authorities if nil.
	TLS *tls.Config
}

// Client makes the calls of one org. It is safe for concurrent use.
type Client struct {
	baseURL   string
	timeout   time.Duration
	retries   int
	transport *http.Transport
	key       atomic.Pointer[secret]
}

// secret is an org key. It does not show itself.
type secret struct{ text string }

func (*secret) String() string   { return "***" }
func (*secret) GoString() string { return "***" }

// New makes a client. It calls nobody.
func New(config Config) (*Client, error) {
	c, err := newClient(config)
	if err != nil {
		return nil, err
	}
	return c, c.ReplaceKey(config.OrgKey)
}

// FromEnv makes a client with the org key in the environment variable name, MACHINEID_ORG_KEY if that is empty.
func FromEnv(name string) (*Client, error) {
	if name == "" {
		name = OrgKeyEnv
	}
	key := trim(os.Getenv(name))
	if key == "" {
		return nil, fmt.Errorf("%s is not set: export %s=org_... (agents use the agent key)", name, name)
	}
	return New(Config{OrgKey: key})
}

func newClient(config Config) (*Client, error) {
	base, err := cleanBaseURL(config.BaseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{baseURL: base, timeout: min(config.Timeout, longest), retries: config.Retries, transport: newTransport(config.TLS)}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if c.retries == 0 {
		c.retries = defaultRetries
	}
	return c, nil
}

func cleanBaseURL(base string) (string, error) {
	if base == "" {
		base = trim(os.Getenv(BaseURLEnv))
	}
	if base == "" {
		base = DefaultBaseURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", errors.New("the base URL is no http:// or https:// URL: give one like " + DefaultBaseURL)
	}
	if u.User != nil || strings.ContainsAny(base, "?#") { // also empty ones: "?" would make a query of every call's path
		return "", errors.New("the base URL has more than scheme, host, port and path: leave user, password, query and fragment out")
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); (err != nil || n == 0) && u.Host != u.Hostname() && u.Host != "["+u.Hostname()+"]" {
		return "", errors.New("the base URL has a port that is none: give one from 1 to 65535, or leave it out")
	}
	if strings.ContainsFunc(u.Hostname(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("the base URL has a host that is not ASCII: give its form that begins with xn--")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// ReplaceKey uses another org key from the next call on, for rotations without a restart.
func (c *Client) ReplaceKey(orgKey string) error {
	orgKey = trim(orgKey)
	if orgKey == "" {
		return errors.New("the org key is empty: set " + OrgKeyEnv + " and use FromEnv")
	}
	for _, r := range orgKey {
		if r <= ' ' || r > '~' {
			return errors.New("the org key has spaces or characters that are not ASCII: was more than the key copied?")
		}
	}
	c.key.Store(&secret{orgKey})
	return nil
}

// String names the client without its key.
func (c *Client) String() string { return "machineid.Client(" + c.baseURL + ")" }

// Close closes the connections that rest. The client can still be used.
func (c *Client) Close() {
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// Validate asks whether the device may work. Only Allowed says so. It fails closed: out of time, no connection, a broken answer are not allowed,
// with the code SYSTEM_UNAVAILABLE and the reason in Err.
func (c *Client) Validate(ctx context.Context, deviceID string) Decision {
	none := Decision{Code: CodeSystemUnavailable, DeviceID: trim(deviceID)}
	k, err := post(pathValidate, Object{"deviceId": trim(deviceID)})
	if err != nil {
		none.Err = err
		return none
	}
	var d Decision
	err = c.make(ctx, k, func(a *answer) (err error) {
		d, err = judgeDecision(a, deviceID)
		return err
	})
	if err == nil {
		return d
	}
	none.Err = err
	if e, ok := errors.AsType[*Error](err); ok && e.Body["code"] == CodeSystemUnavailable {
		none.Body = e.Body
	}
	return none
}

// ValidateBatch asks for at most 500 devices; one decision for each, in their order. It fails closed as Validate does.
func (c *Client) ValidateBatch(ctx context.Context, deviceIDs []string) []Decision {
	var decisions []Decision
	k, err := post(pathValidateBatch, Object{"deviceIds": trimAll(deviceIDs)})
	if err == nil {
		err = c.make(ctx, k, func(a *answer) (err error) {
			decisions, err = judgeBatch(a, deviceIDs)
			return err
		})
	}
	if err != nil {
		decisions = make([]Decision, len(deviceIDs))
		for i, id := range deviceIDs {
			decisions[i] = Decision{Code: CodeSystemUnavailable, DeviceID: trim(id), Err: err}
		}
	}
	return decisions
}

type idempotencyKey struct{}

// maxIdempotencyKey is the longest, in bytes.
const maxIdempotencyKey = 255

// WithIdempotencyKey names the change that is made with the context; without it each call makes a name of its own, the same for all its attempts.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(given(ctx), idempotencyKey{}, key)
}

// post makes a call with a body. Its texts must be UTF-8: encoding/json would replace other bytes, and so name another device.
func post(path string, body Object) (*call, error) {
	k := newCall(http.MethodPost, path, body)
	var err error
	k.body, err = encode(body)
	return k, err
}

func (c *Client) get(ctx context.Context, path string, query url.Values, expect Object) (Object, error) {
	k := newCall(http.MethodGet, path, nil)
	for _, values := range query {
		for _, one := range values {
			if err := sound(one, 1); err != nil {
				return nil, invalid("%v", err)
			}
		}
	}
	if len(query) > 0 {
		k.query = "?" + query.Encode()
	}
	return c.succeed(ctx, k, expect)
}

func (c *Client) change(ctx context.Context, path string, body, expect Object) (Object, error) {
	k, err := post(path, body)
	if err != nil {
		return nil, err
	}
	return c.commit(ctx, k, expect)
}

// commit makes a call that changes something.
func (c *Client) commit(ctx context.Context, k *call, expect Object) (Object, error) {
	k.changes = true
	key, ok := given(ctx).Value(idempotencyKey{}).(string)
	if !ok {
		key = rand.Text()
	}
	if len(key) == 0 || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Trim(key, " ") != key {
		return nil, invalid("the Idempotency-Key is not 1 to 255 printable ASCII characters, or a space stands at its end")
	}
	k.header.Set("Idempotency-Key", key)
	return c.succeed(ctx, k, expect)
}

func (c *Client) succeed(ctx context.Context, k *call, expect Object) (Object, error) {
	var body Object
	if err := c.make(ctx, k, func(a *answer) (err error) {
		if body, err = judgeSuccess(a, k.handler, expect); err == nil && k.named != nil {
			err = judgeResults(body, k.named)
		}
		return err
	}); err != nil {
		return nil, err
	}
	return body, nil
}
