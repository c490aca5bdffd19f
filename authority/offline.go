package authority

import (
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"machineid/authority/state"
	"machineid/raftstore"
	"machineid/shared/format"
)

// What is done to a data folder while no node uses it.

// Backup describes an archive of the state.
type Backup struct {
	raftstore.Archive
	Incarnation string    `json:"incarnation"`
	Time        time.Time `json:"time"` // the newest in the state
	Orgs        int       `json:"orgs"`
	Devices     int       `json:"devices"`
	Keys        int       `json:"keys"`
}

// InspectBackup reads an archive to its end and checks all of it. It unpacks it into
// a temporary folder.
func InspectBackup(r io.Reader) (b Backup, err error) {
	b.Archive, err = raftstore.Inspect(r, func(r pebble.Reader) error {
		rd := state.NewReader(r)
		c, err := rd.Cluster()
		if err != nil {
			return err
		}
		mark, err := rd.Mark()
		if err != nil {
			return err
		}
		b.Incarnation, b.Time = hex.EncodeToString(c.GetIncarnation()), time.UnixMilli(mark.Time).UTC()
		b.Orgs, b.Devices, b.Keys, err = state.Counts(r)
		return err
	})
	return b, err
}

// restoring is what both ways to another cluster take; action is what the audit calls it.
func restoring(id, address, action string) raftstore.Restoring {
	return raftstore.Restoring{ID: id, Address: address, NewestFormat: format.Current.Newest, Edit: state.Renewing(action, id)}
}

// RestoreBackup makes the data folder dir, which must hold no state, from an
// archive: the state of another cluster of the one node id, reached at address.
func RestoreBackup(dir string, r io.Reader, id, address string) (raftstore.Begun, error) {
	return raftstore.Restore(filepath.Join(dir, storeDir), r, restoring(id, address, state.Restored))
}

// RecoverCluster makes another cluster of the one node id, reached at address, out
// of its data folder.
func RecoverCluster(dir, id, address string) (raftstore.Begun, error) {
	machine := state.New(func(uint64, []state.Concern) {})
	return raftstore.Recover(filepath.Join(dir, storeDir), machine, restoring(id, address, state.Recovered))
}

// Recovered returns what an earlier recovery of the data folder dir has kept, "" if there was none.
func Recovered(dir string) string { return raftstore.Recovered(filepath.Join(dir, storeDir)) }

// ReadLog reads the log in the data folder of a node that is stopped, and names the
// changes in it. It changes nothing, and shows no secret: there is none in a command.
func ReadLog(dir string, from, to uint64, limit int) (raftstore.LogView, error) {
	return raftstore.ReadLog(filepath.Join(dir, storeDir), from, to, limit, func(commands [][]byte) string {
		const shown = 3
		var b strings.Builder
		fmt.Fprintf(&b, "%d:", len(commands))
		for i, raw := range commands {
			if i == shown {
				b.WriteString(" ...")
				break
			}
			b.WriteString(" " + state.Describe(raw))
		}
		return b.String()
	})
}
