package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

//go:embed survivors.txt
var explained string

// packages are those that are tried if none is named: what the promise rests on.
var packages = []string{
	"shared/budget", "shared/clock", "shared/decision", "shared/dial", "shared/format", "shared/hint", "shared/link", "shared/listener", "shared/orgkey",
	"shared/page", "shared/place", "shared/release", "shared/search", "shared/seldom", "shared/spool", "shared/system", "shared/timestamp", "shared/toplist",
	"shared/wire",
	"edge", "authority", "authority/hub", "authority/state", "raftstore",
}

type options struct {
	bound   time.Duration
	log     string
	only    *regexp.Regexp
	lived   bool
	own     bool
	list    bool
	workers int
	factor  int
	patient time.Duration
	memory  int
}

func main() {
	var o options
	only := flag.String("only", "", "try only mutants whose name the regular expression `RE` finds")
	flag.DurationVar(&o.bound, "for", 0, "begin none after so long; 0: until all are tried")
	flag.StringVar(&o.log, "log", filepath.FromSlash(".bin/mutants.log"), "the `FILE` that what became of them is written to, and read from")
	flag.BoolVar(&o.lived, "lived", false, "try only those that lived when they were tried last")
	flag.BoolVar(&o.own, "own", false, "let a package's own tests judge alone: a first look, which finds more that live than there are")
	flag.BoolVar(&o.list, "list", false, "print the mutants and try none")
	flag.IntVar(&o.workers, "workers", 1, "mutants that are tried at once; tests share the machine then, and some mind")
	flag.IntVar(&o.factor, "factor", 10, "how many times as large, and as small, a constant becomes. survivors.txt is about 10")
	flag.DurationVar(&o.patient, "patience", 20*time.Second, "how long tests may take beyond three times what they take without a fault")
	flag.IntVar(&o.memory, "memory", 6, "how many GiB a process of them may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	o.only = regexp.MustCompile(*only)
	err := run(ctx, os.Stdout, flag.Args(), &o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// module is the code as it is: its mutants, and sums that say when something has to be tried again.
type module struct {
	root    string
	mutants map[string][]mutant // by the package's folder
	names   map[string]bool     // of all, also where none is tried
	sums    map[string]string
}

// load reads the code of all packages that may have mutants.
func load(ctx context.Context, root string, factor int) (*module, error) {
	m := &module{root: root, mutants: map[string][]mutant{}, names: map[string]bool{}, sums: map[string]string{}}
	for _, folder := range packages {
		files, err := goFiles(ctx, root, folder)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
			if err != nil {
				return nil, fmt.Errorf("read the code: %w", err)
			}
			found, err := find(file, src, factor)
			if err != nil {
				return nil, err
			}
			m.mutants[folder] = append(m.mutants[folder], found...)
		}
		for i := range m.mutants[folder] {
			m.names[m.mutants[folder][i].name] = true
		}
	}
	return m, nil
}

// goFiles are the files of a package that are compiled here.
func goFiles(ctx context.Context, root, folder string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=GoFiles", "./"+folder)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", folder, err)
	}
	var p struct{ GoFiles []string }
	if err := json.Unmarshal(out, &p); err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", folder, err)
	}
	for i, name := range p.GoFiles {
		p.GoFiles[i] = folder + "/" + name
	}
	return p.GoFiles, nil
}

// sum is over all code that decides about a package's mutants: its own, and its judges'. What those import is left out.
func (m *module) sum(folder string, by []judge) (string, error) {
	if s := m.sums[folder]; s != "" {
		return s, nil
	}
	h := sha256.New()
	for _, j := range by {
		names, err := filepath.Glob(filepath.Join(m.root, filepath.FromSlash(j.folder), "*.go"))
		if err != nil {
			return "", fmt.Errorf("list the code of %s: %w", j.folder, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return "", fmt.Errorf("read the code: %w", err)
			}
			of := sha256.Sum256(data)
			h.Write(of[:])
		}
	}
	m.sums[folder] = hex.EncodeToString(h.Sum(nil)[:6])
	return m.sums[folder], nil
}

func run(ctx context.Context, w io.Writer, folders []string, o *options) error {
	root, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	if len(folders) == 0 {
		folders = packages
	}
	m, err := load(ctx, root, o.factor)
	if err != nil {
		return err
	}
	past, err := readRecord(o.log)
	if err != nil {
		return err
	}
	began, stopped := time.Now(), false
	c := &court{root: root, memory: o.memory, patient: o.patient, own: o.own, took: map[string]time.Duration{}}
	became := map[string]outcome{}
	for _, folder := range folders {
		if m.mutants[folder] == nil {
			return fmt.Errorf("%s has no mutants; it knows %s", folder, strings.Join(packages, ", "))
		}
		sum, err := m.sum(folder, c.judges(folder))
		if err != nil {
			return err
		}
		var due []mutant
		for _, mu := range m.mutants[folder] {
			was, known := past.of[mu.name]
			switch {
			case !o.only.MatchString(mu.name) || o.lived && was.verdict != lived:
			case o.list:
				fmt.Fprintln(w, mu.name)
			case known && was.sum == sum && !o.lived:
				became[mu.name] = was
			default:
				due = append(due, mu)
			}
		}
		if o.list {
			continue
		}
		fmt.Fprintf(w, "%s: %d mutants, %d to try\n", folder, len(m.mutants[folder]), len(due))
		if len(due) == 0 || stopped {
			continue
		}
		left, err := c.tryAll(ctx, folder, due, o, began, func(out outcome, took time.Duration) error {
			out.sum = sum
			became[out.name] = out
			if out.verdict == lived {
				fmt.Fprintln(w, "lives:", out.name)
			}
			return past.add(out, took)
		})
		if err != nil {
			return err
		}
		stopped = left > 0
	}
	if o.list {
		return nil
	}
	return report(w, m, became, folders, o)
}

// tryAll tries mutants, and returns how many the time did not allow.
func (c *court) tryAll(ctx context.Context, folder string, due []mutant, o *options, began time.Time, done func(outcome, time.Duration) error) (left int, err error) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, fmt.Errorf("make room for mutants: %w", err)
	}
	defer os.RemoveAll(dir)
	l, err := c.weave(ctx, dir, folder, due)
	if err != nil {
		return 0, err
	}
	if err := c.learn(ctx, l.judges[0]); err != nil {
		return 0, err
	}
	fmt.Fprintf(os.Stderr, "%s: %d of %d are switched in one binary\n", folder, len(l.numbers), len(due))
	var next atomic.Int64
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range max(o.workers, 1) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(due) || ctx.Err() != nil {
					return
				}
				if o.bound > 0 && time.Since(began) > o.bound {
					mu.Lock()
					left++
					mu.Unlock()
					continue
				}
				at := time.Now()
				verdict, by, failed := c.tryOne(ctx, l, &due[i])
				mu.Lock()
				if failed == nil {
					failed = done(outcome{verdict: verdict, name: due[i].name, by: by}, time.Since(at))
				}
				err = errors.Join(err, failed)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return left, errors.Join(err, ctx.Err())
}

// report prints what became of them, and returns an error if the list of survivors does not say so.
func report(w io.Writer, m *module, became map[string]outcome, folders []string, o *options) error {
	fmt.Fprintf(w, "\n%-18s %8s %8s %8s %8s %8s\n", "package", "mutants", "killed", "lived", "refused", "untried")
	for _, folder := range folders {
		n := map[string]int{}
		for _, mu := range m.mutants[folder] {
			n[became[mu.name].verdict]++
		}
		fmt.Fprintf(w, "%-18s %8d %8d %8d %8d %8d\n", folder, len(m.mutants[folder]), n[killed], n[lived], n[refused], n[""])
	}
	list, faults := readSurvivors(explained)
	if o.factor == 10 {
		faults = append(faults, compare(list, m.names, became)...)
	}
	slices.Sort(faults)
	for _, fault := range faults {
		fmt.Fprintln(w, "survivors.txt:", fault)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d survivors are wrong in internal/mutants/survivors.txt: a hole gets a test, what cannot be told from the code an entry with the reason", len(faults))
	}
	return nil
}
