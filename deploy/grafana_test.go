package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dashboard is what the test reads of Grafana's model.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type string }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ RefID, Expr, LegendFormat string }
}

// TestDashboards: they can be imported beside any data source, their panels lie side by side, and each expression parses and names
// what exists.
func TestDashboards(t *testing.T) {
	metrics, rules := read(t, "prometheus", "metrics.txt"), read(t, "prometheus", "rules.yml")
	var records strings.Builder
	records.WriteString("groups:\n  - name: dashboards\n    rules:\n")
	uids := map[string]bool{}
	for _, file := range []string{"fleet.json", "edge.json", "authority.json"} {
		text := read(t, "grafana", file)
		var d dashboard
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.UID == "" || uids[d.UID] || d.Title == "" || d.SchemaVersion == 0 || len(d.Panels) == 0 {
			t.Errorf("%s: uid %q, title %q, schema %d, %d panels", file, d.UID, d.Title, d.SchemaVersion, len(d.Panels))
		}
		uids[d.UID] = true
		if len(d.Templating.List) == 0 || d.Templating.List[0].Name != "datasource" || d.Templating.List[0].Type != "datasource" {
			t.Errorf("%s: the first variable has to be the data source", file)
		}
		for _, v := range d.Templating.List[1:] {
			if !strings.Contains(text, "$"+v.Name) {
				t.Errorf("%s: nothing uses the variable %s", file, v.Name)
			}
		}
		for i, p := range d.Panels {
			checkPanel(t, file, d.Panels[:i], p)
			for _, target := range p.Targets {
				for _, n := range unknown(target.Expr, metrics, rules) {
					t.Errorf("%s: %s: there is no %s", file, p.Title, n)
				}
				fmt.Fprintf(&records, "      - record: dashboard:%s:%d%s\n        expr: %q\n", strings.TrimSuffix(file, ".json"), p.ID, target.RefID, target.Expr)
			}
		}
	}
	written := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(written, []byte(records.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", written) // parses them: Grafana's variables stand within quotes
}

func checkPanel(t *testing.T, file string, before []panel, p panel) {
	t.Helper()
	if p.Title == "" || p.Type == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
		t.Errorf("%s: panel %d (%s) is not whole", file, p.ID, p.Title)
	}
	g := p.GridPos
	for _, other := range before {
		o := other.GridPos
		if other.ID == p.ID || g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
			t.Errorf("%s: panels %s and %s have one id or overlap", file, other.Title, p.Title)
		}
	}
	for _, target := range p.Targets {
		if !strings.Contains(target.Expr, `cluster=~"$cluster"`) {
			t.Errorf("%s: %s shows all clusters at once: %s", file, p.Title, target.Expr)
		}
	}
}
