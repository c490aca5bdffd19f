package cli

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"testing"
)

// TestWhatLibrariesQuoteIsNotLogged: net/http quotes an answer that came twice, Stripe's links and addresses in it.
func TestWhatLibrariesQuoteIsNotLogged(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := log.New(newHearsay(slog.New(slog.NewTextHandler(&b, nil)), "go"), "", 0)
	l.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", `HTTP/1.1 200 OK: {"url":"https://example.com/SECRET"}`, nil)
	if got := b.String(); !strings.Contains(got, "Unsolicited response received on idle HTTP channel") || strings.Contains(got, "SECRET") {
		t.Error(got)
	}
}
