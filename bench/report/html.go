package report

import (
	"bytes"
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"strconv"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms":      Duration,
	"errors":  func(o Op) string { return o.errors() },
	"codes":   func(o Op) string { return o.codes() + o.cached() },
	"percent": func(v float64) string { return strconv.FormatFloat(v*100, 'f', 3, 64) + "%" },
}).Parse(pageText))

// curve is the distribution of one operation.
type curve struct {
	Name string
	Plot template.HTML
}

// HTML writes the report as one page that needs nothing else: the plots are in it, and there is no script.
func (r *Report) HTML(w io.Writer) error {
	view := struct {
		*Report

		Title                 string
		RatePlot, LatencyPlot template.HTML
		Curves                []curve
	}{
		Report: r, Title: r.title(),
		RatePlot: r.overTime(false, plain, map[string]func(Point) float64{
			"answers/s": Point.Rate,
			"errors/s": func(p Point) float64 {
				if p.Length <= 0 {
					return 0
				}
				return float64(p.Errors) / p.Length
			},
		}, []string{"answers/s", "errors/s"}, []string{colours[0], colours[2]}),
		LatencyPlot: r.overTime(true, Duration, map[string]func(Point) float64{
			"p50":   func(p Point) float64 { return p.P50 },
			"p99":   func(p Point) float64 { return p.P99 },
			"p99.9": func(p Point) float64 { return p.P999 },
		}, []string{"p50", "p99", "p99.9"}, colours),
	}
	for i := range r.Ops {
		if op := &r.Ops[i]; len(op.Curve) > 0 {
			view.Curves = append(view.Curves, curve{op.Name, op.distribution()})
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, view); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
