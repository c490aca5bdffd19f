package authority

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// TestTimeIsReservedWhileTheQueueIsFull: a caller who proposes all that is taken, all the time, does not keep the leader from reserving time, without which no
// edge would get a lease (I11, I14).
func TestTimeIsReservedWhileTheQueueIsFull(t *testing.T) {
	n, stop := runNode(t, "data", "a1", func(c *Config) { c.FS = vfs.NewMem() })
	defer stop()
	noise := func(size int) []byte { // about an org that is not, so it does nothing
		raw, err := proto.Marshal(&statepb.Command{
			TimeMs: n.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: strings.Repeat("x", size)},
			Change: &statepb.Command_SetExecution{SetExecution: &statepb.SetExecution{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var refused atomic.Int64
	var callers sync.WaitGroup
	ctx, over := context.WithCancel(t.Context())
	defer callers.Wait()
	defer over()
	propose := func(many int, cmd []byte) {
		for range many {
			callers.Go(func() {
				for ctx.Err() == nil {
					if _, err := n.store.Propose(ctx, cmd); errors.Is(err, raftstore.ErrOverloaded) {
						refused.Add(1)
						time.Sleep(10 * time.Millisecond) // or they would take the processors, too
					}
				}
			})
		}
	}
	propose(160, noise(raftstore.MaxPackBytes-200)) // 80 MiB where 64 MiB are taken
	propose(2500, noise(0))                         // and into the gaps what is smaller than what the leader proposes
	until(t, "the queue is full", func() bool { return refused.Load() > 100 })
	for range 20 {
		before := refused.Load()
		if err := n.reserve(t.Context(), 2*reserveWindow); err != nil { // more than is ever left, so it proposes
			t.Fatal(err)
		}
		until(t, "others are refused", func() bool { return refused.Load() > before })
	}
}
