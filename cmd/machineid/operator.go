package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	strict "github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"machineid/authority"
	"machineid/shared/dial"
	"machineid/shared/wire"
)

// exitUnavailable is the exit code of a command that nobody could serve, or whose outcome is not known.
const exitUnavailable = 4

// unavailableError says that nobody could serve a command, or that what became of it is not known.
type unavailableError struct{ error }

// operatorFlags are the flags of every command that speaks to a running cluster.
type operatorFlags struct {
	urls      []string
	tokenFile string
	token     authority.Secret
	timeout   time.Duration
	output    string
}

func (f *operatorFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.urls, "operator-url", []string{"http://127.0.0.1:7070"}, "`URLS` of authority nodes, tried in turn; any node will do")
	fs.StringVar(&f.tokenFile, "operator-token-file", "", "the `FILE` of the operator's token; or give the token in MACHINEID_OPERATOR_TOKEN")
	fs.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to try")
	fs.StringVarP(&f.output, "output", "o", "table", "`FORM` of the output: table or json")
}

func (f *operatorFlags) validate(env environment) error {
	var faults []error
	for i, u := range f.urls {
		parsed, err := dial.BaseURL(u)
		if err != nil || parsed.Path != "" {
			faults = append(faults, fmt.Errorf("--operator-url: %q is no URL such as http://127.0.0.1:7070, of a scheme, a host and a port alone", u))
			continue
		}
		f.urls[i] = parsed.String()
	}
	if f.output != "table" && f.output != "json" {
		faults = append(faults, fmt.Errorf("--output: %q is no form of output; choose table or json", f.output))
	}
	if f.timeout <= 0 {
		faults = append(faults, fmt.Errorf("--timeout: %v is no time to try for", f.timeout))
	}
	token, err := operatorToken(f.tokenFile, env)
	if err != nil {
		faults = append(faults, err)
	}
	if f.token = authority.Secret(token); token == "" && err == nil {
		faults = append(faults, fmt.Errorf("--operator-token-file: there is no operator's token; it is in the file operator-token of the first node's data folder, "+
			"unless one was given at bootstrap: name that file, or set %s", operatorTokenEnv))
	}
	return errors.Join(faults...)
}

// operatorToken reads the operator's token from a file or from the environment.
func operatorToken(file string, env environment) (string, error) {
	source := operatorTokenEnv
	token, err := cleanSecret(env.get(operatorTokenEnv))
	if err != nil {
		return "", fmt.Errorf("--operator-token-file: %s %w", operatorTokenEnv, err)
	}
	if file != "" {
		if token != "" {
			return "", fmt.Errorf("--operator-token-file: %s is set too; give the token in one place", operatorTokenEnv)
		}
		if token, err = readSecret(file); err != nil {
			return "", fmt.Errorf("--operator-token-file: %w", err)
		}
		source = file
	}
	if (token != "" || file != "") && len(token) < authority.MinOperatorToken {
		return "", fmt.Errorf("--operator-token-file: the token in %s has %d characters; it needs at least %d",
			source, len(token), authority.MinOperatorToken)
	}
	return token, nil
}

// operatorClient makes operators' calls.
type operatorClient struct {
	urls  []string
	token string
	org   string // the org that calls are made for; "": operators' own calls
	http  *http.Client
}

// Times of one call.
const (
	operatorCall  = 12 * time.Second       // the call's own 8 s, and the way
	operatorShare = 500 * time.Millisecond // the least that one address has, if there is as much
	operatorPause = 200 * time.Millisecond
	answerMax     = 64 << 20
)

func (f *operatorFlags) client() *operatorClient {
	return &operatorClient{urls: f.urls, token: string(f.token), http: &http.Client{
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
		return dial.Context(ctx, network, address)
	},
}

// shareKey is where a call's context says how long connecting may take.
type shareKey struct{}

// refusedError is an answer other than success.
type refusedError struct {
	status                 int
	Code, Message, Outcome string
}

func (e *refusedError) Error() string {
	if e.Message != "" {
		return e.Message
	}
	return "the answer is HTTP " + strconv.Itoa(e.status)
}

// call makes one call and decodes its answer into out, which may be nil. What was surely not done it tries again, at the other nodes too, until
// ctx ends. Each address has its share of the time. One that takes another token is another cluster's, or its node was started with another: the next ones
// are asked, and if nobody takes it all is told that they have said.
func (c *operatorClient) call(ctx context.Context, method, path string, body, out any) error {
	if err := c.sound(body); err != nil {
		return err
	}
	var unknown error // of an attempt that may have been done
	for {
		var stranger *refusedError
		var last error
		said := make([]string, 0, len(c.urls))
		for i, base := range c.urls {
			err := c.within(ctx, len(c.urls)-i, method, base, path, body, out)
			var refused *refusedError
			switch isRefused := errors.As(err, &refused); {
			case err == nil:
				return nil
			case isRefused && refused.status == http.StatusUnauthorized:
				stranger = refused
			case isRefused && refused.status < http.StatusInternalServerError:
				return err
			case surelyNotDone(method, err):
				last = err
			default:
				unknown = fmt.Errorf("%s: whether it was done is not known; look, and do it again if need be: %w", base, err)
				if !stops(path, body) {
					return unavailableError{unknown}
				}
			}
			said = append(said, fmt.Sprintf("%s: %v", base, err))
		}
		switch {
		case stranger != nil && unknown != nil:
			return unavailableError{unknown}
		case stranger != nil && len(c.urls) == 1:
			return stranger
		case stranger != nil:
			return fmt.Errorf("no address takes the operator's token (%s): %w", strings.Join(said, "; "), stranger)
		}
		select {
		case <-ctx.Done():
			if unknown != nil {
				return unavailableError{unknown}
			}
			return unavailableError{fmt.Errorf("not done: %w", last)}
		case <-time.After(operatorPause):
		}
	}
}

// sound refuses what cannot be sent as it was meant.
func (c *operatorClient) sound(body any) error {
	if strings.ContainsFunc(c.org, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return usageError{fmt.Errorf("%q is no org's id", c.org)}
	}
	// encoding/json would put another character in the place of what is no UTF-8, and so name another device.
	if _, err := strict.Marshal(body); err != nil {
		return usageError{fmt.Errorf("encode the call: %w", err)}
	}
	return nil
}

// stops reports whether a call takes rights away, and does the same however often it is done. It goes on to the next address though a node that hangs may
// still do it. Nothing else does: what gives rights, done so late, would undo an off switch that has returned.
func stops(path string, body any) bool {
	set, _ := body.(map[string]any)
	switch {
	case path == "devices/revoke", path == "devices/revoke_batch", path == "org/keys/revoke":
		return true
	case path == "org/execution":
		return set["enabled"] == false
	case strings.HasPrefix(path, "operator/orgs/"):
		return len(set) == 1 && set["hold"] == true
	}
	return false
}

// surelyNotDone reports whether a call that failed was surely not done.
func surelyNotDone(method string, err error) bool {
	if refused, ok := errors.AsType[*refusedError](err); ok {
		return refused.Outcome == wire.OutcomeNotDone
	}
	// A call that got no answer may have been done, unless it only asks or nobody was there.
	return method == http.MethodGet || errors.Is(err, errNotConnected)
}

// errNotConnected says that no connection was made.
var errNotConnected = errors.New("not connected")

// within is once in the share that one address of so many has of the time left. What may change something keeps its time once it is sent: it would not be
// known whether it was done.
func (c *operatorClient) within(ctx context.Context, addresses int, method, base, path string, body, out any) error {
	if end, ok := ctx.Deadline(); ok {
		share := max(time.Until(end)/time.Duration(addresses), operatorShare)
		ctx = context.WithValue(ctx, shareKey{}, share)
		if method == http.MethodGet || stops(path, body) {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, share)
			defer cancel()
		}
	}
	return c.once(ctx, base, method, path, body, out)
}

func (c *operatorClient) once(ctx context.Context, base, method, path string, body, out any) error {
	var content io.Reader = http.NoBody
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the call: %w", err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+wire.Base+path, content)
	if err != nil {
		return fmt.Errorf("make the call: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if c.org != "" {
		req.Header.Set("X-MachineID-Org", c.org)
	}
	var connected atomic.Bool // another goroutine may still say so when the call is over
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := c.http.Do(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	switch {
	case err != nil && !connected.Load():
		return fmt.Errorf("%w: %w", errNotConnected, err)
	case err != nil:
		return err //nolint:wrapcheck // names the address
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		e := &refusedError{status: resp.StatusCode}
		var said struct{ Error, Message, Outcome string }
		if json.Unmarshal(raw, &said) == nil {
			e.Code, e.Message, e.Outcome = said.Error, said.Message, said.Outcome
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s answers what is no answer of an authority: %w", base, err)
	}
	return nil
}

// addOperatorFlags gives a command the flags, checks them, and runs f within --timeout.
func addOperatorFlags(cmd *cobra.Command, set func(*cobra.Command, func() error), env environment, f func(context.Context, *cobra.Command, *operatorFlags, []string) error) {
	flags := &operatorFlags{}
	flags.register(cmd.Flags())
	set(cmd, func() error { return flags.validate(env) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if i := slices.Index(args, ""); i >= 0 {
			return usageError{fmt.Errorf("argument %d is empty", i+1)}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
		defer cancel()
		return f(ctx, cmd, flags, args)
	}
}

// printJSON writes a value for scripts.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v) //nolint:wrapcheck // standard output is gone
}
