// Package mail sends mails to people: through an SMTP server, or, for development, onto a writer.
//
// What it guarantees: a mail goes out over TLS or to this machine, or not at all; no part of a mail can become another header or another
// mail; passwords are never logged.
package mail

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/smtp"
	"strings"
	"sync"
	"time"

	"machineid/shared/dial"
)

// Message is one mail to one person.
type Message struct {
	To      string // a plain address
	Subject string // a reader decodes encoded words in it (RFC 2047)
	Text    string
}

// Sender sends mails. It is safe for concurrent use. A mail whose Send failed may have been sent all the same.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Secret is a string that no log shows.
type Secret string

// LogValue hides the secret (slog.LogValuer).
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// String hides the secret.
func (Secret) String() string { return "***" }

// SMTP is a server that takes mails.
type SMTP struct {
	// Address is its host:port. On port 465 TLS begins at once, elsewhere by STARTTLS; only to this machine may it be missing.
	Address  string
	User     string // empty: without a login
	Password Secret
	From     string // a plain address
	// TLS is for tests; nil checks the server's certificate by its name.
	TLS *tls.Config
}

// sendTime bounds the sending of one mail.
const sendTime = 30 * time.Second

// Plain returns an address as it goes into a mail, and whether it is one: without a name, quotes or comments.
func Plain(address string) (string, bool) {
	address = strings.TrimSpace(address)
	a, err := netmail.ParseAddress(address)
	if err != nil || a.Name != "" || a.Address != address || len(address) > 254 || strings.ContainsAny(address, "\r\n\t \"<>") {
		return "", false
	}
	return address, true
}

// Send implements Sender.
func (s SMTP) Send(ctx context.Context, m Message) error {
	to, ok := Plain(m.To)
	if !ok {
		return errors.New("send a mail: the receiver's address is none")
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	client, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("send a mail through %s: %w", s.Address, err)
	}
	defer func() { _ = client.Close() }()
	if err := s.deliver(client, to, m); err != nil {
		return fmt.Errorf("send a mail through %s: %w", s.Address, err)
	}
	return nil
}

// dial returns a connection to the server that is secret, or stays on this machine.
func (s SMTP) dial(ctx context.Context) (*smtp.Client, error) {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return nil, err
	}
	conn, err := dial.TCP(ctx, s.Address)
	if err != nil {
		return nil, err
	}
	plain := conn
	context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) }) // at its deadline, or when the process stops
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if s.TLS != nil {
		conf = s.TLS.Clone()
		conf.ServerName = host
	}
	secret := port == "465"
	if secret {
		conn = tls.Client(conn, conf)
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	offered, _ := client.Extension("STARTTLS")
	switch {
	case secret:
	case offered:
		err = client.StartTLS(conf)
	case !loopback(host):
		err = errors.New("the server offers no STARTTLS: use one that does, or its port 465")
	}
	if err == nil && s.User != "" {
		err = client.Auth(smtp.PlainAuth("", s.User, string(s.Password), host))
	}
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return client, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (s SMTP) deliver(client *smtp.Client, to string, m Message) error {
	if err := client.Mail(s.From); err != nil {
		return err
	}
	if err := client.Rcpt(to); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(compose(s.From, to, m, time.Now())); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = client.Quit() // it has the mail
	return nil
}

// compose writes a mail (RFC 5322). The subject is encoded whole, the text too, so neither can hold a header.
func compose(from, to string, m Message, now time.Time) []byte {
	var b bytes.Buffer
	_, domain, _ := strings.Cut(from, "@")
	for _, h := range [][2]string{
		{"From", from},
		{"To", to},
		{"Subject", mime.QEncoding.Encode("utf-8", m.Subject)},
		{"Date", now.UTC().Format(time.RFC1123Z)},
		{"Message-ID", "<" + rand.Text() + "@" + domain + ">"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
		{"Auto-Submitted", "auto-generated"},
	} {
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	// quotedprintable takes CR, something, LF for one end of a line (go1.26), so the text's ends are made one kind before.
	_, _ = w.Write([]byte(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(m.Text))) // a buffer takes it
	_ = w.Close()
	return b.Bytes()
}

// Printer writes mails instead of sending them.
type Printer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewPrinter returns a Printer.
func NewPrinter(w io.Writer) *Printer { return &Printer{w: w} }

// Send implements Sender.
func (p *Printer) Send(_ context.Context, m Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintf(p.w, "--- a mail to %s: %s\n%s\n---\n", m.To, m.Subject, m.Text)
	return err
}
