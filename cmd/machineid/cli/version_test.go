package cli

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDescribe(t *testing.T) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	tests := map[string]struct {
		info *debug.BuildInfo
		want build
		text string
	}{
		"no information": {
			want: build{Version: Version(), Revision: "unknown", Time: "unknown", Go: runtime.Version(), Platform: platform},
			text: "machineid " + Version() + "\nrevision  unknown\ntime      unknown\ngo        " + runtime.Version() + " " + platform + "\n",
		},
		"no version control": {
			info: &debug.BuildInfo{Main: debug.Module{Path: "machineid", Version: "(devel)"}},
			want: build{Version: Version(), Revision: "unknown", Time: "unknown", Go: runtime.Version(), Platform: platform},
			text: "machineid " + Version() + "\nrevision  unknown\ntime      unknown\ngo        " + runtime.Version() + " " + platform + "\n",
		},
		"changed checkout": {
			info: &debug.BuildInfo{
				Main: debug.Module{Path: "machineid", Version: "v1.2.3+dirty"},
				Settings: []debug.BuildSetting{
					{Key: "vcs", Value: "git"},
					{Key: "vcs.revision", Value: "0123456789ab"},
					{Key: "vcs.time", Value: "2026-11-20T12:00:00Z"},
					{Key: "vcs.modified", Value: "true"},
				},
			},
			want: build{
				Version: Version(), Revision: "0123456789ab", Modified: true, Time: "2026-11-20T12:00:00Z",
				Go: runtime.Version(), Platform: platform,
			},
			text: "machineid " + Version() + "\nrevision  0123456789ab (modified)\ntime      2026-11-20T12:00:00Z\ngo        " +
				runtime.Version() + " " + platform + "\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := describe(tt.info)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("build (-want +got):\n%s", diff)
			}
			var text strings.Builder
			if err := got.writeText(&text); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.text, text.String()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVersionCommand(t *testing.T) {
	run := func(args ...string) (string, error) {
		cmd := newVersionCommand()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetArgs(append([]string{}, args...))
		err := cmd.Execute()
		return out.String(), err
	}
	text, err := run()
	if err != nil || !strings.HasPrefix(text, "machineid "+Version()+"\n") {
		t.Errorf("version printed %q, %v", text, err)
	}
	object, err := run("--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got build
	if err := json.Unmarshal([]byte(object), &got); err != nil {
		t.Fatalf("%v in %s", err, object)
	}
	if diff := cmp.Diff(thisBuild(), got); diff != "" {
		t.Errorf("json (-want +got):\n%s", diff)
	}
	if _, err := run("--output", "yaml"); err == nil || !strings.Contains(err.Error(), "choose text or json") {
		t.Errorf("--output yaml: %v", err)
	}
}
