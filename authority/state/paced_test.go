package state

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"machineid/authority/state/statepb"
)

// counting is a Source that counts what is asked of it.
type counting struct {
	Source
	gets, scans int
}

func (c *counting) Get(key []byte) ([]byte, io.Closer, error) {
	c.gets++
	return c.Source.Get(key)
}

func (c *counting) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) {
	c.scans++
	return c.Source.NewIter(o)
}

// room gives the first org a limit.
func (n *node) room(devices uint32) {
	n.do(at(start, &statepb.Command{Change: &statepb.Command_UpdateOrg{UpdateOrg: &statepb.UpdateOrg{OrgId: orgs[0][:], Limit: &devices}}}))
}

// TestPaced: whatever a Reader reads, each record is asked for first, and the pace's error ends it at once.
func TestPaced(t *testing.T) {
	n := seeded(t)
	const devices = 20
	n.room(devices)
	for i := range devices {
		c := &statepb.Register{OrgId: orgs[0][:], DeviceId: fmt.Sprint("d", i)}
		if i%2 == 0 {
			c.TtlSeconds = new(int64(1))
		}
		n.do(at(start, &statepb.Command{Change: &statepb.Command_Register{Register: c}}))
	}
	now := start + 10_000
	stop := errors.New("stop")
	for name, c := range map[string]struct {
		least int // records
		read  func(Reader) error
	}{
		"List":      {2*devices + 1, func(r Reader) error { _, _, err := r.List(orgs[0], Cursor{}, 1000, start); return err }},
		"Used":      {2, func(r Reader) error { _, err := r.Used(orgs[0], now); return err }},
		"Plan":      {3, func(r Reader) error { _, err := r.Plan(&statepb.Org{Id: orgs[0][:]}, now); return err }},
		"Orgs":      {2, func(r Reader) error { _, _, err := r.Orgs(OrgID{}, 10); return err }},
		"Keys":      {2, func(r Reader) error { _, err := r.Keys(orgs[0]); return err }},
		"Audit":     {2 * devices, func(r Reader) error { _, _, err := r.Audit(OrgID{}, Place{}, 100, now); return err }},
		"Audit org": {2 * devices, func(r Reader) error { _, _, err := r.Audit(orgs[0], Place{}, 100, now); return err }},
		"Occupant":  {1, func(r Reader) error { _, err := r.Occupant(orgs[0], "d1"); return err }},
		"LastSeen":  {1, func(r Reader) error { _, err := r.LastSeen(orgs[0], "d1"); return err }},
		"Mark":      {1, func(r Reader) error { _, err := r.Mark(); return err }},
	} {
		asked, src := 0, &counting{Source: n.db}
		if err := c.read(NewReader(src).Paced(func() error { asked++; return nil })); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if asked < c.least-1 || asked < src.gets || src.scans > 0 && asked == src.gets {
			t.Errorf("%s: asked %d times, want about %d; %d looked up, %d scans", name, asked, c.least, src.gets, src.scans)
		}
		for at := range asked {
			asked, src := 0, &counting{Source: n.db}
			err := c.read(NewReader(src).Paced(func() error {
				if asked++; asked > at {
					return stop
				}
				return nil
			}))
			if !errors.Is(err, stop) || asked != at+1 || src.gets > at {
				t.Errorf("%s: ended after %d of %d records with %v; %d looked up", name, asked, at+1, err, src.gets)
			}
		}
	}
}

// TestListEndsAtSoManyBytes, and goes on from there; a thousand of the largest fit.
func TestListEndsAtSoManyBytes(t *testing.T) {
	if 1000*(4096+256+256) > ListBytes {
		t.Errorf("a page of 1,000 may have %d bytes", 1000*(4096+256+256))
	}
	n := seeded(t)
	const devices = 3000
	n.room(devices)
	metadata := []byte(`{"x":"` + strings.Repeat("y", 4000) + `"}`)
	for i := range devices {
		n.do(at(start, &statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{OrgId: orgs[0][:], DeviceId: fmt.Sprintf("d%05d", i), Metadata: metadata}}}))
	}
	var from Cursor
	all, pages := 0, 0
	for more := true; more; pages++ {
		list, next, err := n.reader().List(orgs[0], from, 10_000, start)
		if err != nil || len(list) == 0 || len(list)*4000 > ListBytes {
			t.Fatalf("a page of %d, %v", len(list), err)
		}
		for _, o := range list {
			if o.GetId() != fmt.Sprintf("d%05d", all) {
				t.Fatalf("%s is the %d.", o.GetId(), all)
			}
			all++
		}
		last := list[len(list)-1]
		from, more = Cursor{last.GetCreatedAtMs(), last.GetId()}, next
	}
	if all != devices || pages != 3 {
		t.Errorf("%d devices on %d pages", all, pages)
	}
}
