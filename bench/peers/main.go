package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"machineid/bench/fleet"
	"machineid/bench/report"
)

func main() {
	if id := os.Getenv(nodeEnv); id != "" {
		exit(runNode(id, os.Args[1]))
	}
	if addr := os.Getenv(bareEnv); addr != "" {
		exit(runBare(addr, os.Args[1]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	what := map[string]func(context.Context, []string) error{
		"changes":  func(ctx context.Context, args []string) error { return changes(ctx, "changes", args) },
		"proxied":  func(ctx context.Context, args []string) error { return changes(ctx, "proxied", args) },
		"validate": validate,
	}
	if len(os.Args) < 2 || what[os.Args[1]] == nil {
		exit(errors.New("say what to measure: changes, proxied or validate"))
	}
	exit(what[os.Args[1]](ctx, os.Args[2:]))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// measured is ours, in one of two forms.
type measured interface {
	measure(ctx context.Context, callers int, d time.Duration, profile string) (figure, error)
	close()
}

func startMeasured(ctx context.Context, what, dir, binary string) (measured, error) {
	if what == "proxied" {
		return startProxied(ctx, dir, binary)
	}
	return startOurs(ctx, dir)
}

// changes compares replicated changes of three nodes each: of raftstore and state alone, or of all that a user runs.
func changes(ctx context.Context, what string, args []string) (err error) {
	fs := flag.NewFlagSet(what, flag.ExitOnError)
	var (
		callers     = fs.String("callers", "1,16,64,256,1024", "how many callers at once, each in turn")
		d           = fs.Duration("for", 3*time.Second, "how long each measurement takes")
		rounds      = fs.Int("rounds", 3, "measurements of each; the median counts")
		profile     = fs.String("profile", "", "changes: file for a CPU profile of our leader's last measurement; proxied: folder for those of all processes")
		binary      = fs.String("binary", "", "proxied: the machineid binary; default: build it")
		connections = fs.Int("etcd-connections", 16, "connections of etcd's client")
		dir         = fs.String("dir", "", "folder for the data of all, on the disk to measure; default: a temporary one")
		docs        = fs.String("docs", "", "the document that the table is written into, at its markers")
	)
	_ = fs.Parse(args) // ends the program on an error
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "peers-"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	machine := fleet.Machine(ctx)
	theirs, err := startEtcd(ctx, *dir, *connections)
	if errors.Is(err, errNotInstalled) && *docs != "" {
		fmt.Fprintln(os.Stderr, "peers: etcd is", err)
		return report.Insert(*docs, "bench-peers-"+what, "Not measured: etcd is "+err.Error()+".")
	}
	if err != nil {
		return err
	}
	defer theirs.close()
	o, err := startMeasured(ctx, what, *dir, *binary)
	if err != nil {
		return err
	}
	defer o.close()
	var doc strings.Builder
	fmt.Fprintf(&doc, "%s %d rounds of %v each, in turn; medians.\n\n", machine, *rounds, *d)
	doc.WriteString("| callers | MachineID, registers/s | p50 | p99 | CPU a call | etcd, puts/s | p50 | p99 | CPU a call | rate, of etcd's | p50, of etcd's |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer func() { _ = w.Flush() }()
	fmt.Fprintln(w, "callers\tours/s\tp50\tp99\tcpu\tetcd/s\tp50\tp99\tcpu\tratio\tp50 ratio\t")
	for s := range strings.SplitSeq(*callers, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-callers: %q is no number of callers", s)
		}
		var a, b []figure
		for range *rounds {
			f, err := o.measure(ctx, n, *d, *profile)
			if err != nil {
				return err
			}
			a = append(a, f)
			before := theirs.procs.cpu()
			f = load(ctx, n, *d, theirs.put)
			f.CPU = (theirs.procs.cpu() - before) / time.Duration(max(f.Done, 1))
			b = append(b, f)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		us, err := merge(a)
		if err != nil {
			return err
		}
		them, err := merge(b)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d\t%.0f\t%v\t%v\t%v\t%.0f\t%v\t%v\t%v\t%.1f\t%.2f\t\n", n, us.rate(), short(us.P50), short(us.P99), us.CPU,
			them.rate(), short(them.P50), short(them.P99), them.CPU, us.rate()/them.rate(), float64(us.P50)/float64(them.P50))
		fmt.Fprintf(&doc, "| %d | %.0f | %s | %s | %s | %.0f | %s | %s | %s | %.2f | %.2f |\n", n, us.rate(), ms(us.P50), ms(us.P99), micro(us.CPU),
			them.rate(), ms(them.P50), ms(them.P99), micro(them.CPU), us.rate()/them.rate(), float64(us.P50)/float64(them.P50))
		for name, f := range map[string]figure{"ours": us, "etcd": them} {
			if f.Errors > 0 {
				fmt.Fprintf(os.Stderr, "%s at %d callers: %d calls failed, the first: %s\n", name, n, f.Errors, f.Error)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if *docs == "" {
		return nil
	}
	return report.Insert(*docs, "bench-peers-"+what, doc.String())
}

func short(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
