package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"
)

// When a change is waited for, it is asked which edges have not acknowledged: after so long, and so often.
const (
	lateAfter = 700 * time.Millisecond
	lateEvery = 300 * time.Millisecond
)

// change makes a call that changes something, and returns the edges that were behind while it was waited for.
func (c *operatorClient) change(ctx context.Context, method, path string, body any, out *json.RawMessage) (late []string, err error) {
	watch, stop := context.WithCancel(ctx)
	found := make(chan []string, 1)
	go func() { found <- c.behind(watch) }()
	err = c.call(ctx, method, path, body, out)
	stop()
	return <-found, err
}

// behind lists which edges were behind until ctx ended.
func (c *operatorClient) behind(ctx context.Context) []string {
	asker := *c
	asker.org, asker.notes = "", nil
	late := map[string]bool{}
	for wait := lateAfter; ; wait = lateEvery {
		select {
		case <-ctx.Done():
			return slices.Sorted(maps.Keys(late))
		case <-time.After(wait):
		}
		var view edgesView
		if asker.call(ctx, http.MethodGet, "operator/edges", nil, &view) != nil {
			continue
		}
		for _, e := range view.Edges {
			if e.Behind > 0 {
				late[e.ID] = true
			}
		}
	}
}

// named are the edges that a change waited for, of those that were behind meanwhile.
func (p propagationView) named(late []string) []string {
	if p.Expired > 0 || p.ElapsedMs > float64(lateAfter.Milliseconds()) {
		return late
	}
	return nil
}

// printChange writes what a change was answered for scripts, and, as waitedFor, the edges that it waited for, if it did.
func printChange(w io.Writer, raw json.RawMessage, late []string) error {
	var c changeView
	if err := json.Unmarshal(raw, &c); err != nil {
		return unreadable(err)
	}
	if named := c.Propagation.named(late); len(named) > 0 {
		list, err := json.Marshal(named)
		if err != nil {
			return err
		}
		raw = slices.Concat(bytes.TrimSuffix(bytes.TrimSpace(raw), []byte("}")), []byte(`,"waitedFor":`), list, []byte("}"))
	}
	return printJSON(w, raw)
}

// told says how a change reached the edges, and which it waited for.
func (p propagationView) told(late []string) string {
	late = p.named(late)
	said := fmt.Sprintf("in force everywhere after %.1f ms (edges told: %d", p.ElapsedMs, p.Edges)
	switch {
	case p.Expired > 0 && len(late) > 0:
		said += fmt.Sprintf("; %d of them did not acknowledge until their leases had ended: %s", p.Expired, shownAll(late))
	case p.Expired > 0:
		said += fmt.Sprintf("; %d of them did not acknowledge until their leases had ended: 'machineid edges' lists who is behind", p.Expired)
	case len(late) > 0:
		said += "; the last to acknowledge: " + shownAll(late)
	}
	return said + ")"
}
