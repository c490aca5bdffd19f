package mail

import (
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzMail: whatever address is taken, and whatever an org is named, the mail has one receiver, the headers that we wrote, and the text.
func FuzzMail(f *testing.F) {
	f.Add("a@example.com", "A new key", "text\n.\nmore")
	f.Add("a@example.com\r\nBcc: b@example.com", "x\r\nBcc: b@example.com", "\r\n.\r\n")
	f.Add(" \"a b\"@example.com", "α", "=\xff")
	f.Add("a@example.com, b@example.com", "", "")
	f.Add("a@example.com", "x", "a\r\x80\nb\r\rc\n\r")
	f.Add("a@example.com", "=?utf-8?q?x?=", strings.Repeat("x", 1000))
	f.Fuzz(func(t *testing.T, address, subject, text string) {
		to, ok := Plain(address)
		if !ok {
			return
		}
		m, err := netmail.ReadMessage(strings.NewReader(string(compose("from@example.com", to, Message{To: to, Subject: subject, Text: text}, time.Now()))))
		if err != nil {
			t.Fatalf("to %q: %v", to, err)
		}
		list, err := m.Header.AddressList("To")
		if err != nil || len(list) != 1 || list[0].Address != to || len(m.Header) != 9 || m.Header.Get("From") != "from@example.com" {
			t.Fatalf("to %q with subject %q: %v, %v", to, subject, m.Header, err)
		}
		plain := utf8.ValidString(subject) && subject == strings.TrimSpace(subject) && !strings.Contains(subject, "=?")
		if got, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); plain && (err != nil || got != subject) {
			t.Fatalf("subject %q becomes %q, %v", subject, got, err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		lines := strings.NewReplacer("\r\n", "\n", "\r", "\n")
		if err != nil || lines.Replace(string(body)) != lines.Replace(text) {
			t.Fatalf("text %q becomes %q, %v", text, body, err)
		}
	})
}
