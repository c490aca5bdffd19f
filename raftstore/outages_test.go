package raftstore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// outages takes the disk as a crash before each write, sync or rename would leave it.
type outages struct {
	disk *vfs.MemFS

	mu    sync.Mutex
	rng   *rand.Rand
	paths func(errorfs.Op) bool // which operations; nil: all
	// kills: also what the end of the process alone leaves. No database may be open while files outside of them are written.
	kills bool
	off   bool
	n     int
	taken []outage
}

type outage struct {
	fs   *vfs.MemFS
	what string
}

func newOutages(disk *vfs.MemFS, rng *rand.Rand) *outages { return &outages{disk: disk, rng: rng} }

// fs is the disk, observed.
func (s *outages) fs() vfs.FS {
	return errorfs.Wrap(s.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			s.take(op)
		}
		return nil
	}))
}

func (s *outages) take(op errorfs.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off || s.paths != nil && !s.paths(op) {
		return
	}
	s.n++
	// Pebble takes for granted that the names in its folder reach the disk in the order in which they were made: all of them here, or none.
	percent := []int{[]int{0, 100}[s.n%2]}
	sync := op.Kind == errorfs.OpRename || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	pebbles := strings.Contains(op.Path, "/"+nameLog) || strings.Contains(op.Path, "/"+prefixState)
	switch {
	case pebbles && sync:
		percent = []int{0, 100}
	case !pebbles:
		percent = []int{0, 50, 50, 100}
	}
	what := fmt.Sprintf("before write %d, %v of %s", s.n, op.Kind, op.Path)
	if s.kills && !pebbles {
		// A crash in memory takes back every removal that was not synced.
		fs := vfs.NewCrashableMem()
		if _, err := vfs.Clone(s.disk, fs, "", "", vfs.CloneSync); err != nil {
			panic(err)
		}
		s.taken = append(s.taken, outage{fs: fs, what: what + ", killed"})
	}
	for _, p := range percent {
		s.taken = append(s.taken, outage{
			fs:   s.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p, RNG: s.rng}),
			what: fmt.Sprintf("%s, with %d%% of what was not synced", what, p),
		})
	}
}

// stop ends it, and returns what there is: in the long form all of it, else a random share of about most.
func (s *outages) stop(tb testing.TB, most int) []outage {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	taken := s.taken
	if len(taken) == 0 {
		tb.Error("no crash was taken: what was done wrote nothing that is looked at")
	}
	if tortureTime() == 0 && len(taken) > most { // all of them take minutes under the race detector
		s.rng.Shuffle(len(taken), func(i, j int) { taken[i], taken[j] = taken[j], taken[i] })
		taken = taken[:most]
	}
	tb.Logf("%d crashes in %d writes, %d of them looked at", len(s.taken), s.n, len(taken))
	return taken
}

// again is the same disk once more, for another attempt on it.
func (s outage) again() *vfs.MemFS { return s.fs.CrashClone(vfs.CrashCloneCfg{}) }
