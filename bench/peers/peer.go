package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"machineid/bench/fleet"
)

// devices is how many devices are asked about, each as often as any other.
const devices = 1000

// deviceName is the id of a device: 24 bytes.
func deviceName(i int) string { return fmt.Sprintf("agent-%018d", i) }

// peer is one way to ask whether a device may run.
type peer struct {
	name  string
	how   string // what was measured, in words
	holds string // does a revoke hold when it returns? In words
	// absent is why it could not be measured here; then all below is missing.
	absent string

	procs []*fleet.Process
	// open makes a connection to the nth place that answers. Those that are only a floor or only compared in revoke-to-deny lack the other part.
	open   func(place int) (asker, error)
	timed  bool // it is part of the table of rates
	places int
	alone  bool // only the first place is loaded for rates
	// set takes a device's right (false) or gives it back, and returns when its server says that it is done.
	set func(ctx context.Context, device int, allowed bool) error
	// spread is over how long revokes are spread, where a cache lives for a time: then many are made at once. pause is the time between questions.
	spread, pause time.Duration
}

// stops ends the programs of peers, those that were started last first.
type stops []func()

func (s *stops) add(f func()) { *s = append(*s, f) }

func (s *stops) all() {
	for i := len(*s) - 1; i >= 0; i-- {
		(*s)[i]()
	}
	*s = nil
}

// started keeps a program until the end, which it is asked for: one with children should wait for them.
func (s *stops) started(p *fleet.Process) { s.add(func() { p.Stop(2 * time.Second) }) }

// missing is a peer that cannot be measured here. Its row says so.
func missing(name string, why error) *peer {
	text, _, _ := strings.Cut(why.Error(), "\n")
	return &peer{name: name, absent: text}
}
