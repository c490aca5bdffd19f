package cli

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	loadgen "machineid/bench/load"
	"machineid/bench/report"
	"machineid/cmd/machineid/cli/config"
	"machineid/shared/place"
	"machineid/shared/system"
)

// benchFlags are the flags of a load test.
type benchFlags struct {
	targets, operators   []string
	tokenFile            string
	rate, mix, slo, mode string
	closed, fresh        bool
	duration, warmup     time.Duration
	timeout              time.Duration
	connections          int
	orgs, devices        int
	zipf, changeRate     float64
	seed                 uint64
	out                  []string
	output               string

	given      func(flag string) bool
	cfg        loadgen.Config
	thresholds []report.Threshold
}

func newBenchCommand(settings *config.Settings, env environment) *cobra.Command {
	bench := &cobra.Command{
		Use:   "bench",
		Short: "Put load on edges, and measure what comes back",
		Long: `Put load on edges, and measure what comes back (docs/bench.md).

Requests are due at fixed times, whether or not the answers before them have
come, and latency counts from then: a stall shows in full. Orgs and devices are
made for the run and taken away after it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, s := range loadgen.Scenarios {
		f := &benchFlags{cfg: loadgen.Config{Scenario: s, Version: Version()}}
		cmd := &cobra.Command{
			Use: s.Name + " --target URL,...", Short: s.Short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd, f) },
		}
		f.register(cmd.Flags(), s)
		settings.Validate(cmd, func() error { return f.validate(env) })
		bench.AddCommand(cmd)
	}
	return bench
}

func (f *benchFlags) register(fs *pflag.FlagSet, s *loadgen.Scenario) {
	fs.StringSliceVar(&f.targets, "target", nil, "`URLS` of the edges, with commas between them (required)")
	fs.StringSliceVar(&f.operators, "operator-url", []string{"http://127.0.0.1:7070"}, "`URLS` of authority nodes, tried in turn; used only with a token")
	fs.StringVar(&f.tokenFile, "operator-token-file", "", "the `FILE` of the operator's token, or give the token in MACHINEID_OPERATOR_TOKEN: "+
		"lets the run's orgs have more devices than their plan, and deletes them")
	fs.StringVar(&f.rate, "rate", rateText(s.Rate), "requests due a second over all targets: `N`, or a ramp N..M")
	fs.BoolVar(&f.closed, "closed-loop", false, "send as soon as the answer before has come, not at a rate; hides stalls, and the report says so")
	fs.DurationVar(&f.duration, "duration", 30*time.Second, "how long to measure, 1s to 24h")
	fs.DurationVar(&f.warmup, "warmup", 2*time.Second, "how long to load before that, 0s to 1h")
	fs.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for an answer, 10ms to 1m")
	fs.IntVar(&f.connections, "connections", 64, "how many connections, over all targets")
	fs.BoolVar(&f.fresh, "new-connections", false, "a new connection for each request")
	fs.IntVar(&f.orgs, "orgs", s.Orgs, "how many orgs to make")
	fs.IntVar(&f.devices, "devices", s.Devices, "how many devices to register, over all orgs")
	fs.Float64Var(&f.zipf, "zipf", 0, "choose devices by Zipf's law with this exponent, above 1 to 10; 0: each is as likely as any other")
	fs.Uint64Var(&f.seed, "seed", 0, "repeats the random choices of a run; 0: new ones")
	fs.StringVar(&f.slo, "slo", "", "`CONDITIONS` that decide the exit code, for example 'p99<2ms,err<0.1%'; violations=0 is always one unless another is given")
	fs.StringArrayVar(&f.out, "out", nil, "a `FILE` for the results, as text, JSON or HTML by its ending (.txt, .json, .html); may be repeated")
	fs.StringVarP(&f.output, "output", "o", "text", "`FORM` of what is printed: text or json")
	if len(s.Modes) > 0 {
		fs.StringVar(&f.mode, "mode", s.Modes[0], "which: "+strings.Join(s.Modes, ", "))
	}
	f.given = fs.Changed
	f.changeRate = 10
	switch s.Name {
	case "mixed":
		fs.StringVar(&f.mix, "mix", "validate=97,register=1,revoke=1,restore=1", "`SHARES` of the kinds of requests")
	case "failover":
		fs.Float64Var(&f.changeRate, "change-rate", f.changeRate, "revokes and restores a second besides")
	}
}

func rateText(r loadgen.Rate) string { return strings.TrimSuffix(r.String(), "/s") }

// validate reads the flags into f.cfg.
func (f *benchFlags) validate(env environment) error {
	var faults []error
	fault := func(flag string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	c := &f.cfg
	var err error
	c.Targets, err = targets(f.targets)
	fault("target", err)
	c.Operators, err = targets(f.operators)
	fault("operator-url", err)
	if c.Token, err = operatorToken(f.tokenFile, env); err != nil {
		faults = append(faults, err) // names the flag
	}
	if c.Token != "" && len(c.Operators) == 0 {
		fault("operator-url", errors.New("is needed with a token; name the authority nodes, for example http://127.0.0.1:7070"))
	}
	c.Rate, err = loadgen.ParseRate(f.rate)
	fault("rate", err)
	if f.mix != "" {
		c.Mix, err = loadgen.ParseMix(f.mix)
		fault("mix", err)
	}
	f.thresholds, err = report.ParseThresholds(f.slo, c.Scenario.Ops(len(c.Targets)))
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			fault("slo", one)
		}
	}
	for _, path := range f.out {
		_, err := report.FormOf(path)
		if err == nil {
			err = unwritable(place.CheckFile(path))
		}
		fault("out", err)
	}
	if f.output != "text" && f.output != "json" {
		fault("output", fmt.Errorf("%q is no form of output; choose text or json", f.output))
	}
	c.Mode, c.Closed, c.NewConnections = f.mode, f.closed, f.fresh
	c.Duration, c.Warmup, c.Timeout, c.Connections = f.duration, f.warmup, f.timeout, f.connections
	c.Orgs, c.Devices, c.Zipf, c.ChangeRate, c.Seed = f.orgs, f.devices, f.zipf, f.changeRate, f.seed
	if c.Mode == "cold" && !f.given("devices") { // each target is asked about each once
		const most = 200_000
		c.Devices = int(min((c.Rate.From+c.Rate.To)/2*c.Duration.Seconds()/float64(max(len(c.Targets), 1)), most)) + 1
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	return errors.Join(append(faults, c.Check(len(f.targets) > 0))...)
}

func targets(urls []string) ([]*loadgen.Target, error) {
	var list []*loadgen.Target
	var faults []error
	for _, u := range urls {
		t, err := loadgen.ParseTarget(u)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if slices.ContainsFunc(list, func(other *loadgen.Target) bool { return other.URL == t.URL }) {
			faults = append(faults, fmt.Errorf("%s is given twice", t.URL))
			continue
		}
		list = append(list, t)
	}
	return list, errors.Join(faults...)
}

func runBench(cmd *cobra.Command, f *benchFlags) error {
	warnReadable(cmd.ErrOrStderr(), f.tokenFile)
	measureOn(system.Here(), cmd.ErrOrStderr())
	title := f.cfg.Scenario.Name
	if f.cfg.Mode != "" {
		title += " (" + f.cfg.Mode + ")"
	}
	screen := loadgen.NewScreen(behind(cmd.ErrOrStderr()), isTerminal(behind(cmd.ErrOrStderr())), title)
	f.cfg.Progress, f.cfg.Watch = screen.Progress, screen.Watch
	rep, err := loadgen.Run(cmd.Context(), &f.cfg)
	if rep == nil {
		if _, unavailable := errors.AsType[loadgen.UnavailableError](err); unavailable {
			return unavailableError{err}
		}
		return err
	}
	met := rep.Judge(f.thresholds)
	err = errors.Join(err, f.write(rep, cmd.OutOrStdout()))
	if err != nil || met {
		return err
	}
	return missedError{errors.New("missed " + strings.Join(rep.Missed(), ", "))}
}

// write prints the report and saves it.
func (f *benchFlags) write(rep *report.Report, w io.Writer) error {
	form := rep.Text
	if f.output == "json" {
		form = rep.JSON
	}
	err := butShown(form(w)) // a missed threshold is told all the same
	for _, path := range f.out {
		err = errors.Join(err, save(rep, path))
	}
	return err
}

// save saves a report. What a run has measured is not lost because its file cannot be written any more.
func save(rep *report.Report, path string) error {
	err := rep.Save(path)
	if err == nil {
		return nil
	}
	spare, made := os.CreateTemp("", "machineid-bench-*"+filepath.Ext(path))
	if made == nil {
		made = errors.Join(spare.Close(), rep.Save(spare.Name()))
	}
	if made != nil {
		return errors.Join(err, made)
	}
	return fmt.Errorf("%w; the results are in %s instead", err, spare.Name())
}
