// Package report is what a load test came to: the figures, the thresholds that judge them, and their forms for people (text, one HTML
// page that needs nothing else) and for programs (JSON). A violation of the promise stands before everything else in each of them, and
// a threshold about something that was not measured is missed, never met.
package report

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is the result of one run. Durations in its JSON are milliseconds.
type Report struct {
	Version  string    `json:"version"` // of the program that measured
	Scenario string    `json:"scenario"`
	Mode     string    `json:"mode,omitempty"` // of validate: hit, cold or unknown
	Started  time.Time `json:"started"`
	Targets  []string  `json:"targets"`
	// Loop is "open": requests were due at fixed times, and latency counts from then. Or "closed": each connection sent when its last answer
	// had come, so a stall of the server hides what would have come due meanwhile.
	Loop           string  `json:"loop"`
	Offered        string  `json:"offered,omitempty"` // the rate that was due, in words
	From           string  `json:"latencyFrom"`       // what latency counts from, in words
	Connections    int     `json:"connections"`
	NewConnections bool    `json:"newConnections"` // a connection for each request
	Choice         string  `json:"choice"`
	Orgs           int     `json:"orgs"`
	Devices        int     `json:"devices"`
	Seed           uint64  `json:"seed"`
	Warmup         float64 `json:"warmupSeconds"`
	Measured       float64 `json:"measuredSeconds"`
	Interrupted    bool    `json:"interrupted,omitempty"`

	Violations Violations `json:"violations"`
	Main       string     `json:"main"` // the operation that thresholds mean if they name none
	Ops        []Op       `json:"operations"`
	Gaps       []Gap      `json:"gaps,omitempty"`
	Series     []Point    `json:"series"`
	Events     []Event    `json:"events,omitempty"`
	Thresholds []Outcome  `json:"thresholds"`
	Notes      []string   `json:"notes,omitempty"`
	Left       []string   `json:"left,omitempty"` // orgs that could not be deleted, by id
}

// Violations are answers that break the promise: ALLOW to a validate sent after the call that took the right away had returned success.
type Violations struct {
	Count   int64    `json:"count"`
	Checked int64    `json:"checked"` // validates that could have been one
	Samples []string `json:"samples,omitempty"`
}

// Op is what became of one kind of request.
type Op struct {
	Name      string           `json:"name"`
	About     string           `json:"about,omitempty"`
	Count     int64            `json:"count"`
	Errors    int64            `json:"errors"`
	Rate      float64          `json:"perSecond"`
	Codes     map[string]int64 `json:"codes"`
	Cached    int64            `json:"cached,omitempty"` // answers with X-Cache: hit
	LatencyMs Latency          `json:"latencyMs"`
	Curve     []CurvePoint     `json:"curve,omitempty"`
}

// Latency is in milliseconds.
type Latency struct {
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	P9999 float64 `json:"p99.99"`
	Max   float64 `json:"max"`

	hist *hdrhistogram.Histogram
}

// CurvePoint is one point of the distribution: that share of the requests took at most so long.
type CurvePoint struct {
	Share float64 `json:"share"`
	Ms    float64 `json:"ms"`
}

// Gap is the longest time in which nothing succeeded at a target.
type Gap struct {
	Target  string  `json:"target"`
	Op      string  `json:"operation"`
	Longest float64 `json:"longestMs"`
	At      float64 `json:"atSeconds"` // when it began
	OK      int64   `json:"ok"`
	Failed  int64   `json:"failed"`
}

// Availability is the share that succeeded, 1 if nothing was asked.
func (g Gap) Availability() float64 {
	if g.OK+g.Failed == 0 {
		return 1
	}
	return float64(g.OK) / float64(g.OK+g.Failed)
}

// Point is one second of the main operation.
type Point struct {
	At     float64          `json:"at"` // its end, in seconds since the measurement began
	Length float64          `json:"length"`
	Count  int64            `json:"count"`
	Errors int64            `json:"errors"`
	P50    float64          `json:"p50Ms"`
	P99    float64          `json:"p99Ms"`
	P999   float64          `json:"p99.9Ms"`
	Codes  map[string]int64 `json:"codes,omitempty"` // errors by code
}

// Rate is answers a second: what was never sent is none.
func (p Point) Rate() float64 {
	if p.Length <= 0 {
		return 0
	}
	return float64(p.Count-p.Codes["not_sent"]) / p.Length
}

// shortest is the least time in seconds that makes a point of its own: few requests in a moment would look like a peak.
const shortest = 0.25

// Append adds a point to a series. One that is too short, as the first and the last may be, becomes part of its neighbour, with the
// greater percentiles of both.
func Append(series []Point, p Point) []Point {
	n := len(series)
	if n == 0 || (p.Length >= shortest && series[n-1].Length >= shortest) {
		return append(series, p)
	}
	q := &series[n-1]
	q.At = p.At
	q.Length += p.Length
	q.Count += p.Count
	q.Errors += p.Errors
	q.P50, q.P99, q.P999 = max(q.P50, p.P50), max(q.P99, p.P99), max(q.P999, p.P999)
	for code, n := range p.Codes {
		if q.Codes == nil {
			q.Codes = map[string]int64{}
		}
		q.Codes[code] += n
	}
	return series
}

// Event is something that the scenario did, for the plots.
type Event struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
}

const ms = 1e6 // nanoseconds

// NewLatency reads a histogram of nanoseconds.
func NewLatency(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{hist: h}
	}
	at := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / ms }
	return Latency{
		Mean: h.Mean() / ms, P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99), Max: float64(h.Max()) / ms, hist: h,
	}
}

// NewCurve reads the distribution of a histogram of nanoseconds.
func NewCurve(h *hdrhistogram.Histogram) (curve []CurvePoint) {
	if h.TotalCount() == 0 {
		return nil
	}
	for _, b := range h.CumulativeDistribution() {
		curve = append(curve, CurvePoint{b.Quantile / 100, float64(b.ValueAt) / ms})
	}
	return curve
}

// Op returns an operation by its name.
func (r *Report) Op(name string) (*Op, bool) {
	for i := range r.Ops {
		if r.Ops[i].Name == name {
			return &r.Ops[i], true
		}
	}
	return nil, false
}
