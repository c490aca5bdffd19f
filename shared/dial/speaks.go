package dial

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
)

// Misdirected is how the Raft listener answers who speaks HTTP to it: the first line, by which Speaks knows it.
const Misdirected = "HTTP/1.1 421 Misdirected Request\r\n"

// firstMost is how many bytes tell who speaks.
const firstMost = len("HTTP/1.1 421")

// Speaks says who answers by the first bytes that came from there, "" if they do not tell. It is for those who have called an address and not met whom they meant: listeners are mistaken for each other.
func Speaks(first []byte) string {
	http2 := len(first) > 3 && first[0] == 0 && first[3] == 4 // a frame of settings begins what a server says (RFC 9113, 3.4)
	switch {
	case bytes.HasPrefix([]byte(Misdirected), first) && len(first) >= firstMost:
		return "is the --raft of an authority node"
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return "speaks HTTP/1, as --http and --ops do"
	case http2:
		return "speaks HTTP/2 alone, as --link does"
	case bytes.HasPrefix(first, []byte("SSH-")):
		return "speaks SSH"
	}
	return ""
}

// First keeps the first bytes that are read from a connection. It is safe for concurrent use.
type First struct {
	net.Conn

	all   atomic.Bool // that are kept
	mu    sync.Mutex
	bytes []byte
}

// Read implements net.Conn.
func (f *First) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if !f.all.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.bytes = append(f.bytes, p[:min(n, firstMost-len(f.bytes))]...)
		f.all.Store(len(f.bytes) == firstMost)
	}
	return n, err
}

// Who is Speaks of what has come so far.
func (f *First) Who() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Speaks(f.bytes)
}
