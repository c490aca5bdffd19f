package load

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"strconv"
	"time"

	"machineid/shared/dial"
	"machineid/shared/wire"
)

// Conn is one HTTP/1.1 connection to a target, one request at a time, dialled when it is needed. It parses what a load generator needs
// and allocates nothing for a request once its buffers have grown. It belongs to one goroutine.
type Conn struct {
	to      *Target
	timeout time.Duration
	fresh   bool // a new connection for each request

	c     net.Conn
	r     *bufio.Reader
	until time.Time // the deadline that c has
	used  time.Time

	out  []byte
	big  []byte // a body that does not fit into r
	last error  // why the last request had no answer

	others []*Target // where what insists may go when there is no answer
}

// Sizes and times of a connection.
const (
	readBuffer = 16 << 10
	bodyMax    = 64 << 20
	// idleMax is below the 75 s after which a server ends an idle connection: a request that crosses that end would count as lost.
	idleMax = 30 * time.Second
)

// answer is what came back. body is good until the connection's next request.
type answer struct {
	status  int // 0: there was no answer, and code says why
	code    Code
	allowed bool // "allowed":true, the one permission
	cached  bool // X-Cache: hit
	body    []byte
}

func newConn(to *Target, timeout time.Duration, fresh bool) *Conn {
	return &Conn{to: to, timeout: timeout, fresh: fresh, r: bufio.NewReaderSize(nil, readBuffer)}
}

// Close ends the connection. It may be used again, and dials then.
func (c *Conn) Close() {
	if c.c != nil {
		_ = c.c.Close()
		c.c = nil
	}
}

// validate asks whether a device may run.
func (c *Conn) validate(key string, id []byte) answer {
	out := c.out[:0]
	out = append(out, "POST "+wire.Base+"devices/validate HTTP/1.1\r\nHost: "...)
	out = append(out, c.to.host...)
	out = append(out, "\r\nx-org-key: "...)
	out = append(out, key...)
	out = append(out, "\r\nContent-Type: application/json\r\n"...)
	if c.fresh {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "Content-Length: "...)
	out = strconv.AppendInt(out, int64(len(id)+len(`{"deviceId":""}`)), 10)
	out = append(out, "\r\n\r\n{\"deviceId\":\""...)
	out = append(out, id...)
	out = append(out, `"}`...)
	c.out = out
	return c.exchange()
}

// credential is how a call says who makes it.
type credential struct{ header, value string }

func orgKey(key string) credential         { return credential{"x-org-key", key} }
func operator(token string) credential     { return credential{"Authorization", "Bearer " + token} }
func (cr credential) line() string         { return cr.header + ": " + cr.value + "\r\n" }
func device(id []byte) []byte              { return fmt.Appendf(nil, `{"deviceId":"%s"}`, id) }
func (a answer) ok() bool                  { return a.status >= 200 && a.status < 300 }
func (a answer) text(member string) []byte { return jsonText(a.body, member) }

// call makes any other call. path is below the API's base.
func (c *Conn) call(method, path string, who credential, body []byte) answer {
	out := fmt.Appendf(c.out[:0], "%s %s%s HTTP/1.1\r\nHost: %s\r\n", method, wire.Base, path, c.to.host)
	if who.header != "" {
		out = append(out, who.line()...)
	}
	if c.fresh {
		out = append(out, "Connection: close\r\n"...)
	}
	if method != "GET" {
		out = fmt.Appendf(out, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	out = append(out, "\r\n"...)
	if method != "GET" {
		out = append(out, body...)
	}
	c.out = out
	return c.exchange()
}

// exchange sends c.out and reads the answer.
func (c *Conn) exchange() answer {
	a, err := c.try()
	if err != nil {
		c.Close()
		c.last = err
		return answer{code: reason(err)}
	}
	return a
}

var errDial = errors.New("dial")

func (c *Conn) try() (answer, error) {
	now := time.Now()
	if c.c != nil && now.Sub(c.used) > idleMax {
		c.Close()
	}
	if err := c.open(); err != nil {
		return answer{}, err
	}
	c.used = now
	// Setting a deadline costs a good part of what a request costs: it is moved only when an eighth of it has passed.
	if c.until.Sub(now) < c.timeout {
		c.until = now.Add(c.timeout + c.timeout/8)
		if err := c.c.SetDeadline(c.until); err != nil {
			return answer{}, err
		}
	}
	if _, err := c.c.Write(c.out); err != nil {
		return answer{}, err
	}
	return c.read()
}

// open dials, if there is no connection.
func (c *Conn) open() error {
	if c.c != nil {
		return nil
	}
	if err := c.dial(); err != nil {
		return fmt.Errorf("%w: %w", errDial, err)
	}
	c.until, c.used = time.Time{}, time.Now()
	return nil
}

func (c *Conn) dial() error {
	d := net.Dialer{Timeout: c.timeout}
	conn, err := d.Dial("tcp", c.to.addr)
	if err == nil && c.to.tls != nil {
		_ = conn.SetDeadline(time.Now().Add(c.timeout))
		secure := tls.Client(conn, c.to.tls)
		if err = secure.Handshake(); err != nil {
			_ = conn.Close()
		}
		conn = secure
	}
	if err != nil {
		return err
	}
	c.c = conn
	c.r.Reset(c.c)
	return nil
}

var errNoAnswer = errors.New("what came back is no answer of this API")

func (c *Conn) read() (answer, error) {
	line, err := c.line()
	if err != nil {
		return answer{}, err
	}
	status, ok := statusOf(line)
	if !ok {
		return answer{}, fmt.Errorf("%w: it begins with %.40q", errNoAnswer, line)
	}
	a := answer{status: status}
	length, chunked, end := -1, false, c.fresh
	for {
		if line, err = c.line(); err != nil {
			return answer{}, err
		}
		if len(line) == 0 {
			break
		}
		if v, is := header(line, "content-length"); is {
			if length, err = strconv.Atoi(string(v)); err != nil || length < 0 || length > bodyMax {
				return answer{}, fmt.Errorf("%w: Content-Length %.20q", errNoAnswer, v)
			}
		} else if v, is := header(line, "x-cache"); is {
			a.cached = string(v) == "hit"
		} else if v, is := header(line, "transfer-encoding"); is {
			chunked = bytes.EqualFold(v, []byte("chunked"))
		} else if v, is := header(line, "connection"); is {
			end = end || bytes.EqualFold(v, []byte("close"))
		}
	}
	if a.body, err = c.body(length, chunked); err != nil {
		return answer{}, err
	}
	if end {
		c.Close()
	}
	a.judge()
	return a, nil
}

// statusOf reads a status line. Of HTTP/1.0, which frames bodies in another way, there are none here.
func statusOf(line []byte) (status int, ok bool) {
	line, ok = bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(line) < 3 || len(line) > 3 && line[3] != ' ' {
		return 0, false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false
		}
		status = status*10 + int(c-'0')
	}
	return status, status >= 100
}

// line reads one line without its end.
func (c *Conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a header of more than %d bytes", errNoAnswer, readBuffer)
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// header returns the value of a header line if it has that name, which must be given in lower case.
func header(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' {
		return nil, false
	}
	for i := range len(name) {
		b := line[i]
		if 'A' <= b && b <= 'Z' {
			b |= 0x20
		}
		if b != name[i] {
			return nil, false
		}
	}
	return bytes.TrimSpace(line[len(name)+1:]), true
}

func (c *Conn) body(length int, chunked bool) ([]byte, error) {
	switch {
	case chunked: // by some proxy in between; not by ours
		var b bytes.Buffer
		if _, err := b.ReadFrom(io.LimitReader(httputil.NewChunkedReader(c.r), bodyMax)); err != nil {
			return nil, err
		}
		for {
			line, err := c.line()
			if err != nil {
				return nil, err
			}
			if len(line) == 0 {
				return b.Bytes(), nil
			}
		}
	case length < 0:
		return nil, fmt.Errorf("%w: it has no length", errNoAnswer)
	case length <= readBuffer:
		b, err := c.r.Peek(length)
		if err != nil {
			return nil, err
		}
		_, err = c.r.Discard(length) // b stays until the next read
		return b, err
	}
	if cap(c.big) < length {
		c.big = make([]byte, length)
	}
	_, err := io.ReadFull(c.r, c.big[:length])
	return c.big[:length], err
}

// judge finds what the answer says.
func (a *answer) judge() {
	if code := jsonText(a.body, "code"); code != nil {
		a.code = named(code)
		a.allowed = bytes.Contains(a.body, []byte(`"allowed":true`))
		return
	}
	if a.ok() {
		a.code = codeOK
		return
	}
	if e := jsonText(a.body, "error"); e != nil {
		a.code = named(e)
		return
	}
	a.code = named(strconv.AppendInt([]byte("http_"), int64(a.status), 10))
}

// jsonText returns the text of a member of a JSON object as our servers write it: no space after the colon. What looks like a member
// inside of a string cannot be taken for one, since quotes are escaped there.
func jsonText(body []byte, name string) []byte {
	var pattern [64]byte
	p := append(append(append(pattern[:0], '"'), name...), `":"`...)
	_, after, found := bytes.Cut(body, p)
	if !found {
		return nil
	}
	value, _, found := bytes.Cut(after, []byte{'"'})
	if !found {
		return nil
	}
	return value
}

// reason classifies why there was no answer.
func reason(err error) Code {
	var timeout net.Error
	switch {
	case errors.Is(err, errNoAnswer):
		return codeNoAnswer
	case dial.Refused(err):
		return codeRefused
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return codeTimeout
	case errors.Is(err, errDial):
		return codeNoDial
	}
	return codeLost
}
