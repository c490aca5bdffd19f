//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"machineid/shared/wire"
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

// TestMalformed proves that what breaks the rules of HTTP or of docs/api.md is refused at both tiers in JSON, with its status,
// and never allowed: sent as raw bytes, the sender falling silent or saying that it is done.
func TestMalformed(t *testing.T) {
	t.Parallel()
	w := newHostileWorld(t)
	const path = "POST /api/v1/devices/validate HTTP/1.1\r\nHost: a\r\n"
	key := "x-org-key: " + w.full.agent + "\r\n"
	body := naming("d1")
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	admin := "x-org-key: " + w.full.admin + "\r\n"
	revoke := "POST /api/v1/devices/revoke HTTP/1.1\r\nHost: a\r\n" + admin
	good := path + key + length + "\r\n" + body
	tests := map[string]struct {
		raw  string
		want []int
	}{
		"no HTTP":                     {"hello\r\n\r\n", []int{400}},
		"binary":                      {"\x00\x01\x02\xff\xfe\r\n\r\n", []int{400}},
		"TLS":                         {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x5a", 500), []int{400, 431}},
		"HTTP/2":                      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400}},
		"HTTP/0.9":                    {"GET /api/v1/usage\r\n\r\n", []int{400}},
		"HTTP/3.0":                    {strings.Replace(good, "HTTP/1.1", "HTTP/3.0", 1), []int{400}},
		"no colon":                    {path + "x-org-key\r\n\r\n", []int{400}},
		"folded":                      {path + "x-org-key: \r\n " + w.full.agent + "\r\n" + length + "\r\n" + body, []int{400}},
		"space before the colon":      {path + "x-org-key : " + w.full.agent + "\r\n" + length + "\r\n" + body, []int{400}},
		"control character":           {path + "x-a: \x01\r\n" + key + length + "\r\n" + body, []int{400}},
		"key twice":                   {path + key + key + length + "\r\n" + body, []int{400}},
		"both lengths":                {path + key + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400}},
		"length twice":                {path + key + length + length + "\r\n" + body, []int{400}},
		"length in words":             {path + key + "Content-Length: ten\r\n\r\n" + body, []int{400}},
		"length below zero":           {path + key + "Content-Length: -1\r\n\r\n" + body, []int{400}},
		"length signed":               {path + key + "Content-Length: +16\r\n\r\n" + body, []int{400}},
		"length without bound":        {path + key + "Content-Length: 99999999999999999999\r\n\r\n", []int{400, 413}},
		"length of a gigabyte":        {path + key + "Content-Length: 1073741824\r\n\r\n" + body, []int{413}},
		"encoding twice":              {path + key + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400}},
		"unknown transfer":            {path + key + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{400}},
		"compressed":                  {path + key + "Content-Encoding: gzip\r\n" + length + "\r\n" + body, []int{400}},
		"bad chunk":                   {path + key + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body + "\r\n0\r\n\r\n", []int{400}},
		"chunk without end":           {path + key + "Transfer-Encoding: chunked\r\n\r\n10\r\n{", []int{400}},
		"trailer":                     {path + key + "Transfer-Encoding: chunked\r\n\r\n0\r\nx-org-key: " + w.full.agent + "\r\n\r\n", []int{400}},
		"chunks beyond the limit":     {path + key + "Transfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat(" ", 0x20000) + "\r\n0\r\n\r\n", []int{413}},
		"body beyond the limit":       {path + key + fmt.Sprintf("Content-Length: %d\r\n\r\n", wire.MaxBody+1) + strings.Repeat(" ", wire.MaxBody+1), []int{413}},
		"head beyond the limit":       {path + key + "x-a: " + strings.Repeat("a", 20_000) + "\r\n\r\n", []int{431}},
		"target beyond the limit":     {"GET /api/v1/devices/validate?deviceId=" + strings.Repeat("a", 20_000) + " HTTP/1.1\r\nHost: a\r\n\r\n", []int{431}},
		"a thousand headers":          {path + key + strings.Repeat("a: b\r\n", 2000) + "\r\n", []int{431}},
		"truncated line":              {"POST /api/v1/dev", []int{400}},
		"truncated head":              {path + "x-org-key: org_", []int{400}},
		"truncated body":              {strings.TrimSuffix(good, "}"), []int{400}},
		"no body":                     {path + key + length + "\r\n", []int{400}},
		"unknown method":              {strings.Replace(good, "POST", "BREW", 1), []int{405}},
		"method in small letters":     {strings.Replace(good, "POST", "post", 1), []int{405}},
		"CONNECT":                     {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", []int{404, 405, 400}},
		"OPTIONS *":                   {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", []int{404, 405, 400}},
		"another path":                {strings.Replace(good, "/api/v1/", "/api/v2/", 1), []int{404}},
		"an encoded path":             {strings.Replace(good, "/devices/", "/%64evices/", 1), []int{404}},
		"a doubled slash":             {strings.Replace(good, "/devices/", "//devices//", 1), []int{404}},
		"an encoded id in a path":     {"GET /api/v1/operator/orgs/a%62c HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}},
		"a number in another form":    {"GET /api/v1/devices/list?limit=05 HTTP/1.1\r\nHost: a\r\n" + admin + "\r\n", []int{400}},
		"an empty Idempotency-Key":    {revoke + "Idempotency-Key:\r\n" + length + "\r\n" + body, []int{400}},
		"a long Idempotency-Key":      {revoke + "Idempotency-Key: " + strings.Repeat("k", 256) + "\r\n" + length + "\r\n" + body, []int{400}},
		"an Idempotency-Key in UTF-8": {revoke + "Idempotency-Key: ü\r\n" + length + "\r\n" + body, []int{400}},
		"two Idempotency-Keys":        {revoke + "Idempotency-Key: a\r\nIdempotency-Key: a\r\n" + length + "\r\n" + body, []int{400}},
		"a refused request, then one": {path + key + key + length + "\r\n" + body + good, []int{400}},
	}
	for tier, addr := range w.tiers() {
		t.Run(tier, func(t *testing.T) {
			t.Parallel()
			for name, tt := range tests {
				t.Run(name, func(t *testing.T) {
					answers, err := exchange(addr, tt.raw)
					if err != nil || len(answers) != 1 {
						t.Fatalf("%d answers, %v", len(answers), err)
					}
					a := answers[0]
					if !slices.Contains(tt.want, a.StatusCode) || a.body["allowed"] == true {
						t.Errorf("HTTP %d, want %v: %s", a.StatusCode, tt.want, a.raw)
					}
				})
			}
			t.Run("silent within the body", func(t *testing.T) {
				if testing.Short() {
					t.Skip("takes the 10 s that a request may take to arrive")
				}
				t.Parallel()
				c := newClient(t, addr)
				if err := c.send(strings.TrimSuffix(good, "}")); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				a, err := c.read()
				if err != nil || a.StatusCode != http.StatusRequestTimeout && a.StatusCode != http.StatusBadRequest || a.body["allowed"] != false {
					t.Errorf("after %v: %+v, %v", time.Since(began), a, err)
				}
			})
			if answers, err := exchange(addr, good+good); err != nil || len(answers) != 2 || answers[1].code() != codeAllow {
				t.Errorf("two good requests: %d answers, %v", len(answers), err)
			}
		})
	}
}
