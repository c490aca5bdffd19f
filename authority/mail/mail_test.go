package mail

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"testing"
	"time"
)

// server is an SMTP server that takes one mail and says what it saw.
type server struct {
	address string
	pool    *x509.CertPool
	saw     chan seen
}

type seen struct {
	secret         bool
	login, to, raw string
}

// serve starts one that offers STARTTLS, or does not.
func serve(t *testing.T, starttls bool) *server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &server{address: l.Addr().String(), pool: x509.NewCertPool(), saw: make(chan seen, 1)}
	s.pool.AddCert(cert)
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.talk(conn, conf, starttls)
			_ = conn.Close()
		}
	}()
	return s
}

func (s *server) talk(conn net.Conn, conf *tls.Config, starttls bool) {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	var saw seen
	say("220 here")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch word, rest, _ := strings.Cut(strings.TrimSpace(line), " "); strings.ToUpper(word) {
		case "EHLO":
			if starttls && !saw.secret {
				say("250-here\r\n250 STARTTLS")
			} else {
				say("250-here\r\n250 AUTH PLAIN")
			}
		case "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, conf)
			r, saw.secret = bufio.NewReader(conn), true
		case "AUTH":
			saw.login = rest
			say("235 yes")
		case "RCPT":
			saw.to += rest
			say("250 yes")
		case "DATA":
			say("354 go on")
			for {
				line, err := r.ReadString('\n')
				if err != nil || line == ".\r\n" {
					break
				}
				saw.raw += line
			}
			say("250 taken")
			s.saw <- saw
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 yes")
		}
	}
}

// TestSend: a mail arrives whole, over TLS, with a login, and nothing in it is a header of its own.
func TestSend(t *testing.T) {
	t.Parallel()
	s := serve(t, true)
	m := SMTP{Address: s.address, User: "me", Password: "secret", From: "machineid@example.com", TLS: &tls.Config{RootCAs: s.pool, MinVersion: tls.VersionTLS12}}
	text := "Grüße,\n.\nBcc: x@example.com\n" + strings.Repeat("long ", 50) + "\nhttps://m.example.com/recover#a_b-c=\n"
	if err := m.Send(t.Context(), Message{To: "owner@example.com", Subject: "Schlüssel\r\nBcc: y@example.com", Text: text}); err != nil {
		t.Fatal(err)
	}
	saw := <-s.saw
	if !saw.secret || !strings.HasPrefix(saw.login, "PLAIN ") || saw.to != "TO:<owner@example.com>" {
		t.Errorf("%+v", saw)
	}
	got, err := netmail.ReadMessage(strings.NewReader(strings.ReplaceAll(saw.raw, "\r\n..", "\r\n.")))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
	if err != nil || strings.ReplaceAll(strings.TrimSpace(string(body)), "\r\n", "\n") != strings.TrimSpace(text) {
		t.Errorf("%v: %q", err, body)
	}
	if got.Header.Get("Bcc") != "" || got.Header.Get("To") != "owner@example.com" || got.Header.Get("Message-ID") == "" {
		t.Errorf("%v", got.Header)
	}
	// A certificate that is none of its is not accepted.
	m.TLS = nil
	if err := m.Send(t.Context(), Message{To: "owner@example.com"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a stranger's certificate: %v", err)
	}
}

// TestSendInTheClear: without TLS a mail goes to this machine only.
func TestSendInTheClear(t *testing.T) {
	t.Parallel()
	s := serve(t, false)
	m := SMTP{Address: s.address, From: "machineid@example.com"}
	if err := m.Send(t.Context(), Message{To: "owner@example.com", Text: "x"}); err != nil {
		t.Fatal(err)
	}
	if saw := <-s.saw; saw.secret || saw.login != "" {
		t.Errorf("%+v", saw)
	}
	_, port, _ := net.SplitHostPort(s.address)
	m.Address = net.JoinHostPort("0.0.0.0", port) // reaches this machine, and is no loopback address
	if err := m.Send(t.Context(), Message{To: "owner@example.com", Text: "x"}); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("in the clear to somewhere: %v", err)
	}
}

// TestPlain: what is taken for an address, and what is not.
func TestPlain(t *testing.T) {
	for address, want := range map[string]bool{
		"a@example.com": true, " a@example.com\n": true, "a+b@example.com": true,
		"": false, "a": false, "A <a@example.com>": false, "<a@example.com>": false, "a@b.c\r\nBcc: d@e.f": false, "a@b.c, d@e.f": false, `"a b"@c.d`: false,
		strings.Repeat("a", 250) + "@b.cd": false, "a@b@c": false,
	} {
		if got, ok := Plain(address); ok != want || ok && got != strings.TrimSpace(address) {
			t.Errorf("%q: %q, %t", address, got, ok)
		}
	}
	if text := fmt.Sprintf("%v", SMTP{Password: "hunter2"}); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
}

// TestSendEndsWithItsContext, whatever the server does: a stop of the process waits for no mail.
func TestSendEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "220 here\r\n")
		_, _ = bufio.NewReader(conn).ReadString('\n') // and it answers nothing
		cancel()
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}()
	sent := make(chan error, 1)
	go func() {
		sent <- SMTP{Address: l.Addr().String(), From: "a@example.com"}.Send(ctx, Message{To: "b@example.com", Subject: "s", Text: "t"})
	}()
	select {
	case err := <-sent:
		if err == nil {
			t.Error("a mail was sent to nobody")
		}
	case <-time.After(sendTime / 2):
		t.Error("a server that hangs holds it up after its context has ended")
	}
}
