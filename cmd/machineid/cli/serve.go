package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/grpclog"

	"machineid/shared/seldom"
	"machineid/shared/spool"
	"machineid/shared/system"
)

// servers are the commands that run until they are told to end.
var servers = []string{"authority", "dev", "edge"}

// serves returns the server that args run, "" if they run something else.
func serves(root *cobra.Command, args []string) string {
	cmd, _, err := root.Find(args)
	if err != nil || cmd.Parent() != root || !slices.Contains(servers, cmd.Name()) {
		return ""
	}
	return cmd.Name()
}

// endSignals are those that end a command cleanly. Who closes the terminal of a dev wants it gone; the others are daemons.
func endSignals(server string) []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if server == "dev" && !signal.Ignored(syscall.SIGHUP) { // nohup
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// serverFlags are the flags of every server.
type serverFlags struct {
	level, format string
	stop          time.Duration
}

func (f *serverFlags) register(fs *pflag.FlagSet, level string) {
	fs.StringVar(&f.level, "log-level", level, "the least `LEVEL` that is logged: debug, info, warn or error")
	fs.StringVar(&f.format, "log-format", "text", "`FORM` of the log: text or json")
	fs.DurationVar(&f.stop, "stop-timeout", 25*time.Second, "how long a stop may take before the process ends all the same, with exit code 5; 1s to 10m")
}

func (f *serverFlags) validate() (faults []error) {
	if new(slog.LevelVar).UnmarshalText([]byte(f.level)) != nil {
		faults = append(faults, fmt.Errorf("--log-level: %q is no level; choose debug, info, warn or error", f.level))
	}
	if f.format != "text" && f.format != "json" {
		faults = append(faults, fmt.Errorf("--log-format: %q is no form of log; choose text or json", f.format))
	}
	if f.stop < time.Second || f.stop > 10*time.Minute {
		faults = append(faults, fmt.Errorf("--stop-timeout: %v is out of range; choose 1s to 10m", f.stop))
	}
	return faults
}

func (f *serverFlags) logger(w io.Writer) *slog.Logger {
	var level slog.LevelVar
	_ = level.UnmarshalText([]byte(f.level)) // validate has read it
	opts := &slog.HandlerOptions{Level: &level}
	if f.format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// standard are the standard streams of a server. Nothing that it writes there makes it wait (I14): all that the process says goes through them,
// but for what the Go runtime says of its own end.
type standard struct{ out, err *spool.Writer }

// open takes the streams for a server. A reader that goes away no longer ends the process.
func (s *standard) open(stdout, stderr io.Writer) {
	signal.Ignore(syscall.SIGPIPE)
	if s.out = spool.New("stdout", stdout); stderr == stdout {
		s.err = s.out // one writes at a time
		return
	}
	s.err = spool.New("stderr", ownPipe(stderr))
}

// lastWords is how long the end of a process waits for its streams.
const lastWords = time.Second

// flush waits until the streams have taken what was written, or lastWords.
func (s *standard) flush() {
	began := time.Now()
	s.err.Flush(lastWords)
	s.out.Flush(lastWords - time.Since(began))
}

func (s *standard) register(reg prometheus.Registerer) { spool.Register(reg, s.streams()...) }

// streams are the two, or the one that both are.
func (s *standard) streams() []*spool.Writer {
	if s.out == s.err {
		return []*spool.Writer{s.err}
	}
	return []*spool.Writer{s.out, s.err}
}

// notes are for /readyz.
func (s *standard) notes() (list []string) {
	for _, w := range s.streams() {
		if note := w.Note(); note != "" {
			list = append(list, note)
		}
	}
	return list
}

// logger returns the log of a server, and has what libraries log by themselves go there.
func (s *standard) logger(f *serverFlags) *slog.Logger {
	s.err.Tell(func(lost uint64) []byte {
		var b bytes.Buffer
		f.logger(&b).Warn("lines of the log were lost: nobody took them", slog.Uint64("lines", lost))
		return b.Bytes()
	})
	logger := f.logger(s.err)
	log.SetFlags(0)
	log.SetOutput(newHearsay(logger, "go"))
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, newHearsay(logger, "grpc")))
	return logger
}

// hearsay logs what a library writes, which may be as much as strangers cause.
type hearsay struct {
	log     *slog.Logger
	library string
	line    seldom.Line
}

func newHearsay(log *slog.Logger, library string) *hearsay {
	return &hearsay{log: log, library: library, line: seldom.Line{Most: seldom.Changes}}
}

// Write logs p as one event.
func (h *hearsay) Write(p []byte) (int, error) {
	event, _, _ := strings.Cut(strings.TrimSpace(string(p)), " starting with ") // net/http quotes an answer that came twice, with the secrets in it
	h.line.Say(context.Background(), h.log, slog.LevelWarn, "a library says", slog.String("library", h.library), slog.String("event", event))
	return len(p), nil
}

// serve runs the server of cmd. After the command's context has ended it has f.stop for its end: what hangs then ends with the process.
func (s *standard) serve(cmd *cobra.Command, f *serverFlags, run func(*slog.Logger) error) error {
	ctx, logger := cmd.Context(), s.logger(f)
	if err := startOn(ctx, system.Here(), cmd.Name(), logger); err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	if !slices.Contains(endSignals(cmd.Name()), os.Signal(syscall.SIGHUP)) {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	returned, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(ctx, f.stop, logger, hangups, returned)
	}()
	err := run(logger)
	close(returned)
	<-watched
	if err == nil && ctx.Err() != nil {
		logger.LogAttrs(ctx, slog.LevelInfo, "stopped")
	}
	return err
}

// watch sees to it that a server which is told to end does.
func (s *standard) watch(ctx context.Context, stop time.Duration, logger *slog.Logger, hangups <-chan os.Signal, returned <-chan struct{}) {
	for goesOn := true; goesOn; {
		select {
		case <-hangups:
			logger.LogAttrs(ctx, slog.LevelInfo, "SIGHUP changes nothing: settings are read at the start, and SIGTERM ends the process")
		case <-returned:
			goesOn = false
		case <-ctx.Done():
			goesOn = false
		}
	}
	if ctx.Err() == nil {
		return // it ended by itself
	}
	logger.LogAttrs(ctx, slog.LevelInfo, "stopping", slog.Duration("within", stop))
	select {
	case <-returned:
	case <-time.After(stop):
		logger.LogAttrs(ctx, slog.LevelError, "the stop does not come to its end: ending the process", slog.Duration("after", stop))
		s.flush()
		os.Exit(exitStuck)
	}
}
