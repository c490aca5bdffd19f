package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"machineid/internal/testkit/program"
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
		verify(t, self, unit)
	}
}

// verify has systemd read units, with a program that is there.
func verify(t *testing.T, self string, units ...string) {
	t.Helper()
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, unit := range units {
		text := strings.ReplaceAll(read(t, "systemd", unit), "=/usr/local/bin/machineid ", "="+self+" ")
		args = append(args, filepath.Join(dir, unit))
		if err := os.WriteFile(args[len(args)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), program.Find(t, "systemd-analyze", "systemd"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze verify %v: %v\n%s", units, err, out)
		return
	}
	for line := range strings.Lines(string(out)) {
		if slices.ContainsFunc(units, func(unit string) bool { return strings.Contains(line, unit) }) {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
}

// TestBackupUnits: systemd understands the backup's service and timer, the service runs the command that there is, and what is kept is nobody else's. It is hardened
// as the tiers are.
func TestBackupUnits(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	verify(t, self, "machineid-backup.service", "machineid-backup.timer")
	service, timer := read(t, "systemd", "machineid-backup.service"), read(t, "systemd", "machineid-backup.timer")
	for _, line := range []string{
		"Type=oneshot", "StateDirectory=machineid-backup", "RestartPreventExitStatus=2",
		"ExecStart=/usr/local/bin/machineid snapshot save --config /etc/machineid/backup.conf --timeout 5m --force /var/lib/machineid-backup/newest",
	} {
		if !strings.Contains(service, "\n"+line+"\n") {
			t.Errorf("the service lacks %s", line)
		}
	}
	for _, line := range []string{"Persistent=yes", "WantedBy=timers.target"} {
		if !strings.Contains(timer, "\n"+line+"\n") {
			t.Errorf("the timer lacks %s", line)
		}
	}
	_, hardened, _ := strings.Cut(read(t, "systemd", "machineid-edge.service"), "DynamicUser=yes\n")
	for line := range strings.Lines(hardened) {
		if strings.Contains(line, "=") && !strings.Contains(line, "WantedBy") && !strings.Contains(service, "\n"+line) {
			t.Errorf("the service is less hardened: it lacks %s", line)
		}
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "calendar", "--iterations=2", "*-*-* 00/6:00:00").CombinedOutput()
	if err != nil || !strings.Contains(timer, "OnCalendar=*-*-* 00/6:00:00\n") {
		t.Errorf("the timer's calendar: %v\n%s", err, out)
	}
}
