package edge

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"machineid/shared/link"
)

// allegiance is the cluster that an edge keeps to (I12): the one it was told of, else the first that it met, or what has come in its place.
type allegiance struct {
	name string   // "": none yet
	told bool     // the name was given
	left []string // clusters that it has replaced
}

// foreign is a Welcome that was refused: it was of another cluster.
type foreign struct {
	address, name, own string
	replaced           bool // it was restored or recovered into the own one
	told               bool
}

func (f *foreign) Error() string {
	if f.replaced {
		return fmt.Sprintf("%s still runs cluster %q, in whose place %q has come: stop that node", f.address, f.name, f.own)
	}
	out := fmt.Sprintf("%s is of cluster %q, and this edge keeps to %q: if that node has lost its disk, join it to its cluster anew; ", f.address, f.name, f.own)
	if f.told {
		return out + "if this edge is to serve the other cluster, restart it with --cluster " + f.name
	}
	return out + "if this edge is to serve the other cluster, restart it"
}

// refuses returns why a Welcome is of no cluster of this edge's, nil if it is. It changes nothing. A cluster that was restored or recovered from
// the own one, or from one that was before it, is its successor: the order of incarnations, which is looked at next, says which of two is
// the later. One that has been replaced never comes back.
func (a *allegiance) refuses(w *link.Welcome, address string) *foreign {
	name := w.GetClusterId()
	replaced := slices.Contains(a.left, name)
	follows := func(before string) bool { return before == a.name || slices.Contains(a.left, before) }
	if a.name == "" || name == a.name || !replaced && slices.ContainsFunc(w.GetReplaces(), follows) {
		return nil
	}
	return &foreign{address: address, name: name, own: a.name, replaced: replaced, told: a.told}
}

// leftMax bounds the clusters that are remembered as replaced: far more than anybody restores. Whom the edge believes so many names may tell it anything.
const leftMax = 1 << 10

// take keeps to the cluster of a Welcome that was accepted.
func (a *allegiance) take(w *link.Welcome) {
	for _, before := range append(slices.Clone(w.GetReplaces()), a.name) {
		if before != "" && before != w.GetClusterId() && len(a.left) < leftMax && !slices.Contains(a.left, before) {
			a.left = append(a.left, before)
		}
	}
	a.name = w.GetClusterId()
}

// met notes what an attempt at an address met: a foreign cluster, or nil. One line of the log tells of a change.
func (l *linker) met(ctx context.Context, addr string, f *foreign) {
	l.mu.Lock()
	before := l.foreign[addr]
	if f == nil {
		delete(l.foreign, addr)
	} else {
		l.foreign[addr] = f
	}
	l.mu.Unlock()
	if f == nil {
		return
	}
	l.e.metrics.foreign.Inc()
	if before == nil || *before != *f {
		l.e.log.LogAttrs(ctx, slog.LevelWarn, "a node of another cluster is refused",
			slog.String("address", addr), slog.String("cluster", f.name), slog.String("own", f.own), slog.String("what_to_do", f.Error()))
	}
}

// strangers are the foreign clusters, and those who are no node's --link, that the newest attempts met, by address.
func (l *linker) strangers() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.foreign {
		list = append(list, "cluster: "+f.Error())
	}
	for addr, who := range l.others {
		list = append(list, fmt.Sprintf("link: %s %s, and is no --link: name the addresses of authority nodes' --link in --authority", addr, who))
	}
	slices.SortFunc(list, cmp.Compare[string])
	return list
}
