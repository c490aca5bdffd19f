package a

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

func found(n *int64) {
	fmt.Println("x")         // want `io.Writer you were given`
	slog.Info("x")           // want `no global logger`
	atomic.AddInt64(n, 1)    // want `use atomic.Int64`
	slog.Default().Info("x") // a logger that one was given looks like it
}
