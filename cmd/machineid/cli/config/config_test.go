package config_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// program is a binary of two servers and a command that takes flags only. It prints what it would run with.
type program struct {
	root *cobra.Command
	out  strings.Builder
}

func newProgram(environ []string) *program {
	p := &program{root: &cobra.Command{Use: "machineid", SilenceErrors: true, SilenceUsage: true}}
	settings := config.New(environ, "MACHINEID_ORG_KEY", "MACHINEID_TEST_*")

	var edge struct {
		HTTP      string
		Authority []string
		MaxWait   time.Duration
		Entries   int
		Bound     float64
		Insecure  bool
	}
	edgeCommand := &cobra.Command{Use: "edge", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {
		fmt.Fprintf(&p.out, "%+v", edge)
	}}
	flags := edgeCommand.Flags()
	flags.StringVar(&edge.HTTP, "http", "127.0.0.1:8080", "")
	flags.StringSliceVar(&edge.Authority, "authority", nil, "")
	flags.DurationVar(&edge.MaxWait, "max-wait", 250*time.Millisecond, "")
	flags.IntVar(&edge.Entries, "cache-entries", 1000, "")
	flags.Float64Var(&edge.Bound, "clock-bound", 0.01, "")
	flags.BoolVar(&edge.Insecure, "insecure", false, "")
	settings.Validate(edgeCommand, func() error {
		var faults []error
		if len(edge.Authority) == 0 {
			faults = append(faults, errors.New("--authority: is required; give the link address of at least one authority node"))
		}
		if edge.MaxWait <= 0 || edge.MaxWait > time.Second {
			faults = append(faults, fmt.Errorf("--max-wait: is %v; choose more than 0s and at most 1s", edge.MaxWait))
		}
		if edge.HTTP == "0.0.0.0:8080" && !edge.Insecure {
			faults = append(faults, errNoTLS)
		}
		return errors.Join(faults...)
	})

	authorityCommand := &cobra.Command{Use: "authority", Run: func(*cobra.Command, []string) {}}
	authorityCommand.Flags().Duration("lease", 3*time.Second, "")
	authorityCommand.Flags().String("http", "127.0.0.1:7070", "")

	versionCommand := &cobra.Command{Use: "version", Run: func(cmd *cobra.Command, _ []string) {
		output, _ := cmd.Flags().GetString("output")
		fmt.Fprintf(&p.out, "version as %s", output)
	}}
	versionCommand.Flags().StringP("output", "o", "text", "")
	settings.FlagsOnly(versionCommand)

	p.root.AddCommand(edgeCommand, authorityCommand, versionCommand)
	p.root.SetOut(io.Discard)
	settings.Attach(p.root)
	return p
}

var errNoTLS = errors.New("listening on 0.0.0.0:8080 without TLS; set --insecure if the network is trusted")

func (p *program) run(args ...string) error {
	p.root.SetArgs(args)
	return p.root.Execute()
}

// write puts a file of settings into the test's own folder, which becomes the current one: messages name the file as it was given.
func write(t *testing.T, name, text string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPrecedence(t *testing.T) {
	const file = "# an edge\n\nmax-wait = 30ms\ncache-entries=3\r\nauthority = a:1,b:2\nhttp = :1 # no comment\nclock-bound = 0.03\nlease = 2s\n"
	tests := map[string]struct {
		args, environ []string
		want          string
	}{
		"defaults": {
			args: []string{"edge", "--authority", "a:1"},
			want: "{HTTP:127.0.0.1:8080 Authority:[a:1] MaxWait:250ms Entries:1000 Bound:0.01 Insecure:false}",
		},
		"file": {
			args: []string{"edge", "--config", "edge.conf"},
			want: "{HTTP::1 # no comment Authority:[a:1 b:2] MaxWait:30ms Entries:3 Bound:0.03 Insecure:false}",
		},
		"file named by the environment": {
			args:    []string{"edge", "--http", "h"},
			environ: []string{"MACHINEID_CONFIG=edge.conf"},
			want:    "{HTTP:h Authority:[a:1 b:2] MaxWait:30ms Entries:3 Bound:0.03 Insecure:false}",
		},
		"environment over file, flag over environment": {
			args:    []string{"edge", "--config=edge.conf", "--cache-entries", "1", "--http=h"},
			environ: []string{"MACHINEID_MAX_WAIT=20ms", "MACHINEID_CACHE_ENTRIES=2", "MACHINEID_AUTHORITY=c:3"},
			want:    "{HTTP:h Authority:[c:3] MaxWait:20ms Entries:1 Bound:0.03 Insecure:false}",
		},
		"a list comes from one source": {
			args:    []string{"edge", "--authority", "d:4", "--authority", "e:5,f:6", "--insecure"},
			environ: []string{"MACHINEID_AUTHORITY=c:3"},
			want:    "{HTTP:127.0.0.1:8080 Authority:[d:4 e:5 f:6] MaxWait:250ms Entries:1000 Bound:0.01 Insecure:true}",
		},
		"an empty variable is none": {
			args:    []string{"edge", "--config", "edge.conf"},
			environ: []string{"MACHINEID_MAX_WAIT=", "MACHINEID_HTTP=h"},
			want:    "{HTTP:h Authority:[a:1 b:2] MaxWait:30ms Entries:3 Bound:0.03 Insecure:false}",
		},
		"the last of two equal variables": {
			args:    []string{"edge", "--authority", "a:1"},
			environ: []string{"MACHINEID_HTTP=first", "MACHINEID_HTTP=second"},
			want:    "{HTTP:second Authority:[a:1] MaxWait:250ms Entries:1000 Bound:0.01 Insecure:false}",
		},
		"others' variables": {
			args: []string{"edge", "--authority", "a:1"},
			environ: []string{
				"PATH=/bin", "MACHINEID_LEASE=fast", "MACHINEID_ORG_KEY=org_x", "MACHINEID_TEST_NO_SKIP=1", "MACHINEID=x",
				"MACHINEID_SERVICE_HOST=10.0.0.1", "MACHINEID_PORT=tcp://10.0.0.1:80", "MACHINEID_EDGE_SERVICE_PORT_HTTP=80",
				"MACHINEID_EDGE_PORT_8080_TCP=tcp://10.0.0.1:80", "MACHINEID_EDGE_PORT_8080_TCP_ADDR=10.0.0.1",
			},
			want: "{HTTP:127.0.0.1:8080 Authority:[a:1] MaxWait:250ms Entries:1000 Bound:0.01 Insecure:false}",
		},
		"flags only": {
			args:    []string{"version", "-o", "json"},
			environ: []string{"MACHINEID_NONSENSE=1", "MACHINEID_OUTPUT=yaml", "MACHINEID_CONFIG=missing.conf"},
			want:    "version as json",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			write(t, "edge.conf", file)
			p := newProgram(tt.environ)
			if err := p.run(tt.args...); err != nil {
				t.Fatal(err)
			}
			if got := p.out.String(); got != tt.want {
				t.Errorf("ran with\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// TestFaults compares whole messages with those in testdata; go test ./cmd/machineid/cli/config -update writes them anew.
func TestFaults(t *testing.T) {
	tests := map[string]struct {
		args, environ []string
		file          string
	}{
		"all_at_once": {
			args:    []string{"edge", "--config", "edge.conf", "--cache-entries", "many", "--clock-bound=0,01"},
			environ: []string{"MACHINEID_MAXWAIT=1s", "MACHINEID_INSECURE=maybe", "MACHINEID_COLOUR=1", "MACHINEID_http=x"},
			file:    "max-wait = fast\nhttp = 0.0.0.0:8080\n\nauthorty = a:1\ncolour = blue\n",
		},
		"file": {
			args: []string{"edge", "--config", "edge.conf", "--authority", "a:1"},
			file: "\ufeff# comment\nsecret\n= secret\n--http = x\nconfig = other.conf\nhttp = :1\nhttp = :2\nmax_wait = 1s\nMAX-WAIT = 1s\n" +
				"cache-entries = 99999999999999999999\nclock-bound =\ninsecure = \"true\"\n",
		},
		"validation_names_the_origin": {
			args:    []string{"edge", "--http", "0.0.0.0:8080"},
			environ: []string{"MACHINEID_MAX_WAIT=1m"},
		},
		"validation_of_a_broken_value_is_silent": {args: []string{"edge", "--authority", "\"", "--max-wait", "10s"}},
		"unknown_flag": {
			args:    []string{"edge", "--max-wiat", "1s", "--cache-entries", "x"},
			environ: []string{"MACHINEID_CLOCK_BOUND=x"},
		},
		"flag_of_another_command": {args: []string{"edge", "--lease", "1s"}},
		"unknown_shorthand":       {args: []string{"edge", "-q"}},
		"flag_without_value":      {args: []string{"edge", "--max-wait"}},
		"flag_syntax":             {args: []string{"edge", "--=x"}},
		"no_file":                 {args: []string{"edge", "--authority", "a:1"}, environ: []string{"MACHINEID_CONFIG=missing.conf"}},
		"binary_file":             {args: []string{"edge", "--authority", "a:1", "--config", "edge.conf"}, file: "http = \xff\n"},
		// A script whose variable was not set; numbers that pflag reads otherwise than people do.
		"empty_values": {args: []string{"edge", "--http", "", "--authority="}, file: "", environ: []string{"MACHINEID_CONFIG="}},
		"other_forms": {
			args:    []string{"edge", "--authority", "a:1", "--cache-entries", "010", "--clock-bound", "inf", "--config", "edge.conf"},
			environ: []string{"MACHINEID_MAX_WAIT=1e9h"},
			file:    "http =\n",
		},
		"long_value": {args: []string{"edge", "--authority", "a:1", "--max-wait", strings.Repeat("x", 500)}},
	}
	golden, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			write(t, "edge.conf", tt.file)
			p := newProgram(tt.environ)
			err := p.run(tt.args...)
			fault, ok := errors.AsType[*config.Error](err)
			if !ok {
				t.Fatalf("got %v, want a *config.Error", err)
			}
			if code := fault.ExitCode(); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if ran := p.out.String(); ran != "" {
				t.Errorf("ran with %s", ran)
			}
			file := filepath.Join(golden, name+".golden")
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

// TestValidationErrorIsKept: what the validation returned can still be told apart.
func TestValidationErrorIsKept(t *testing.T) {
	err := newProgram(nil).run("edge", "--authority", "a:1", "--http", "0.0.0.0:8080")
	if !errors.Is(err, errNoTLS) {
		t.Errorf("%v is not %v", err, errNoTLS)
	}
}

// TestHelpIgnoresFaults: who is told to read the help must be able to.
func TestHelpIgnoresFaults(t *testing.T) {
	p := newProgram([]string{"MACHINEID_NONSENSE=1"})
	var help strings.Builder
	p.root.SetOut(&help)
	if err := p.run("edge", "--help"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--authority strings --cache-entries", "(default 250ms)", "--config FILE"} {
		if !strings.Contains(strings.Join(strings.Fields(help.String()), " "), want) {
			t.Errorf("help lacks %q:\n%s", want, &help)
		}
	}
}

// TestPreRunIsKept: a command's own PreRun runs, after its values are there.
func TestPreRunIsKept(t *testing.T) {
	for _, withError := range []bool{true, false} {
		var seen time.Duration
		cmd := &cobra.Command{Use: "machineid", Run: func(*cobra.Command, []string) {}}
		wait := cmd.Flags().Duration("wait", 0, "")
		if withError {
			cmd.PreRunE = func(*cobra.Command, []string) error { seen = *wait; return nil }
		} else {
			cmd.PreRun = func(*cobra.Command, []string) { seen = *wait }
		}
		config.New([]string{"MACHINEID_WAIT=1s"}).Attach(cmd)
		cmd.SetArgs([]string{})
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		if seen != time.Second {
			t.Errorf("PreRun saw %v, want 1s", seen)
		}
	}
}

// TestRequiredFlagFromEnvironment: cobra's own rules see a value wherever it came from.
func TestRequiredFlagFromEnvironment(t *testing.T) {
	cmd := &cobra.Command{Use: "machineid", Run: func(*cobra.Command, []string) {}}
	cmd.Flags().String("data", "", "")
	if err := cmd.MarkFlagRequired("data"); err != nil {
		t.Fatal(err)
	}
	config.New([]string{"MACHINEID_DATA=d"}).Attach(cmd)
	cmd.SetArgs([]string{})
	if err := cmd.Execute(); err != nil {
		t.Error(err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add("max-wait = 1s\n# comment\n")
	f.Add("\ufeffx\r\n=\n--a=b\na='b'\na=c")
	f.Fuzz(func(t *testing.T, text string) {
		write(t, "edge.conf", text)
		err := newProgram(nil).run("edge", "--authority", "a:1", "--config", "edge.conf")
		if _, ok := errors.AsType[*config.Error](err); err != nil && !ok {
			t.Errorf("got %v, want a *config.Error", err)
		}
	})
}

// TestFormsOfNumbers: a number that is written as people write it is taken, and one that pflag takes for another is refused.
func TestFormsOfNumbers(t *testing.T) {
	for value, good := range map[string]bool{
		"0": true, "7": true, "-7": true, "1000000": true,
		"": false, "010": false, "0x10": false, "0b1": false, "0o7": false, "1_000": false, "+5": false, " 5": false, "5 ": false, "1e3": false, "1.0": false, "-0x1": false, "٥": false,
		"9223372036854775808": false, "--5": false,
	} {
		err := newProgram(nil).run("edge", "--authority", "a:1", "--cache-entries="+value)
		if (err == nil) != good {
			t.Errorf("--cache-entries=%s: %v", value, err)
		}
	}
	for value, good := range map[string]bool{
		"0": true, "0.01": true, "1e-3": true, "2.5E+1": true, "-1": true,
		"": false, "inf": false, "NaN": false, "0x1p-2": false, "1_0": false, ".": false, "1.": false, ".5": false, "00.5": false, "+1": false, "1e400": false, "0,01": false,
	} {
		err := newProgram(nil).run("edge", "--authority", "a:1", "--clock-bound="+value)
		if (err == nil) != good {
			t.Errorf("--clock-bound=%s: %v", value, err)
		}
	}
}
