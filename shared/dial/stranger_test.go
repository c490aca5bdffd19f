package dial

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

func TestSpeaks(t *testing.T) {
	t.Parallel()
	for first, want := range map[string]string{
		"": "", "HTT": "", "HTTP/1.1 200 OK\r\n": "speaks HTTP/1, as --http and --ops do", Misdirected: "is the --raft of an authority node", "HTTP/1.1 421": "is the --raft of an authority node",
		"\x00\x00\x18\x04\x00": "speaks HTTP/2 alone, as --link does", "\x00\x00\x01\x2c{": "", "SSH-2.0-x": "speaks SSH", "\x03": "",
	} {
		if got := Speaks([]byte(first)); got != want {
			t.Errorf("%q: %q, want %q", first, got, want)
		}
	}
}

// TestFirst keeps the beginning however it comes.
func TestFirst(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 5, 100} {
		near, far := net.Pipe()
		go func() {
			_, _ = io.WriteString(far, Misdirected+"and more")
			_ = far.Close()
		}()
		f := &First{Conn: near}
		b := make([]byte, size)
		for {
			if _, err := f.Read(b); err != nil {
				break
			}
		}
		if f.Who() != "is the --raft of an authority node" {
			t.Errorf("in reads of %d: %q", size, f.Who())
		}
	}
}

func TestNoNodeAndReason(t *testing.T) {
	t.Parallel()
	for status, known := range map[int]bool{200: true, 302: true, 404: true, 405: true, 421: true, 429: false, 500: false, 501: true, 502: false, 503: false, 504: false, 505: true} {
		if got := NoNode(status); (got != "") != known {
			t.Errorf("%d %s: %q", status, http.StatusText(status), got)
		}
	}
	for _, err := range []error{fmt.Errorf("Get: %w", errors.New("http: server closed idle connection")), io.EOF, syscall.ECONNRESET, syscall.EPIPE} {
		if !HangsUp(err) || Reason(err) == err { //nolint:errorlint // it is to be another
			t.Errorf("%v: %v", err, Reason(err))
		}
	}
}
