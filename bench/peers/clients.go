package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// asker is one connection that asks whether a device may run, one question at a
// time. Requests are made beforehand, and of an answer only what decides is
// looked at: what the client costs would only flatter the ratios.
type asker interface {
	ask(device int) (allowed bool, err error)
	close()
}

// patience is how long one answer may take.
const patience = 15 * time.Second

// stream is a TCP connection with requests written at once.
type stream struct {
	c        net.Conn
	r        *bufio.Reader
	requests [][]byte
	until    time.Time
}

func dial(addr string, requests [][]byte) (*stream, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &stream{c: c, r: bufio.NewReaderSize(c, 8<<10), requests: requests}, nil
}

func (s *stream) close() { _ = s.c.Close() }

// send writes the request about a device. The deadline moves now and then only: setting it costs too.
func (s *stream) send(device int) error {
	if now := time.Now(); s.until.Sub(now) < patience {
		s.until = now.Add(2 * patience)
		if err := s.c.SetDeadline(s.until); err != nil {
			return err
		}
	}
	_, err := s.c.Write(s.requests[device])
	return err
}

// httpAsker asks by HTTP/1.1.
type httpAsker struct{ *stream }

var (
	contentLength = []byte("Content-Length: ")
	headEnd       = []byte("\r\n")
	statusOK      = []byte("HTTP/1.1 200 ")
)

func (a httpAsker) ask(device int) (bool, error) {
	if err := a.send(device); err != nil {
		return false, err
	}
	length := -1
	for first := true; ; first = false {
		line, err := a.r.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		switch {
		case first && !bytes.HasPrefix(line, statusOK):
			return false, fmt.Errorf("answered %q", line)
		case bytes.Equal(line, headEnd):
			if length < 0 {
				return false, errors.New("an answer without Content-Length")
			}
			body, err := a.r.Peek(length)
			if err != nil {
				return false, err
			}
			allowed := bytes.Contains(body, []byte(`"allowed":true`))
			_, err = a.r.Discard(length)
			return allowed, err
		case length < 0 && len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return false, fmt.Errorf("answered %q", line)
			}
		}
	}
}

// post makes the request of each device.
func post(path, headers string, body func(device int) string) [][]byte {
	all := make([][]byte, devices)
	for i := range all {
		b := body(i)
		all[i] = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: peer\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, headers, len(b), b)
	}
	return all
}

// raw hands messages to gRPC as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) ([]byte, error) {
	b, is := v.(*[]byte)
	if !is {
		return nil, fmt.Errorf("no message: %T", v)
	}
	return *b, nil
}

func (raw) Unmarshal(data []byte, v any) error {
	b, is := v.(*[]byte)
	if !is {
		return fmt.Errorf("no message: %T", v)
	}
	*b = append((*b)[:0], data...)
	return nil
}

// grpcAsker asks by gRPC, with messages that were encoded beforehand, on a
// connection of its own.
type grpcAsker struct {
	conn     *grpc.ClientConn
	method   string
	requests [][]byte
	allows   func(answer []byte) bool
	answer   []byte
}

func dialGRPC(addr, method string, requests [][]byte, allows func([]byte) bool) (*grpcAsker, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &grpcAsker{conn: conn, method: method, requests: requests, allows: allows}, nil
}

func (a *grpcAsker) close() { _ = a.conn.Close() }

func (a *grpcAsker) ask(device int) (bool, error) {
	if err := a.conn.Invoke(context.Background(), a.method, &a.requests[device], &a.answer); err != nil {
		return false, err
	}
	return a.allows(a.answer), nil
}
