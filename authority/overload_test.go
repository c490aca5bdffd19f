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
	noise, err := proto.Marshal(&statepb.Command{ // of an org that is not, so it does nothing
		TimeMs: n.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: strings.Repeat("x", raftstore.MaxPackBytes-200)},
		Change: &statepb.Command_SetExecution{SetExecution: &statepb.SetExecution{OrgId: make([]byte, 16)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	var callers sync.WaitGroup
	ctx, over := context.WithCancel(t.Context())
	defer callers.Wait()
	defer over()
	for range 160 { // 80 MiB where 64 MiB are taken
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := n.store.Propose(ctx, noise); errors.Is(err, raftstore.ErrOverloaded) {
					refused.Add(1)
					time.Sleep(time.Millisecond) // or they would take the processors, too
				}
			}
		})
	}
	until(t, "the queue is full", func() bool { return refused.Load() > 100 })
	for range 5 {
		before := refused.Load()
		if err := n.reserve(t.Context(), 2*reserveWindow); err != nil { // more than is ever left, so it proposes
			t.Fatal(err)
		}
		until(t, "others are refused", func() bool { return refused.Load() > before })
	}
}
