package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"machineid/cmd/machineid/cli/config"
)

// FuzzValues gives any texts to settings of every kind, by the environment: they are refused as faults of the configuration that name their
// place, or are what Go reads of them.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"1s", "1h", "250ms", "-1s", "1e3", "0.01", "NaN", "Inf", "true", "t", "yes", "a:1,b:2", "a\",b", "1_000", "0x10", "9223372036854775808", "\x00", " 1s", ""} {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, wait, entries, bound string) {
		if strings.Contains(wait+entries+bound, "\x00") {
			return // no environment holds it
		}
		p := newProgram([]string{"MACHINEID_MAX_WAIT=" + wait, "MACHINEID_CACHE_ENTRIES=" + entries, "MACHINEID_CLOCK_BOUND=" + bound})
		if err := p.run("edge", "--authority", "a:1"); err != nil {
			if _, ok := errors.AsType[*config.Error](err); !ok || !strings.Contains(err.Error(), "env MACHINEID_") {
				t.Fatalf("%q, %q, %q: %v", wait, entries, bound, err)
			}
			return
		}
		d, err := time.ParseDuration(wait)
		if wait == "" {
			d, err = 250*time.Millisecond, nil
		}
		if want := fmt.Sprintf("MaxWait:%v ", d); err != nil || d <= 0 || d > time.Second || !strings.Contains(p.out.String(), want) {
			t.Fatalf("%q is taken as %s", wait, p.out.String())
		}
	})
}
