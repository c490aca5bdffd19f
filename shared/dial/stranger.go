package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
)

// Asking is a connection on which nothing is to come before something was asked: who speaks first speaks no HTTP/1.
type Asking struct {
	net.Conn

	asked atomic.Bool
}

var errSpeaksFirst = errors.New("it speaks before it is asked")

// Write implements net.Conn.
func (a *Asking) Write(p []byte) (int, error) {
	a.asked.Store(true)
	return a.Conn.Write(p)
}

// Read implements net.Conn.
func (a *Asking) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if n > 0 && !a.asked.Load() {
		return 0, errSpeaksFirst
	}
	return n, err
}

// Foreign says of a call that net/http made, over an Asking, who answered that speaks no HTTP/1, "" if that is not what was wrong.
func Foreign(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, `malformed HTTP response "\x00\x00`):
		return Speaks([]byte{0, 0, 0, 4})
	case errors.Is(err, errSpeaksFirst):
		return "speaks before it is asked, which is not HTTP, as --link does"
	case strings.Contains(text, "malformed HTTP "):
		return "does not speak HTTP"
	case strings.Contains(text, "server gave HTTP response to HTTPS client"), strings.Contains(text, "first record does not look like a TLS handshake"):
		return "speaks no TLS; write http://, not https://"
	}
	return ""
}

// NoNode says of a status with an answer that is not of this system's form who answered, "" if it may be a balancer before a node, or what became of the call is not known.
// Below 500 and where a server does not know the method nothing was done.
func NoNode(status int) string {
	switch {
	case status == http.StatusMisdirectedRequest:
		return Speaks([]byte(Misdirected))
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported:
		return ""
	}
	return fmt.Sprintf("is no authority node: what answers there says %d %s", status, http.StatusText(status))
}

// Reason is an error of the network without what only programs call it.
func Reason(err error) error {
	switch {
	case Refused(err):
		return errors.New("connection refused")
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return errors.New("no answer in time")
	case HangsUp(err):
		return errors.New("it hangs up without an answer, as --raft of an older program does; is this the address of --http?")
	}
	return err
}

// HangsUp reports whether a connection ended where an answer was due, or before net/http had asked.
func HangsUp(err error) bool {
	if err != nil && strings.Contains(err.Error(), "http: server closed idle connection") { // net/http gives it no name
		return true
	}
	return isReset(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}
