package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// door is the one way to a stream of this process. What others chose (ids, names, metadata, errors of other machines) passes it harmless: of what moves a
// terminal's cursor, turns text around or is not seen there comes only its escape, \u202e, which JSON reads as the same text. It remembers the first
// write that failed, so that no command must look. It is safe for concurrent use.
type door struct {
	mu     sync.Mutex
	to     io.Writer
	rest   []byte // the beginning of a rune
	failed error
	secret string              // what to do if what was shown is lost
	words  func(string) string // completes messages; nil: they are complete
}

func newDoor(to io.Writer) *door { return &door{to: to} }

// Write implements io.Writer.
func (d *door) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := slices.Concat(d.rest, p)
	whole := len(b)
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if last := b[len(b)-i:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				whole = len(b) - i
			}
			break
		}
	}
	d.put(escape(string(b[:whole]), "\n\t"))
	d.rest = append([]byte(nil), b[whole:]...)
	if d.failed != nil {
		return 0, unshownError{d.failed}
	}
	return len(p), nil
}

// unshownError is what a command hears of a write that failed. It may ignore it: the door does not.
type unshownError struct{ error }

// butShown takes it out of a command's error: what was done was done.
func butShown(err error) error {
	if _, ok := errors.AsType[unshownError](err); !ok {
		return err
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var rest []error
		for _, one := range joined.Unwrap() {
			rest = append(rest, butShown(one))
		}
		return errors.Join(rest...)
	}
	return nil
}

func (d *door) put(text string) {
	if text == "" || d.failed != nil {
		return
	}
	_, d.failed = io.WriteString(d.to, text)
}

// showing is called before a secret is written that is shown once only: lost says what was made, and how to take it back.
func (d *door) showing(lost string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secret = lost
}

// errNowhere says that the process was started without a standard output.
var errNowhere = errors.New("it is closed")

// end returns why not all that was written came through, nil if it did.
func (d *door) end() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(escape(string(d.rest), ""))
	d.rest = nil
	if f, ok := d.to.(*os.File); ok && d.failed == nil && d.secret != "" && wasClosed(f) {
		return errNowhere
	}
	return d.failed
}

// shows says what is lost if what a command writes to its standard output from now on is.
func shows(w io.Writer, lost string, args ...any) {
	if d, ok := w.(*door); ok {
		d.showing(fmt.Sprintf(lost, args...))
	}
}

// behind is the stream behind a door: what draws on a terminal needs it.
func behind(w io.Writer) io.Writer {
	if d, ok := w.(*door); ok {
		return d.to
	}
	return w
}

// printf is fmt.Fprintf to a door, for values that others chose: each keeps to its line and its cell. Who looks for failures finds them at the door.
func printf(w io.Writer, format string, args ...any) {
	safe := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			safe[i] = plain(v)
		case error:
			safe[i] = plain(v.Error())
		case fmt.Stringer:
			safe[i] = plain(v.String())
		case []string:
			safe[i] = plain(fmt.Sprint(v))
		default:
			safe[i] = arg
		}
	}
	announcef(w, format, safe...)
}

// announcef writes a message, with what it tells people to type made complete.
func announcef(w io.Writer, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if d, ok := w.(*door); ok && d.words != nil {
		text = d.words(text)
	}
	_, _ = io.WriteString(w, text) // the door knows
}

// plain is a text that others chose, in the one line or cell that it is shown in.
func plain(s string) string { return escape(s, "") }

// shown is a name or an id that others chose, as it can be typed back into a shell (bash, zsh): as it is; in quotes if it has spaces or signs of the shell; and as $'...', with escapes, if a
// terminal would not just show it, or it has a backslash, so that none is taken for an escape. Two that differ are shown differently, and none has the look of two cells.
func shown(s string) string {
	bare := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || r > unicode.MaxASCII || strings.ContainsRune("-_./:,=@%+", r)
	}
	switch {
	case s != plain(s) || strings.ContainsAny(s, `\'`):
	case s == "" || s == "-" || strings.ContainsFunc(s, func(r rune) bool { return !bare(r) }):
		return "'" + s + "'"
	default:
		return s
	}
	var b strings.Builder
	b.WriteString("$'")
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\\' || r == '\'':
			b.WriteString(`\` + string(r))
		case plain(string(r)) == string(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String() + "'"
}

// shownAll is shown of each.
func shownAll(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = shown(name)
	}
	return strings.Join(list, ", ")
}

// cell is another text that others chose, in a table: as it is, unless it could be taken for two cells.
func cell(s string) string {
	if s == plain(s) && !strings.Contains(s, "  ") && strings.TrimSpace(s) == s && !strings.ContainsAny(s, `\`) {
		return s
	}
	return shown(s)
}

// escape writes what a terminal would not just show as \u and four digits, twice where UTF-16 takes two. keep is left as it is.
func escape(s, keep string) string {
	shown := func(r rune) bool {
		return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || strings.ContainsRune(keep, r)
	}
	clean := utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !shown(r) }) < 0
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			b.WriteString(`\ufffd`) // a byte that is no text
			continue
		}
		switch hi, lo := utf16.EncodeRune(r); {
		case shown(r):
			b.WriteRune(r)
		case hi != utf8.RuneError:
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
