package raftstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Our own messages on the Raft listener: after the first byte (muxOwn) and the Greeting, frames. One question, then its answer; a connection carries any number of such pairs, one after the other. Unknown fields are ignored and
// unknown questions end the connection, so that versions can meet.
const (
	ownMaxFrame = 16 << 10
	ownMaxConns = 256              // served at once
	ownIdle     = 2 * time.Minute  // a connection without a question is closed
	ownAnswer   = 10 * time.Second // to take an answer
	ownPool     = 2                // idle connections kept per node
	askStatus   = "status"
)

type ownQuestion struct {
	Ask string `json:"ask"`
}

// ownPeers is Peers over the mux.
type ownPeers struct {
	mux    *mux
	logger *slog.Logger
	slots  chan struct{}

	mu   sync.Mutex
	idle map[target][]net.Conn // none has a question under way
}

// target is whom a question is for, and where: without a name, whoever is there.
type target struct {
	life Life
	addr string
}

func targetOf(s raft.Server) target { return target{life: lifeOf(s.ID), addr: string(s.Address)} }

func newOwnPeers(m *mux, logger *slog.Logger) *ownPeers {
	return &ownPeers{mux: m, logger: logger, slots: make(chan struct{}, ownMaxConns), idle: make(map[target][]net.Conn)}
}

// Serve answers questions that come in.
func (p *ownPeers) Serve(d Door) {
	p.mux.serveOwn(func(c net.Conn) {
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		default:
			p.logger.Warn("connection refused: too many are open", slog.String("remote", c.RemoteAddr().String()))
			return
		}
		patience := muxHandshake // the first question must come at once
		for {
			if err := p.serveOne(c, patience, d.Status); err != nil {
				p.logger.Debug("connection ended", slog.String("remote", c.RemoteAddr().String()), slog.Any("cause", err))
				return
			}
			patience = ownIdle
		}
	})
}

func (p *ownPeers) serveOne(c net.Conn, patience time.Duration, answer func() (NodeStatus, error)) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var q ownQuestion
	if err := readFrame(c, &q); err != nil {
		return err
	}
	if q.Ask != askStatus {
		return fmt.Errorf("question %.40q is not one this program knows", q.Ask)
	}
	status, err := answer()
	if err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(ownAnswer)); err != nil {
		return err
	}
	return writeFrame(c, status)
}

// Status asks over a connection that is kept for the next question. A kept one may have been closed by the other side since:
// then a new one is dialled.
func (p *ownPeers) Status(ctx context.Context, to Life, addr string) (NodeStatus, error) {
	at := target{to, addr}
	for {
		c := p.take(at)
		if c == nil {
			break
		}
		if status, err := p.ask(ctx, at, c); err == nil || ctx.Err() != nil {
			return status, err
		}
	}
	c, err := p.mux.dial(ctx, to, addr, muxOwn)
	if err != nil {
		return NodeStatus{}, err
	}
	return p.ask(ctx, at, c)
}

// ask owns c. A connection whose answer did not come in full is closed: what came late would be taken for the next answer.
func (p *ownPeers) ask(ctx context.Context, at target, c net.Conn) (status NodeStatus, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		err = c.SetDeadline(deadline)
	}
	if err == nil {
		err = writeFrame(c, ownQuestion{Ask: askStatus})
	}
	if err == nil {
		err = readFrame(c, &status)
	}
	if err != nil {
		_ = c.Close()
		return NodeStatus{}, fmt.Errorf("ask for the status: %w", err)
	}
	p.keep(at, c)
	return status, nil
}

func (p *ownPeers) take(at target) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := p.idle[at]
	if len(conns) == 0 {
		return nil
	}
	c := conns[len(conns)-1]
	p.idle[at] = conns[:len(conns)-1]
	return c
}

func (p *ownPeers) keep(at target, c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle[at]) >= ownPool || (len(p.idle) >= askersKept && p.idle[at] == nil) {
		_ = c.Close()
		return
	}
	p.idle[at] = append(p.idle[at], c)
}

// appendFrame appends v as a frame: a length (4B, big endian) and JSON.
func appendFrame(dst []byte, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(body))), body...), nil
}

func writeFrame(w io.Writer, v any) error {
	frame, err := appendFrame(nil, v)
	if err == nil {
		_, err = w.Write(frame)
	}
	return err
}

// readFrame reads one frame into v. It takes no memory for a length that it would refuse.
func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > ownMaxFrame {
		return fmt.Errorf("a frame of %d bytes, at most %d", size, ownMaxFrame)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("a frame is cut short: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode a frame: %w", err)
	}
	return nil
}
