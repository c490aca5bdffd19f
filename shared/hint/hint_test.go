package hint

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestComplete: each command that calls a cluster gets what it lacks, and nothing else is touched.
func TestComplete(t *testing.T) {
	const url, token = "--operator-url http://10.0.0.1:80", "--operator-token-file t"
	for text, want := range map[string]string{
		"nothing to type": "nothing to type",
		"do 'machineid cluster remove a3', or wait":           "do 'machineid cluster remove a3 " + url + " " + token + "', or wait",
		"'machineid org list' or 'machineid key list ORG' do": "'machineid org list " + url + " " + token + "' or 'machineid key list ORG " + url + " " + token + "' do",
		"'machineid edges --operator-url http://b'":           "'machineid edges --operator-url http://b " + token + "'",
		"'machineid cluster init --at a:80'":                  "'machineid cluster init --at a:80 " + token + "'",
		"'machineid recover' makes another":                   "'machineid recover' makes another",
		"Run 'machineid org list --help'":                     "Run 'machineid org list --help'",
		`'machineid key create o --name "it's \" it"', or`:    `'machineid key create o --name "it's \" it" ` + url + " " + token + "', or",
		"'machineid orgs'":                                    "'machineid orgs'",
		"the node's, and another's":                           "the node's, and another's",
	} {
		if got := Complete(text, url, token); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
		if got := Complete(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// TestLogger: what is logged is complete, in the message, in texts and in errors.
func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := Logger(slog.New(slog.NewTextHandler(&out, nil)), "--operator-url http://b").With(slog.Int("x", 1)).WithGroup("g")
	log.Warn("go", slog.String("text", "type 'machineid edges'"), slog.Any("error", errors.New("type 'machineid plan list'")), slog.Int("n", 3))
	for _, want := range []string{"machineid edges --operator-url http://b'", "machineid plan list --operator-url http://b'", "g.n=3", "x=1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %s", &out, want)
		}
	}
}
