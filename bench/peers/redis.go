package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"machineid/bench/fleet"
)

// redis is one server of Debian's redis-server with its defaults, without snapshots.
type redis struct {
	addr string
	proc *fleet.Process
	gets [][]byte

	mu      sync.Mutex
	control *stream
}

func startRedis(ctx context.Context, dir string, s *stops) (*redis, error) {
	binary, err := find("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	r := &redis{gets: make([][]byte, devices)}
	if r.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	port := r.addr[bytes.LastIndexByte([]byte(r.addr), ':')+1:]
	cmd := exec.CommandContext(ctx, binary, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--loglevel", "warning")
	if r.proc, err = launch(ctx, cmd, log(dir, "redis"), r.addr, s); err != nil {
		return nil, err
	}
	if r.control, err = dial(r.addr, nil); err != nil {
		return nil, err
	}
	s.add(r.control.close)
	for i := range r.gets {
		r.gets[i] = resp("GET", deviceName(i))
		if err := r.set(ctx, i, true); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// resp encodes a command.
func resp(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

func (r *redis) set(_ context.Context, device int, allowed bool) error {
	value := "DEVICE_REVOKED"
	if allowed {
		value = "ALLOW"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.control.requests = [][]byte{resp("SET", deviceName(device), value)}
	if err := r.control.send(0); err != nil {
		return err
	}
	line, err := r.control.r.ReadSlice('\n')
	if err == nil && line[0] != '+' {
		err = fmt.Errorf("redis: %s", line)
	}
	return err
}

// redisAsker asks the server each time.
type redisAsker struct{ *stream }

func (a redisAsker) ask(device int) (bool, error) {
	if err := a.send(device); err != nil {
		return false, err
	}
	return value(a.r)
}

// value reads a bulk string.
func value(r *bufio.Reader) (allowed bool, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	if line[0] != '$' {
		return false, fmt.Errorf("redis: %s", line)
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	if err != nil || n < 0 {
		return false, fmt.Errorf("redis: %s", line)
	}
	text, err := r.Peek(n + 2)
	if err != nil {
		return false, err
	}
	allowed = string(text[:n]) == "ALLOW"
	_, err = r.Discard(n + 2)
	return allowed, err
}

// ttlAsker remembers answers for a time, as applications do.
type ttlAsker struct {
	redisAsker

	ttl   time.Duration
	known map[int]remembered
}

type remembered struct {
	allowed bool
	until   time.Time
}

func (a *ttlAsker) ask(device int) (bool, error) {
	now := time.Now()
	if e, has := a.known[device]; has && now.Before(e.until) {
		return e.allowed, nil
	}
	allowed, err := a.redisAsker.ask(device)
	a.known[device] = remembered{allowed, now.Add(a.ttl)}
	return allowed, err
}

// tracker is Redis' client-side caching: answers are kept until the server says, on the same connection, that they no longer hold.
type tracker struct {
	*stream

	mu    sync.Mutex
	known map[string]bool
	asked string
	reply chan error
}

func newTracker(addr string, gets [][]byte) (*tracker, error) {
	s, err := dial(addr, gets)
	if err != nil {
		return nil, err
	}
	t := &tracker{stream: s, known: map[string]bool{}, reply: make(chan error, 1)}
	s.requests = [][]byte{resp("HELLO", "3"), resp("CLIENT", "TRACKING", "ON")}
	if err := errors.Join(s.send(0), s.send(1)); err != nil {
		return nil, err
	}
	if err := t.skip(); err != nil { // the answer to HELLO
		return nil, err
	}
	if line, err := s.r.ReadString('\n'); err != nil || line != "+OK\r\n" {
		return nil, fmt.Errorf("redis: CLIENT TRACKING: %q %w", line, err)
	}
	s.requests = gets
	go t.read()
	return t, nil
}

// skip reads one value of RESP3 of any kind and drops it.
func (t *tracker) skip() error {
	line, err := t.r.ReadString('\n')
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(line[1 : len(line)-2])
	switch line[0] {
	case '$':
		_, err = t.r.Discard(n + 2)
	case '%':
		n *= 2
		fallthrough
	case '*', '>':
		for range n {
			if err = t.skip(); err != nil {
				break
			}
		}
	}
	return err
}

// read takes answers and invalidations in the order in which they come.
func (t *tracker) read() {
	for {
		kind, err := t.r.Peek(1)
		switch {
		case err != nil:
		case kind[0] == '>':
			err = t.forget()
		default:
			var allowed bool
			if allowed, err = value(t.r); err == nil {
				t.mu.Lock()
				t.known[t.asked] = allowed
				t.mu.Unlock()
				t.reply <- nil
			}
		}
		if err != nil {
			select {
			case t.reply <- err:
			default:
			}
			return
		}
	}
}

// forget reads one push: >2, "invalidate", a list of keys.
func (t *tracker) forget() error {
	for range 3 { // >2, $10, invalidate
		if _, err := t.r.ReadString('\n'); err != nil {
			return err
		}
	}
	head, err := t.r.ReadString('\n')
	if err != nil || head[0] != '*' {
		return fmt.Errorf("redis: a push of %q: %w", head, err)
	}
	n, _ := strconv.Atoi(head[1 : len(head)-2])
	t.mu.Lock()
	defer t.mu.Unlock()
	for range n {
		if _, err = t.r.ReadString('\n'); err != nil {
			return err
		}
		key, err := t.r.ReadString('\n')
		if err != nil {
			return err
		}
		delete(t.known, key[:len(key)-2])
	}
	return nil
}

func (t *tracker) ask(device int) (bool, error) {
	key := deviceName(device)
	t.mu.Lock()
	allowed, has := t.known[key]
	t.asked = key
	t.mu.Unlock()
	if has {
		return allowed, nil
	}
	if err := t.send(device); err != nil {
		return false, err
	}
	if err := <-t.reply; err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[key], nil // gone already if it was revoked meanwhile: a denial
}

const appTTL = time.Second

// peers are the ways to use Redis.
func (r *redis) peers() []*peer {
	all := []*peer{
		{
			name: "Redis GET", how: "one server without replicas; the key's value is the decision", timed: true, places: 1,
			open: func(int) (asker, error) {
				s, err := dial(r.addr, r.gets)
				return redisAsker{s}, err
			},
			holds: "yes, while everybody asks this one server each time; a replica lags, and a change that was answered can be lost when the server fails",
		},
		{
			name: "Redis, client-side caching", how: "CLIENT TRACKING, three applications that remember", places: 3, pause: 100 * time.Microsecond,
			open:  func(int) (asker, error) { return newTracker(r.addr, r.gets) },
			holds: "no: the invalidation is sent after the change was answered, and one that is lost with its connection is not waited for",
		},
		{
			name: "Redis, remembered for 1 s", how: "three applications that ask again after a second", places: 3, spread: appTTL, pause: time.Millisecond,
			open: func(int) (asker, error) {
				s, err := dial(r.addr, r.gets)
				return &ttlAsker{redisAsker: redisAsker{s}, ttl: appTTL, known: map[int]remembered{}}, err
			},
			holds: "no: for up to the time chosen",
		},
	}
	for _, p := range all {
		p.procs, p.set = []*fleet.Process{r.proc}, r.set
	}
	return all
}
