//go:build !race

package load

import (
	"testing"
	"time"
)

// TestAllocValidate proves that a request allocates nothing: not to send it, not to read the answer, not to record it.
func TestAllocValidate(t *testing.T) {
	target := echoTarget(t, 0)
	conn := newConn(target, time.Second, false)
	defer conn.Close()
	r := &run{cfg: &Config{}, began: time.Now()}
	d := &Device{id: []byte("bench-000000-00000000001"), org: &Org{agent: "org_00000000000000000000000000000000000000000000"}}
	w := &worker{run: r, lane: &lane{}, conn: conn, book: newBook(1)}
	ask := func() { w.ask(r.now(), d, allow) }
	ask()
	if n := testing.AllocsPerRun(2000, ask); n > 0 {
		t.Errorf("a request allocates %v times", n)
	}
	if c := w.book.live[0]; c.failed() > 0 {
		t.Errorf("%v", byName(&c.errors))
	}
}
