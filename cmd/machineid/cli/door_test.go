package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"machineid/authority/hub"
	"machineid/internal/testkit/program"
)

// harmful are runes of every kind that a terminal does not just show.
var harmful = []rune{
	0x00, 0x07, 0x08, 0x0d, 0x1b, 0x7f, 0x85, 0x9b, // controls
	0x00a0, 0x2000, 0x2028, 0x2029, 0x202f, 0x3000, // spaces and ends of lines
	0x061c, 0x200e, 0x200f, 0x202a, 0x202e, 0x2066, 0x2069, // direction
	0x00ad, 0x034f, 0x115f, 0x17b4, 0x180b, 0x200b, 0x200c, 0x200d, 0x2060, 0x3164, 0xfe0f, 0xfeff, 0xffa0, 0xfff9, // not seen
	0x1d173, 0xe0001, 0xe0041, 0xe0100, 0xe000, 0x10ffff, // tags, others' own
}

// hostile is what somebody may choose as a name, as far as an API that checked nothing would let them.
func hostile() string {
	var b strings.Builder
	for _, r := range harmful {
		fmt.Fprintf(&b, "a%c", r)
	}
	return b.String() + "\nid\tx\\u202e\"é世界"
}

// faultOf says what in a text a terminal would not just show.
func faultOf(text string) string {
	for i, r := range text {
		if r == '\n' {
			continue
		}
		if !unicode.IsPrint(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return fmt.Sprintf("%U in %q", r, text[max(0, i-20):min(len(text), i+20)])
		}
	}
	if !utf8.ValidString(text) {
		return "bytes that are no UTF-8"
	}
	return ""
}

// TestTheDoorLetsNothingHarmfulOut: however a text is cut into writes, what comes out is harmless, and JSON is the same value.
func TestTheDoorLetsNothingHarmfulOut(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(map[string]string{hostile(): hostile()})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{hostile(), string(raw), "a\xffb", "\xe2\x80", "plain\nlines\n"} {
		for _, size := range []int{1, 2, 3, 1000} {
			var out bytes.Buffer
			d := newDoor(&out)
			for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if _, err := d.Write(rest[:min(size, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.end(); err != nil {
				t.Error(err)
			}
			if fault := faultOf(strings.ReplaceAll(out.String(), "\t", "")); fault != "" {
				t.Errorf("in writes of %d: %s", size, fault)
			}
			if text == string(raw) {
				var back map[string]string
				if err := json.Unmarshal(out.Bytes(), &back); err != nil || back[hostile()] != hostile() {
					t.Errorf("in writes of %d: JSON is another: %v %q", size, err, out.String())
				}
			}
			if strings.HasPrefix(text, "plain") && out.String() != text {
				t.Errorf("harmless text is changed: %q", out.String())
			}
		}
	}
	if s := plain(hostile()); strings.ContainsAny(s, "\n\t") || faultOf(s) != "" {
		t.Errorf("a cell is not one: %q", s)
	}
	for _, same := range []string{"agent-01", "crewai:dev:runner:01", "worker/prod/α", "日本語", "naïve 🙂"} {
		if got := plain(same); got != same {
			t.Errorf("%q is shown as %q", same, got)
		}
	}
}

// TestTheDoorRemembers: the first write that fails is told at the end, whatever a command does about it.
func TestTheDoorRemembers(t *testing.T) {
	t.Parallel()
	d := newDoor(failing{})
	shows(d, "key %s is lost", "k")
	printf(d, "%s\n", "x")
	if err := d.end(); err == nil {
		t.Error("nothing is told")
	}
	var said bytes.Buffer
	if code := conclude("machineid x", nil, d, &said); code != exitUnshown || !strings.Contains(said.String(), "key k is lost") {
		t.Errorf("exit code %d: %s", code, said.String())
	}
}

// TestDevTellsOfChangesInALineEach: whatever devices are called.
func TestDevTellsOfChangesInALineEach(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := newDoor(&out)
	tellChange(d, "device.revoked", hostile(), hub.Propagation{})
	if fault := faultOf(out.String()); fault != "" || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%s in %q", fault, out.String())
	}
}

// failing is a stream that takes nothing.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestWhatIsShownCanBeTypedBack has bash read each: it is the same text, and of two that differ no two look alike.
func TestWhatIsShownCanBeTypedBack(t *testing.T) {
	t.Parallel()
	names := []string{
		"agent-01", "", "-", "Acme Inc", "it's", `bi\u202eid`, "bi\u202eid", `$'bi\u202eid'`, "prod-01   revoked  -", " x", "x ", "$HOME", "a;b", "*", `a\`, `"q"`, "日本語", "naïve 🙂", "tag\U000e0041", "nl\nx", "e\u0301", "wide\u3000space", "#x", "~",
	}
	for _, r := range harmful[1:] { // no argument has a zero
		names = append(names, fmt.Sprintf("a%cb", r))
	}
	as, all := map[string]string{}, make([]string, len(names))
	for i, name := range names {
		s := shown(name)
		if other, again := as[s]; again && other != name {
			t.Errorf("%q and %q are both shown as %s", name, other, s)
		}
		as[s], all[i] = name, s
		if fault := faultOf(s); fault != "" || s != plain(s) {
			t.Errorf("%q is shown as %s: %s", name, s, fault)
		}
		if cells := strings.Split(s, "  "); len(cells) > 1 && (s[0] != '\'' || s[len(s)-1] != '\'') {
			t.Errorf("%q has the look of several cells: %s", name, s)
		}
	}
	for _, same := range []string{"agent-01", "crewai:dev:runner:01", "worker/prod/α", "日本語", "b2469749-4abd-45c1-946a-799ce518d2b7", "2030-01-02T15:04:05Z"} {
		if shown(same) != same {
			t.Errorf("%s is shown as %s", same, shown(same))
		}
	}
	bash := program.Find(t, "bash", "bash")
	cmd := exec.CommandContext(t.Context(), bash, "-c", `printf '%s\0' `+strings.Join(all, " "))
	cmd.Env = []string{"LC_ALL=C.UTF-8", "HOME=/"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	back := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(back) != len(names) {
		t.Fatalf("%d were typed, %d were read", len(names), len(back))
	}
	for i, name := range names {
		if back[i] != name {
			t.Errorf("%q is shown as %s, which bash reads as %q", name, all[i], back[i])
		}
	}
}
