package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

// outcome is a line of the log.
type outcome struct {
	verdict string
	sum     string // of the code that it is true of
	name    string
	by      string
}

// record is the log: what became of which mutant. Of lines about the same one the last counts.
type record struct {
	path string

	mu sync.Mutex
	of map[string]outcome
}

func readRecord(path string) (*record, error) {
	r := &record{path: path, of: map[string]outcome{}}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// What was cut short by a crash is tried again.
		if p := strings.Split(lines.Text(), "\t"); len(p) == 5 {
			r.of[p[3]] = outcome{verdict: p[0], sum: p[2], name: p[3], by: p[4]}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	return r, nil
}

// add writes a line: verdict, seconds, sum, name, by whom.
func (r *record) add(o outcome, took time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[o.name] = o
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s\t%.0f\t%s\t%s\t%s\n", o.verdict, took.Seconds(), o.sum, o.name, strings.Join(strings.Fields(o.by), " "))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}

// survivor is an entry of survivors.txt.
type survivor struct {
	name, reason string
	line         int
}

// readSurvivors reads the list: the name of a mutant on a line, and below it, indented, the reason why it may live. Entries that stand
// together share the reason below them. A # begins a line that is for people only.
func readSurvivors(text string) (list []survivor, faults []string) {
	known, open := map[string]bool{}, 0 // the first of those that have no reason yet
	closeBlock := func() {
		for _, s := range list[open:] {
			if s.reason == "" {
				faults = append(faults, fmt.Sprintf("line %d: no reason is given: %s", s.line, s.name))
			}
		}
		open = len(list)
	}
	explained := false
	n := 0
	for line := range strings.Lines(text) {
		n++
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "" || strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			for i := open; i < len(list); i++ {
				list[i].reason = strings.TrimSpace(list[i].reason + " " + trimmed)
			}
			explained = true
		default:
			if explained {
				closeBlock()
				explained = false
			}
			if known[trimmed] {
				faults = append(faults, fmt.Sprintf("line %d: twice: %s", n, trimmed))
			}
			known[trimmed] = true
			list = append(list, survivor{name: trimmed, line: n})
		}
	}
	closeBlock()
	return list, faults
}

// compare says what is wrong with the list, by all mutants that the code has and by what became of those that were tried.
func compare(list []survivor, has map[string]bool, became map[string]outcome) (faults []string) {
	listed := map[string]bool{}
	for _, s := range list {
		listed[s.name] = true
		switch o := became[s.name]; {
		case !has[s.name]:
			faults = append(faults, fmt.Sprintf("line %d: the code has no such mutant any more: %s", s.line, s.name))
		case o.verdict == killed:
			faults = append(faults, fmt.Sprintf("line %d: is listed and was killed by %s: %s", s.line, o.by, s.name))
		case o.verdict == refused:
			faults = append(faults, fmt.Sprintf("line %d: the compiler refuses it: %s", s.line, s.name))
		}
	}
	for name, o := range became {
		if o.verdict == lived && !listed[name] {
			faults = append(faults, "lives, and is not listed: "+name)
		}
	}
	return faults
}
