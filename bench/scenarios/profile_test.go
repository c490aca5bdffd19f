//go:build linux

package main

import (
	"testing"
	"time"
)

const traces = `File: machineid
Type: cpu
Duration: 1s, Total samples = 100ms (10%)
-----------+-------------------------------------------------------
      40ms   internal/runtime/syscall/linux.Syscall6
             syscall.RawSyscall6
             syscall.write
             internal/poll.(*FD).Write
             net.(*netFD).Write
             net.(*conn).Write
             bufio.(*Writer).Flush
             github.com/valyala/fasthttp.(*Server).serveConn
-----------+-------------------------------------------------------
     1.50s   runtime.memmove
             machineid/edge.(*memory).look
             machineid/edge.(*Edge).validate
             github.com/valyala/fasthttp.(*Server).serveConn
-----------+-------------------------------------------------------
      20ms   aeshashbody
             runtime.mapaccess2_faststr (inline)
             runtime.mallocgc
             machineid/edge.(*Edge).validate
-----------+-------------------------------------------------------
     100ms   internal/runtime/syscall/linux.EpollWait
             runtime.netpoll
             runtime.findRunnable
-----------+-------------------------------------------------------
      10ms   machineid/edge.(*Edge).validate
`

// TestParse proves that time goes to who spent it, whoever called: a write to a socket is the kernel's and no server's, a copy is the
// memory's that asked for it.
func TestParse(t *testing.T) {
	t.Parallel()
	p, err := parse([]byte(traces))
	if err != nil {
		t.Fatal(err)
	}
	want := []part{
		{"the edge's own code", "machineid/edge.(*memory).look", 1510 * time.Millisecond},
		{"kernel: sleeping and waking", "runtime.netpoll", 100 * time.Millisecond},
		{"kernel: writing to sockets", "net.(*netFD).Write", 40 * time.Millisecond},
		{"memory and its collection", "runtime.mallocgc", 20 * time.Millisecond},
	}
	if len(p.parts) != len(want) || p.total != 1670*time.Millisecond {
		t.Fatalf("%v in %+v", p.total, p.parts)
	}
	for i, x := range want {
		if p.parts[i] != x {
			t.Errorf("part %d is %+v, want %+v", i, p.parts[i], x)
		}
	}
	const text = "the edge's own code 90 % (`edge.(*memory).look`), kernel: sleeping and waking 6 %"
	if p.top() != text {
		t.Errorf("it says %q, want %q", p.top(), text)
	}
	if _, err := parse([]byte("File: machineid\n")); err == nil {
		t.Error("a profile without stacks was taken")
	}
}

// TestLimit proves that what limits is judged by the whole machine.
func TestLimit(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]outcome{
		"processor, most of it by the edges":                          {use: use{edges: 0.5, nodes: 0.02, generator: 0.45, others: 0.02}},
		"processor, most of it by the generator":                      {use: use{edges: 0.4, nodes: 0.05, generator: 0.5}},
		"processor, which other programs take a part of":              {use: use{edges: 0.3, generator: 0.2, others: 0.5}, scenario: scenario{rate: 1}},
		"the rate that is due: 40 % of the processor is idle":         {use: use{edges: 0.3, generator: 0.2, others: 0.1}, scenario: scenario{rate: 1}},
		"waiting (round trips, syncs): 30 % of the processor is idle": {use: use{nodes: 0.5, generator: 0.2}},
		"the election, then S":                                        {use: use{nodes: 0.1}, scenario: scenario{rate: 1, killed: true}},
		"2 changes of leader, unwanted: nodes that got no processor time for half a second; changes then wait for S": {use: use{nodes: 1}, terms: 2},
		"not observed": {},
	} {
		if got := o.limit(); got != want {
			t.Errorf("%+v: %q, want %q", o.use, got, want)
		}
	}
}
