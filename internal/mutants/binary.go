package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// binary is a judge's tests, compiled once with the mutants of a package in it.
type binary struct {
	judge
	path  string
	tests []asked
}

// asked is what a run of tests needs to be told apart by: how long it takes, and the numbers of the mutants that it asks about.
type asked struct {
	run   string // a regular expression
	took  time.Duration
	about map[int]bool
}

// loom has the mutants of a package in binaries.
type loom struct {
	folder  string
	dir     string
	overlay string
	numbers map[string]int // of those that can be switched, by name
	judges  []*binary      // own first; the others when they are asked for
}

var packageClause = regexp.MustCompile(`(?m)^package (\w+)`)

// weave compiles a package's tests with all mutants that can be switched. Those that the compiler complains of are left out: they are
// compiled alone later, as those that cannot be switched.
func (c *court) weave(ctx context.Context, dir, folder string, due []mutant) (*loom, error) {
	l := &loom{folder: folder, dir: dir, overlay: filepath.Join(dir, "overlay.json"), numbers: map[string]int{}}
	byFile := map[string][]int{}
	for i := range due {
		byFile[due[i].file] = append(byFile[due[i].file], i)
	}
	out := map[int]bool{}
	for {
		files, replace := map[string]*woven{}, map[string]string{}
		for file, of := range byFile {
			name := filepath.Join(c.root, filepath.FromSlash(file))
			src, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read what is to be changed: %w", err)
			}
			var in []mutant
			var numbers []int
			for _, i := range of {
				if !out[i] {
					in, numbers = append(in, due[i]), append(numbers, i)
				}
			}
			files[file] = weave(src, in, numbers)
			replace[name] = filepath.Join(dir, flat(file))
			replace[filepath.Join(c.root, filepath.FromSlash(folder), "mutant_switches.go")] = filepath.Join(dir, "switches.go")
			text := switches(string(packageClause.FindSubmatch(src)[1]))
			err = errors.Join(os.WriteFile(replace[name], files[file].text, 0o600), os.WriteFile(filepath.Join(dir, "switches.go"), []byte(text), 0o600))
			if err != nil {
				return nil, fmt.Errorf("write mutants: %w", err)
			}
		}
		list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
		if err != nil {
			return nil, fmt.Errorf("list what is replaced: %w", err)
		}
		if err := os.WriteFile(l.overlay, list, 0o600); err != nil {
			return nil, fmt.Errorf("list what is replaced: %w", err)
		}
		own := &binary{judge: judge{folder: folder}, path: filepath.Join(dir, "own.test")}
		said, err := c.compile(ctx, own, l.overlay)
		if err == nil {
			l.judges = append(l.judges, own)
			break
		}
		before := len(out)
		for _, m := range complaint.FindAllSubmatch(said, -1) {
			file := filepath.ToSlash(filepath.Clean(string(m[1])))
			for name := range files { // the compiler says where what replaces it is
				if filepath.Base(file) == flat(name) {
					file = name
				}
			}
			line, column := atoi(m[2]), atoi(m[3])
			text, err := os.ReadFile(filepath.Join(c.root, filepath.FromSlash(file)))
			if w := files[file]; w != nil {
				text, err = w.text, nil
			}
			if err != nil {
				return nil, fmt.Errorf("read what the compiler complains of: %w\n%s", err, said)
			}
			var of []int
			for _, w := range files {
				of = append(of, w.constants(lineOf(text, line))...)
			}
			if w := files[file]; w != nil && len(of) == 0 {
				of = w.refusedBy(line, column)
			}
			for _, n := range of {
				out[n] = true
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("compile all mutants of %s: %w\n%s", folder, err, said)
		}
	}
	for i := range due {
		if due[i].way != byItself && !out[i] {
			l.numbers[due[i].name] = i
		}
	}
	return l, nil
}

func flat(file string) string { return strings.ReplaceAll(file, "/", "_") }

func atoi(b []byte) int {
	n, _ := strconv.Atoi(string(b)) // what the expression has found
	return n
}

func (c *court) compile(ctx context.Context, b *binary, overlay string) ([]byte, error) {
	return c.command(ctx, c.root, 30*time.Minute, nil,
		"go", "test", "-c", "-vet=off", "-ldflags=-w", "-gcflags=-e", "-overlay", overlay, "-o", b.path, "./"+b.folder)
}

// learn runs a judge's tests one by one without a fault, and notes which mutants each asks about.
func (c *court) learn(ctx context.Context, b *binary) error {
	runs := []string{b.run}
	if b.run == "" {
		said, err := c.command(ctx, c.in(b), time.Minute, nil, b.path, "-test.list", "^(Test|Fuzz|Example)")
		if err != nil {
			return fmt.Errorf("list the tests of %s: %w\n%s", b.folder, err, said)
		}
		runs = nil
		for name := range strings.FieldsSeq(string(said)) {
			if !strings.HasPrefix(name, "TestAlloc") {
				runs = append(runs, "^"+name+"$")
			}
		}
	}
	for _, run := range runs {
		a := asked{run: run, about: map[int]bool{}}
		file := filepath.Join(filepath.Dir(b.path), "asked")
		for again := range 2 { // alone a test may mind another load
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("note what is asked: %w", err)
			}
			began := time.Now()
			said, err := c.command(ctx, c.in(b), 30*time.Minute, append([]string{"MUTANTS_ASKED=" + file}, b.env...), b.path, "-test.short", "-test.run", run)
			a.took = time.Since(began)
			if err == nil {
				break
			}
			if again > 0 {
				return fmt.Errorf("%s of %s fails without a fault: %w\n%s", run, b.folder, err, said)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read what was asked: %w", err)
		}
		for n := range strings.FieldsSeq(string(text)) {
			a.about[atoi([]byte(n))] = true
		}
		b.tests = append(b.tests, a)
	}
	slices.SortStableFunc(b.tests, func(x, y asked) int { return int(x.took - y.took) })
	return nil
}

func (c *court) in(b *binary) string { return filepath.Join(c.root, filepath.FromSlash(b.folder)) }

// other is a judge beside the package's own tests, compiled when the first mutant comes to it.
func (c *court) other(ctx context.Context, l *loom, at int, j judge) (*binary, error) {
	c.once.Lock()
	defer c.once.Unlock()
	if at < len(l.judges) {
		return l.judges[at], nil
	}
	b := &binary{judge: j, path: filepath.Join(l.dir, fmt.Sprintf("other%d.test", at))}
	if said, err := c.compile(ctx, b, l.overlay); err != nil {
		return nil, fmt.Errorf("compile %s with the mutants of %s: %w\n%s", j.folder, l.folder, err, said)
	}
	l.judges = append(l.judges, b)
	return b, c.learn(ctx, b)
}

// switchOn tries a mutant that is in the binaries: by the tests that ask about it, the quick ones first.
func (c *court) switchOn(ctx context.Context, l *loom, n int) (verdict, by string, err error) {
	for at, j := range c.judges(l.folder) {
		b, err := c.other(ctx, l, at, j)
		if err != nil {
			return "", "", err
		}
		var due []asked
		for _, t := range b.tests {
			if t.about[n] {
				due = append(due, t)
			}
		}
		for share := time.Second; len(due) > 0; share *= 4 {
			some, took := 1, due[0].took
			for some < len(due) && took+due[some].took < share {
				took += due[some].took
				some++
			}
			runs := make([]string, some)
			for i := range some {
				runs[i] = due[i].run
			}
			within := c.patient + 3*took
			// A loop without an end is known by its time on the processor, which other work on the machine does not make longer.
			busy := fmt.Sprint(int((3*time.Second + 8*took).Seconds()))
			args := []string{
				"sh", "-c", `ulimit -t "$0" && exec "$@"`, busy, b.path, "-test.short", "-test.failfast",
				"-test.timeout", within.Round(time.Second).String(), "-test.run", strings.Join(runs, "|"),
			}
			said, err := c.command(ctx, c.in(b), within+time.Minute, append([]string{"MUTANT=" + strconv.Itoa(n)}, b.env...), args...)
			if ctx.Err() != nil {
				return "", "", ctx.Err()
			}
			if err != nil {
				return killed, j.folder + " " + cmp.Or(failedTest.FindString(string(said)), err.Error()), nil
			}
			due = due[some:]
		}
	}
	return lived, "", nil
}
