//go:build unix

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// errNoAnswer says that the connection ended without an answer.
var errNoAnswer = errors.New("the connection ended without an answer")

// exchange sends bytes on a connection of their own, says that no more will come, and returns all answers.
func exchange(addr, raw string) (answers []*reply, err error) {
	conn, err := net.DialTimeout("tcp", addr, callTime)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(callTime))
	c := &client{conn: conn, operators: strings.Contains(raw, "/operator/")}
	c.r = bufio.NewReader(conn)
	go func() {
		_, _ = io.WriteString(conn, raw) // may be refused before its end
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}()
	method, _, _ := strings.Cut(raw, " ")
	for {
		if _, err := c.r.Peek(1); err != nil {
			if len(answers) == 0 && strings.Trim(raw, "\r\n") != "" {
				return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return answers, fmt.Errorf("a hang: %w", err)
			}
			return answers, nil
		}
		a, err := c.next(&http.Request{Method: method})
		if err != nil {
			return answers, err
		}
		answers = append(answers, a)
		method = ""
	}
}
