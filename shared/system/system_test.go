package system_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"machineid/shared/system"
)

// systems are those that CI builds for, and one of which nothing is known.
var systems = []string{"linux/amd64", "linux/arm64", "linux/riscv64", "darwin/arm64", "windows/amd64", "freebsd/amd64"}

func of(name string) system.System {
	goos, goarch, _ := strings.Cut(name, "/")
	return system.Of(goos, goarch)
}

// Who may run where: what the promise rests on has to be there.
func TestWhatRunsWhere(t *testing.T) {
	for name, want := range map[string]string{
		"linux/amd64":   "authority edge dev",
		"linux/arm64":   "authority edge dev",
		"linux/riscv64": "authority edge dev",
		"darwin/arm64":  "authority edge dev",
		"windows/amd64": "edge dev",
		"freebsd/amd64": "dev",
	} {
		var runs []string
		for _, server := range []string{"authority", "edge", "dev"} {
			err := of(name).Refuse(server)
			if err == nil {
				runs = append(runs, server)
			} else if !strings.Contains(err.Error(), "machineid dev") || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v: says neither where nor what to do", name, err)
			}
		}
		if got := strings.Join(runs, " "); got != want {
			t.Errorf("%s runs %q, want %q", name, got, want)
		}
	}
}

// A system of which a clock or a disk is not known is trusted with nothing.
func TestWhatIsServedOnLacksNothing(t *testing.T) {
	for _, name := range systems {
		served := name == "linux/amd64" || name == "linux/arm64"
		if why := of(name).Why(); (why == "") != served {
			t.Errorf("%s: %q", name, why)
		}
	}
	if why := of("freebsd/amd64").Why(system.Clock); !strings.HasPrefix(why, "clock: ") || strings.Contains(why, "disk") {
		t.Errorf("of its clock it says %q", why)
	}
}

// The clock that is built for a system is the one that is told of.
func TestTheClockIsTheOneOfItsFile(t *testing.T) {
	counts := regexp.MustCompile(`(?m)^const CountsSuspend = (true|false)$`)
	for _, name := range systems {
		goos, _, _ := strings.Cut(name, "/")
		b, err := os.ReadFile("../clock/system_" + goos + ".go")
		if os.IsNotExist(err) {
			b, err = os.ReadFile("../clock/system_other.go")
		}
		if err != nil {
			t.Fatal(err)
		}
		said := counts.FindSubmatch(b)
		if said == nil {
			t.Fatalf("%s: its clock does not say whether it counts", name)
		}
		if counts, lacks := string(said[1]) == "true", of(name).Why(system.Clock) != ""; counts == lacks {
			t.Errorf("%s: the clock counts: %t, and lacks: %t", name, counts, lacks)
		}
	}
}

// docs/operations.md has a row for each, in these words.
func TestThePageSaysIt(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, name := range []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"} {
		var runs []string
		for _, server := range []string{"authority", "edge", "dev"} {
			if of(name).Refuse(server) == nil {
				runs = append(runs, "`"+server+"`")
			}
		}
		lacks := of(name).Why()
		if lacks == "" {
			lacks = "nothing: this is what is served on"
		}
		if row := fmt.Sprintf("\n| %s | %s | %s |\n", name, strings.Join(runs, ", "), lacks); !strings.Contains(page, row) {
			t.Errorf("docs/operations.md lacks this row:%s", row)
		}
	}
}
