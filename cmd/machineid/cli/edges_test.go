//go:build unix

package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// listEdges asks about one edge through the command, at every node.
func (c *clusterNodes) listEdges(id string) {
	c.tb.Helper()
	for _, n := range c.nodes {
		var list []edgeView
		eventually(c.tb, patient, "machineid edges tells of the edge, with what it reported", func() bool {
			out, code := c.operate("edges", "--operator-url", "http://"+n.http, "--output", "json")
			list = nil
			return code == exitDone && json.Unmarshal([]byte(out), &list) == nil && len(list) == 1 && list[0].HitRate != nil && *list[0].Entries > 0
		})
		e := list[0]
		if e.ID != id || e.Address == "" || e.Version == "" || e.State != "connected" || e.LeaseLeftMs <= 0 || time.Since(e.Since) > time.Hour {
			c.tb.Errorf("edges at %s: %+v", n.id, e)
		}
	}
	if out, code := c.operate("edges"); code != exitDone || !strings.Contains(out, id+"  127.0.0.1:") || !strings.Contains(out, "connected") {
		c.tb.Errorf("edges: exit %d\n%s", code, out)
	}
	if out, code := c.operate("edges", "too", "many"); code != exitUsage {
		c.tb.Errorf("edges with arguments: exit %d\n%s", code, out)
	}
}

// TestEdgesTable: what is not known is a dash.
func TestEdgesTable(t *testing.T) {
	one, rate, entries := 0.42, 0.985, int64(12)
	var out strings.Builder
	v := edgesView{Edges: []edgeView{
		{ID: "e1", Address: "10.0.0.1:5", Version: "v1", State: "connected", LeaseLeftMs: 2900, AckMs: &one, HitRate: &rate, Entries: &entries},
		{ID: "e2", Address: "10.0.0.2:5", Version: "v1", State: "gone", Behind: 2, BehindMs: 1500},
	}}
	if err := v.table(&out); err != nil {
		t.Fatal(err)
	}
	want := `ID  ADDRESS     VERSION  STATE      LEASE  BEHIND      ACK    HITS   ENTRIES  SINCE
e1  10.0.0.1:5  v1       connected  2.9s   -           0.4ms  98.5%  12       0001-01-01T00:00:00Z
e2  10.0.0.2:5  v1       gone       0.0s   2 for 1.5s  -      -      -        0001-01-01T00:00:00Z
`
	if out.String() != want {
		t.Errorf("the table:\n%s", out.String())
	}
}
