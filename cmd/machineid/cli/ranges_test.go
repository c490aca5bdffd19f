//go:build unix

package cli

import (
	"strings"
	"testing"
)

// TestRangesOfSettings goes to the ends of the ranges that docs/configuration.md gives, and one beyond. The numbers are the document's and not the
// code's. Nothing is started: the required settings are missing, and all faults are told at once.
func TestRangesOfSettings(t *testing.T) {
	t.Parallel()
	const edge, authority = "edge", "authority"
	type row struct {
		command, flag string
		in, out       []string
	}
	rows := []row{
		{authority, "lease", []string{"1s", "5s"}, []string{"999ms", "5001ms"}},
		{authority, "cache-ttl", []string{"1s", "1h"}, []string{"999ms", "3601s"}},
		{authority, "clock-bound", []string{"0", "0.1"}, []string{"-0.001", "0.101", "NaN"}},
		{authority, "heartbeat-timeout", []string{"100ms", "10s"}, []string{"99ms", "10001ms"}},
		{authority, "dead-server-after", []string{"0s", "1m"}, []string{"59s", "1ms", "-1m"}},
		{authority, "delete-idle-after", []string{"0s", "24h"}, []string{"23h59m", "-24h"}},
		{authority, "min-voters", []string{"1"}, []string{"0"}},
		{authority, "max-edges", []string{"1", "16384"}, []string{"0"}},
		{authority, "max-edges-per-address", []string{"1", "2048"}, []string{"0"}},
		{authority, "grace-days", []string{"0", "90"}, []string{"-1", "91"}},
		{authority, "body-memory", []string{"8MiB"}, []string{"8388607"}},
		{authority, "cache-size", []string{"8MiB"}, []string{"8388607"}},
		{edge, "body-memory", []string{"8MiB"}, []string{"8388607"}},
		{edge, "max-wait", []string{"1ms", "900ms"}, []string{"999us", "901ms"}},
		{edge, "cache-entries", []string{"1000", "100000000"}, []string{"999", "100000001"}},
		{edge, "stop-timeout", []string{"1s", "10m"}, []string{"999ms", "601s"}},
	}
	for _, limit := range []string{"changes", "reads", "failed-keys", "signups", "recoveries", "webhooks", "unknown-keys", "unknown-keys-address", "unknown-devices"} {
		rows = append(rows, row{edge, "limit-" + limit, []string{"0", "1000000"}, []string{"-1", "1000001"}})
	}
	for _, r := range rows {
		told := func(value string) bool {
			code, _, errs := commandLine(r.command, "--"+r.flag+"="+value)
			if code != exitUsage || !strings.Contains(errs, "--id (not set): is required") {
				t.Fatalf("%s --%s=%s: exit code %d, and it was to stop for want of --id: %s", r.command, r.flag, value, code, errs)
			}
			return strings.Contains(errs, "flag --"+r.flag+": ")
		}
		for _, value := range r.in {
			if told(value) {
				t.Errorf("%s --%s %s is refused", r.command, r.flag, value)
			}
		}
		for _, value := range r.out {
			if !told(value) {
				t.Errorf("%s --%s %s is taken", r.command, r.flag, value)
			}
		}
	}
}

// TestDefaultsOfSettings: what an operator gets who sets nothing is what docs/configuration.md says.
func TestDefaultsOfSettings(t *testing.T) {
	t.Parallel()
	want := map[string]map[string]string{
		"authority": {
			"lease": "3s", "cache-ttl": "1m0s", "clock-bound": "0.01", "heartbeat-timeout": "500ms", "dead-server-after": "0s", "min-voters": "3", "disk-reserve": "1GiB",
			"max-edges": "16384", "max-edges-per-address": "2048", "body-memory": "32MiB", "cache-size": "32MiB", "delete-idle-after": "720h0m0s", "grace-days": "7",
			"max-connections": "0", "max-connections-address": "0", "max-orgs": "0", "default-version": "2",
		},
		"edge": {
			"max-wait": "250ms", "cache-entries": "1000000", "limits": "true", "limit-changes": "200", "limit-reads": "200", "limit-failed-keys": "20", "limit-signups": "10",
			"limit-recoveries": "10", "limit-webhooks": "50", "limit-unknown-keys": "200", "limit-unknown-keys-address": "20", "limit-unknown-devices": "1000",
			"max-connections": "0", "max-connections-address": "0", "body-memory": "32MiB",
		},
	}
	seen := 0
	root := newRootCommand(bareEnviron(), &standard{})
	for _, cmd := range root.Commands() {
		for name, value := range want[cmd.Name()] {
			seen++
			if f := cmd.Flags().Lookup(name); f == nil || f.DefValue != value {
				got := "no such flag"
				if f != nil {
					got = f.DefValue
				}
				t.Errorf("%s --%s: %s, want %s", cmd.Name(), name, got, value)
			}
		}
	}
	if all := len(want["authority"]) + len(want["edge"]); seen != all {
		t.Errorf("%d of %d defaults were looked at", seen, all)
	}
}
