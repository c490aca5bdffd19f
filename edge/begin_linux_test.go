//go:build !race

package edge

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"machineid/shared/link"
)

// TestAllocatedAcrossPagesTheLeaseGoesFirst: a session that begins with nothing drops the lease of the one before and then its memory, so that
// nobody finds the memory of one under the lease of the other (I7). Nothing runs between the two that a test could hold up. So this edge is
// allocated across two pages: on the one with the lease a write panics, and what is in force then says which comes first. (The race detector
// writes by itself, where a panic cannot be caught.)
func TestAllocatedAcrossPagesTheLeaseGoesFirst(t *testing.T) {
	var e *Edge
	lease, second := unsafe.Offsetof(e.lease), unsafe.Offsetof(e.memory)
	if lease >= second {
		t.Fatal("the lease lies behind the memory now: turn this test round")
	}
	page := uintptr(os.Getpagesize())
	first := (second + page - 1) / page * page // of the pages, in bytes; the memory begins the next
	ram, err := unix.Mmap(-1, 0, int(first+unsafe.Sizeof(*e)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(ram) }()
	e = (*Edge)(unsafe.Pointer(&ram[first-second]))
	hasher, err := link.NewHasher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	old := &memory{}
	e.memory.Store(old)
	e.lease.Store(int64(time.Hour))
	l := &linker{e: e}
	begin := func() (fault any) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { fault = recover() }()
		l.begin(&link.Welcome{CacheTtlNs: 1}, hasher, &session{e: e, flights: newFlights(nil)})
		return nil
	}
	if err := unix.Mprotect(ram[:first], unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	fault := begin()
	if at, ok := fault.(interface{ Addr() uintptr }); !ok || at.Addr() != uintptr(unsafe.Pointer(&e.lease)) {
		t.Errorf("it did not come to drop the lease: %v", fault)
	}
	if e.memory.Load() != old {
		t.Error("the new memory is in force under the old lease")
	}
	runtime.KeepAlive(old) // the collector does not look where the edge is
	runtime.KeepAlive(l)
}
