package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"machineid/shared/system"
)

// TestTheStartSaysWhatLacks: one line, of each thing that the system does not give, before anything else is done; and no server where the promise has nothing to rest on.
func TestTheStartSaysWhatLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		system system.System
		server string
		exit   int
		said   string
	}{
		{system.System{Name: "a/b"}, "authority", exitDone, ""},
		{
			system.System{Name: "a/b", Lacks: []system.Lack{{Of: system.Signals, Why: "none comes"}, {Of: system.Tests, Why: "none runs"}}},
			"authority", exitDone,
			`level=WARN msg="this system is for trying things only: serve on Linux, on amd64 or arm64" system=a/b lacks="signals: none comes; tests: none runs"` + "\n",
		},
		{system.System{Name: "a/b", Lacks: []system.Lack{{Of: system.Disk, Why: "it forgets"}}}, "authority", exitUsage, ""},
		{system.System{Name: "a/b", Lacks: []system.Lack{{Of: system.Clock, Why: "it stops"}}}, "authority", exitUsage, ""},
		{system.System{Name: "a/b", Lacks: []system.Lack{{Of: system.Clock, Why: "it stops"}}}, "edge", exitUsage, ""},
		{
			system.System{Name: "a/b", Lacks: []system.Lack{{Of: system.Disk, Why: "it forgets"}}},
			"edge", exitDone,
			`level=WARN msg="this system is for trying things only: serve on Linux, on amd64 or arm64" system=a/b lacks="disk: it forgets"` + "\n",
		},
		{
			system.System{Name: "a/b", Lacks: []system.Lack{{Of: system.Clock, Why: "it stops"}}},
			"dev", exitDone,
			`level=WARN msg="this system is for trying things only: serve on Linux, on amd64 or arm64" system=a/b lacks="clock: it stops"` + "\n",
		},
	} {
		var said bytes.Buffer
		undated := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		err := startOn(t.Context(), c.system, c.server, slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{ReplaceAttr: undated})))
		exit := exitDone
		if _, usage := errors.AsType[usageError](err); usage {
			exit = exitUsage
		} else if err != nil {
			t.Errorf("%s on %+v: %v", c.server, c.system, err)
		}
		if exit != c.exit || said.String() != c.said {
			t.Errorf("%s on %+v: exit code %d, %v\n%s", c.server, c.system, exit, err, said.String())
		}
		if exit == exitUsage && !strings.Contains(err.Error(), c.system.Lacks[0].Why) {
			t.Errorf("%s on %+v is refused without its reason: %v", c.server, c.system, err)
		}
	}
}

// TestALoadTestSaysWhatLacks: only what its figures depend on.
func TestALoadTestSaysWhatLacks(t *testing.T) {
	t.Parallel()
	for lacks, want := range map[string]string{
		"":             "",
		system.Disk:    "",
		system.Timers:  "warning: a/b is for trying things only, and its figures are worth little (timers: why)\n",
		system.Signals: "",
	} {
		var said bytes.Buffer
		s := system.System{Name: "a/b"}
		if lacks != "" {
			s.Lacks = []system.Lack{{Of: lacks, Why: "why"}}
		}
		if measureOn(s, &said); said.String() != want {
			t.Errorf("without %q: %q", lacks, said.String())
		}
	}
}
