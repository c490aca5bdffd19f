package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Sizes of a plot in pixels.
const (
	plotWidth, plotHeight = 860, 240
	plotLeft, plotRight   = 70, 30
	plotTop, plotBottom   = 12, 34
)

// line is one curve of a plot.
type line struct {
	name, colour string
	x, y         []float64
}

// axis maps values to pixels.
type axis struct {
	from, to   float64 // of the values
	start, end float64 // of the pixels
	log        bool
}

func (a axis) at(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		v, from, to = math.Log10(max(v, a.from)), math.Log10(from), math.Log10(to)
	}
	if to <= from {
		return a.start
	}
	return a.start + (v-from)/(to-from)*(a.end-a.start)
}

// ticks are values worth naming.
func (a axis) ticks() (list []float64) {
	if a.log {
		for e := math.Floor(math.Log10(a.from)); e <= math.Ceil(math.Log10(a.to)); e++ {
			if v := math.Pow(10, e); v >= a.from*0.999 && v <= a.to*1.001 {
				list = append(list, v)
			}
		}
		return list
	}
	const about = 6
	span := a.to - a.from
	if !(span > 0) || math.IsInf(span, 0) {
		return []float64{a.from}
	}
	step := math.Pow(10, math.Floor(math.Log10(span/about)))
	for _, m := range []float64{1, 2, 5, 10} {
		if span/(step*m) <= about {
			step *= m
			break
		}
	}
	for v := math.Ceil(a.from/step) * step; v <= a.to+step/1000; v += step {
		list = append(list, v)
	}
	return list
}

// plot draws lines over x into a picture of its own. words say what a value of an axis is.
type plot struct {
	lines          []line
	logX, logY     bool
	xWords, yWords func(float64) string
	events         []Event // at values of x
}

func (p plot) svg() template.HTML {
	x, y := p.axes()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img">`, plotWidth, plotHeight)
	for _, v := range y.ticks() {
		at := y.at(v)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, plotWidth-plotRight, at, at, plotLeft-6, at+4, template.HTMLEscapeString(p.yWords(v)))
	}
	for _, v := range x.ticks() {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x.at(v), plotHeight-plotBottom+16, template.HTMLEscapeString(p.xWords(v)))
	}
	for _, e := range p.events {
		if e.At < x.from || e.At > x.to {
			continue
		}
		fmt.Fprintf(&b, `<line class="event" x1="%.1f" x2="%.1f" y1="%d" y2="%d"><title>%s</title></line>`,
			x.at(e.At), x.at(e.At), plotTop, plotHeight-plotBottom, template.HTMLEscapeString(e.Text))
	}
	// The first lies on top, and those below it are wider: where lines run together each is still seen.
	for i, l := range slices.Backward(p.lines) {
		var points strings.Builder
		for j := range l.x {
			fmt.Fprintf(&points, "%.1f,%.1f ", x.at(l.x[j]), y.at(l.y[j]))
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="%.1f" points="%s"/>`, l.colour, 1.5*float64(i+1), strings.TrimSpace(points.String()))
		fmt.Fprintf(&b, `<text x="%d" y="%d" style="fill:%s">%s</text>`, plotLeft+10+i*90, plotHeight-3, l.colour, template.HTMLEscapeString(l.name))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// axes fit around the lines.
func (p plot) axes() (x, y axis) {
	x = axis{from: math.Inf(1), to: math.Inf(-1), start: plotLeft, end: plotWidth - plotRight, log: p.logX}
	y = axis{from: math.Inf(1), to: math.Inf(-1), start: plotHeight - plotBottom, end: plotTop, log: p.logY}
	for _, l := range p.lines {
		for i := range l.x {
			x.from, x.to = min(x.from, l.x[i]), max(x.to, l.x[i])
			if v := l.y[i]; !p.logY || v > 0 {
				y.from, y.to = min(y.from, v), max(y.to, v)
			}
		}
	}
	if x.from > x.to {
		x.from, x.to = 0, 1
	}
	if y.from > y.to {
		y.from, y.to = 1, 10
	}
	if p.logY { // whole decades, at least one
		y.from, y.to = math.Pow(10, math.Floor(math.Log10(y.from))), math.Pow(10, math.Ceil(math.Log10(y.to)))
		if y.from >= y.to {
			y.to = y.from * 10
		}
	} else {
		y.from = 0
		y.to = max(y.to*1.05, 1)
	}
	return x, y
}

func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func secondsText(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) + " s" }

// overTime plots values of the series.
func (r *Report) overTime(logY bool, words func(float64) string, of map[string]func(Point) float64, order, colours []string) template.HTML {
	p := plot{logY: logY, xWords: secondsText, yWords: words, events: r.Events}
	for i, name := range order {
		l := line{name: name, colour: colours[i]}
		for _, at := range r.Series {
			v := of[name](at)
			if logY && v <= 0 {
				continue // nothing came in that second
			}
			l.x, l.y = append(l.x, at.At), append(l.y, v)
		}
		p.lines = append(p.lines, l)
	}
	return p.svg()
}

// distribution plots latency over the share of requests, the tail drawn out.
func (op *Op) distribution() template.HTML {
	p := plot{
		logX: true, logY: true, yWords: Duration,
		xWords: func(v float64) string { return strconv.FormatFloat(100-100/v, 'f', -1, 64) + " %" },
	}
	l := line{name: op.Name, colour: colours[0]}
	for _, c := range op.Curve {
		if c.Share < 1 && c.Ms > 0 {
			l.x, l.y = append(l.x, 1/(1-c.Share)), append(l.y, c.Ms)
		}
	}
	p.lines = []line{l}
	return p.svg()
}

var colours = []string{"#2563eb", "#d97706", "#dc2626", "#059669"}
