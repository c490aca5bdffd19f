//go:build linux

package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestCheckListener: an address to listen on is one that net.Listen takes as it was meant, with a port in digits.
func TestCheckListener(t *testing.T) {
	for _, good := range []string{
		"127.0.0.1:0", "127.0.0.1:65535", ":80", "0.0.0.0:80", "[::]:80", "[::1]:0", "localhost:80", "a-1.internal:80", "[fe80::1%eth0]:80",
	} {
		if err := checkListener(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http", "127.0.0.1:00", "127.0.0.1:+80", "::1:80", "::80", "[localhost]:80", "[0.0.0.0]:80",
		"http://127.0.0.1:80", "127.0.0.1:80/", " 127.0.0.1:80", "127.0.0.1 :80", "127.1:80", "010.0.0.1:80", "bücher:80",
	} {
		if err := checkListener(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestSecretsAreOneLine: what stands around a secret is no part of it, and what is more than a secret is none.
func TestSecretsAreOneLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for text, want := range map[string]string{
		"secret": "secret", "secret\n": "secret", " secret\r\n\n": "secret", "pass wörd": "pass wörd", "": "", "\n": "",
		"one\ntwo": "-", "one\r\ntwo\n": "-", "\ufeffsecret": "-", "sec\x00ret": "-", "sec\tret": "-", "sec\xffret": "-", "secret\u200b": "-",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readSecret(file)
		direct, directErr := cleanSecret(text)
		if want == "-" {
			if err == nil || directErr == nil {
				t.Errorf("%q is taken for %q and %q", text, got, direct)
			}
			continue
		}
		if err != nil || directErr != nil || got != want || direct != want {
			t.Errorf("%q: %q, %q, %v, %v", text, got, direct, err, directErr)
		}
	}
}

// TestSecretsHaveABound: what is no file of a secret is not read, however much it holds.
func TestSecretsHaveABound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, bytes.Repeat([]byte("t"), secretMost+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(file); err == nil || !strings.Contains(err.Error(), "no secret") {
		t.Errorf("a large file: %v", err)
	}
	for _, other := range []string{filepath.Dir(file), os.DevNull, filepath.Join(filepath.Dir(file), "none")} {
		if _, err := readSecret(other); err == nil || !strings.Contains(err.Error(), other) {
			t.Errorf("%s: %v", other, err)
		}
	}
}

// TestNothingIsAskedOtherwise: what a script lost on its way, or what cannot be sent as it was meant, is a fault of usage, and nobody is asked.
func TestNothingIsAskedOtherwise(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(strings.Repeat("t", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	const org = "b2469749-4abd-45c1-946a-799ce518d2b7"
	for _, args := range [][]string{
		{"org", "show", ""},
		{"org", "freeze", ""},
		{"org", "create", "--plan", ""},
		{"org", "create", "--name="},
		{"org", "plan", org, ""},
		{"org", "plan", org, "--limit", ""},
		{"org", "plan", org, "pro", "--access-until", ""},
		{"org", "plan", org, "--limit", "-1"},
		{"org", "plan", org, "--access-until", "2027-01-01"},
		{"org", "plan", org, "--access-until", "9999-12-31T23:59:59-01:00"},
		{"key", "create", org, "--expires-at", "2027"},
		{"key", "create", org, "--scope", "boss"},
		{"key", "rotate", org, "AAAAAAAA", "--grace", "99999h"},
		append([]string{"device", "revoke", org}, strings.Fields(strings.Repeat("d ", 501))...),
		{"org", "plan", org, "--limit", "010"},
		{"org", "plan", org, "--limit", "10000001"},
		{"plan", "set", "pro=025"},
		{"plan", "set", "pro=+5"},
		{"plan", "set", "--grace-days", "07"},
		{"cluster", "raise-format", "02"},
		{"org", "delete", org, "--confirm", ""},
		{"key", "create", org, "--expires-at", ""},
		{"key", "create", org, "--scope", ""},
		{"key", "rotate", org, ""},
		{"key", "rotate", org, "AAAAAAAA", "--grace", "1ms"},
		{"device", "revoke", org, ""},
		{"device", "revoke", org, "a\xff"},
		{"device", "remove", org, "\xc3"},
		{"device", "list", "a\nb"},
		{"org", "create", "--name", "\xff"},
		{"audit", "tail", "--org", ""},
		{"audit", "tail", "--lines", "010"},
		{"cluster", "remove", ""},
		{"billing", "sync", "--pause", "-1s"},
		{"org", "list", "--timeout", "0s"},
		{"org", "list", "--timeout", "1e9h"},
		{"org", "list", "--operator-url", ""},
		{"org", "list", "--operator-url", server.URL + "/api"},
		{"org", "list", "--operator-url", server.URL + "?"},
		{"org", "list", "--operator-url", "http://u:p@127.0.0.1"},
		{"org", "list", "--operator-url", "http://127.0.0.1:0"},
	} {
		if !strings.Contains(strings.Join(args, " "), "--operator-url") {
			args = append(args, "--operator-url", server.URL)
		}
		if code, out, errs := commandLine(append(args, "--operator-token-file", token)...); code != exitUsage || errs == "" {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, errs)
		}
	}
	// What is no text is refused as that, in whatever place it stands that is no file's.
	walked := 0
	for path, args := range callsOf(t) {
		for i := range args {
			if i < len(strings.Fields(path)) || strings.HasPrefix(args[i], "-") || filepath.IsAbs(args[i]) {
				continue
			}
			args := slices.Clone(args)
			args[i] = "a\xff"
			walked++
			code, out, errs := commandLine(append(args, "--operator-url", server.URL, "--operator-token-file", token)...)
			if code != exitUsage || !strings.Contains(errs, "UTF-8") || strings.Contains(errs, "json") {
				t.Errorf("%q: exit code %d: %s%s", args, code, out, errs)
			}
		}
	}
	for _, args := range [][]string{{"org", "create", "--name", "\xff"}, {"org", "create", "--external-id", "\xff"}, {"key", "create", org, "--name", "\xc3"}, {"audit", "tail", "--org", "\xff"}, {"edge", "--id", "\xff", "--authority", "127.0.0.1:1"}, {"authority", "--id", "\xff", "--data", t.TempDir()}} {
		if code, out, errs := commandLine(append(args, "--config", os.DevNull)...); code != exitUsage || !strings.Contains(errs, "UTF-8") {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, errs)
		}
	}
	if n := asked.Load(); n != 0 || walked < 20 {
		t.Errorf("the server was asked %d times, %d arguments were no text", n, walked)
	}
}

// TestDevNamesNoFlagThatItLacks: it cannot be reached from other hosts, and says what can.
func TestDevNamesNoFlagThatItLacks(t *testing.T) {
	t.Parallel()
	code, _, errs := commandLine("dev", "--data", t.TempDir(), "--edge-http", "0.0.0.0:0")
	if code != exitUsage || strings.Contains(errs, "--insecure") || !strings.Contains(errs, "authority and edge") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
