package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits: systemd understands every line. What it only warns about, such as a name that it does not know, counts too.
func TestUnits(t *testing.T) {
	self, err := os.Executable() // verify wants the program to be there
	if err != nil {
		t.Fatal(err)
	}
	for _, tier := range []string{"authority", "edge"} {
		unit := "machineid-" + tier + ".service"
		text := read(t, "systemd", unit)
		const program = "ExecStart=/usr/local/bin/machineid "
		if !strings.Contains(text, program+tier+" --config /etc/machineid/"+tier+".conf\n") {
			t.Errorf("%s does not start machineid %s with its settings", unit, tier)
		}
		if strings.Contains(text, "--bootstrap") || strings.Contains(text, "bootstrap = ") {
			t.Errorf("%s begins a cluster: on a lost disk that is a second one", unit)
		}
		// A clean end for systemd is also one by SIGHUP, SIGPIPE or somebody's kill: on-failure would leave it at that. The longest stop is 25 s.
		for _, line := range []string{"Restart=always", "TimeoutStopSec=30s", "KillSignal=SIGTERM"} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("%s lacks %s", unit, line)
			}
		}
		file := filepath.Join(t.TempDir(), unit)
		if err := os.WriteFile(file, []byte(strings.Replace(text, program, "ExecStart="+self+" ", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", file).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze verify %s (Debian's package systemd has it): %v\n%s", unit, err, out)
			continue
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, unit) {
				t.Errorf("systemd-analyze verify: %s", line)
			}
		}
	}
}
