// Package system says what an operating system gives of what this program rests on. It guarantees that what is needed for the promise and is not
// there is known before a server starts.
//
// Linux on amd64 and arm64 is what is served on, and what all tests run on. Others are for trying things: they build, and each lacks something.
package system

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// What a system may lack.
const (
	Clock   = "clock"   // that counts while the machine is suspended (I1)
	Disk    = "disk"    // that keeps what was synced
	Signals = "signals" // by which a server is told to end
	Files   = "files"   // whose modes keep others out
	Streams = "streams" // that hold nobody up, and tell that they were closed
	Timers  = "timers"  // as precise as a load test wants them
	Tests   = "tests"
)

// Lack is something that a system does not give, and what follows from it.
type Lack struct{ Of, Why string }

// System is an operating system on a kind of processor.
type System struct {
	Name  string // as Go has it: linux/amd64
	Lacks []Lack // none: it is served on
}

var (
	tests   = Lack{Tests, "no test runs here: it is known to build"}
	timers  = Lack{Timers, "requests of a load test leave some hundred microseconds late, which counts as latency"}
	streams = Lack{Streams, "a log that nobody reads holds up the last words of a process that breaks, and an output that was closed counts as shown"}
)

// elsewhere are the systems that we know of besides Linux.
var elsewhere = map[string][]Lack{
	"darwin": {streams, timers, tests},
	"windows": {
		{Disk, "folders cannot be synced: a loss of power may take back what was acknowledged"},
		{Signals, "only Ctrl-C and the end of the console stop a server cleanly; after any other end changes wait until its leases have run out"},
		{Files, "modes keep nobody from a file with a secret: the folder has to"},
		streams, timers, tests,
	},
}

// unknown is what no other system is trusted with.
var unknown = []Lack{
	{Clock, "it stops while the machine is suspended: an edge would wake with a lease that is over and answer by it"},
	{Disk, "it is not known what a sync keeps"},
	streams, timers, tests,
}

// needs are what the servers cannot do without. dev is for trying things, and needs nothing.
var needs = map[string][]string{
	"authority": {Clock, Disk},
	"edge":      {Clock},
}

// Here is the system that this program was built for.
func Here() System { return Of(runtime.GOOS, runtime.GOARCH) }

// Of is any system.
func Of(goos, goarch string) System {
	s := System{Name: goos + "/" + goarch}
	lacks, known := elsewhere[goos]
	switch {
	case goos == "linux" && (goarch == "amd64" || goarch == "arm64"):
	case goos == "linux":
		s.Lacks = []Lack{tests}
	case known:
		s.Lacks = lacks
	default:
		s.Lacks = unknown
	}
	return s
}

// Why says what a system lacks of some things, of all if none is named; "" if it is served on, or has them.
func (s System) Why(of ...string) string {
	var list []string
	for _, l := range s.Lacks {
		if len(of) == 0 || slices.Contains(of, l.Of) {
			list = append(list, l.Of+": "+l.Why)
		}
	}
	return strings.Join(list, "; ")
}

// Refuse says why a server must not run here, nil if it may.
func (s System) Refuse(server string) error {
	of := needs[server]
	if len(of) == 0 {
		return nil
	}
	if why := s.Why(of...); why != "" {
		return fmt.Errorf("%s is no system for %s (%s); 'machineid dev' runs here, for trying things; serve on Linux, on amd64 or arm64", s.Name, server, why)
	}
	return nil
}
