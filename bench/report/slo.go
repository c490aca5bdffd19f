package report

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Threshold is one condition, such as p99<2ms or revoke.err<0.1%.
type Threshold struct {
	text     string
	op       string // "": the main one
	metric   string
	compare  string
	value    float64 // milliseconds, a share of 1, or a number
	quantile float64 // of a percentile
}

// Outcome is what became of a threshold.
type Outcome struct {
	Text   string `json:"threshold"`
	Met    bool   `json:"met"`
	Actual string `json:"actual"`
}

var (
	condition  = regexp.MustCompile(`^(?:([a-z][a-z_0-9]*)\.)?([a-z][a-z_]*|p[0-9]+(?:\.[0-9]+)?)\s*(<=|>=|<|>|=)\s*(\S+)$`)
	percentile = regexp.MustCompile(`^p([0-9]{1,2}(?:\.[0-9]+)?|100)$`)
)

// metrics by what their values are written as.
var (
	durations = []string{"max", "mean", "gap"}
	shares    = []string{"err", "availability"}
	numbers   = []string{"violations", "rate", "count", "not_sent"}
)

// ParseThresholds reads conditions with commas between them. ops are the operations that the scenario has. No text is no condition.
func ParseThresholds(text string, ops []string) ([]Threshold, error) {
	var list []Threshold
	var faults []error
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		t, err := parseThreshold(one, ops)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		list = append(list, t)
	}
	return list, errors.Join(faults...)
}

func parseThreshold(text string, ops []string) (Threshold, error) {
	m := condition.FindStringSubmatch(text)
	if m == nil {
		return Threshold{}, fmt.Errorf("%q is no condition such as p99<2ms, err<0.1%% or violations=0", text)
	}
	t := Threshold{text: text, op: m[1], metric: m[2], compare: m[3]}
	if t.op != "" && !slices.Contains(ops, t.op) {
		return t, fmt.Errorf("%q: this scenario has no operation %s, only %s", text, t.op, strings.Join(ops, ", "))
	}
	var err error
	switch p := percentile.FindStringSubmatch(t.metric); {
	case p != nil:
		if t.quantile, err = strconv.ParseFloat(p[1], 64); err == nil {
			t.value, err = parseTime(m[4])
		}
	case slices.Contains(durations, t.metric):
		t.value, err = parseTime(m[4])
	case slices.Contains(shares, t.metric):
		t.value, err = parseShare(m[4])
	case slices.Contains(numbers, t.metric):
		if t.value, err = strconv.ParseFloat(m[4], 64); err != nil || math.IsNaN(t.value) {
			err = fmt.Errorf("%q is no number", m[4])
		}
	default:
		err = fmt.Errorf("there is no %s: there are p50, p99.9 and other percentiles, %s, %s and %s",
			t.metric, strings.Join(durations, ", "), strings.Join(shares, ", "), strings.Join(numbers, ", "))
	}
	if err != nil {
		return t, fmt.Errorf("%q: %w", text, err)
	}
	return t, nil
}

func parseTime(text string) (float64, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration such as 2ms or 500us", text)
	}
	return float64(d) / ms, nil
}

func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%q is no share such as 0.1%% or 0.001", text)
	}
	return v, nil
}

// Judge fills in the outcomes of the thresholds, and reports whether all are met. Unless a threshold is about them, no violation of the
// promise is allowed.
func (r *Report) Judge(list []Threshold) bool {
	if !slices.ContainsFunc(list, func(t Threshold) bool { return t.metric == "violations" }) {
		list = append([]Threshold{{text: "violations=0", metric: "violations", compare: "="}}, list...)
	}
	all := true
	r.Thresholds = nil
	for _, t := range list {
		actual, said, measured := t.read(r)
		o := Outcome{Text: t.text, Actual: said, Met: measured && t.holds(actual)}
		if !measured {
			o.Actual = "not measured"
		}
		r.Thresholds = append(r.Thresholds, o)
		all = all && o.Met
	}
	return all
}

// Missed lists the thresholds that were missed, each with what was measured.
func (r *Report) Missed() (list []string) {
	for _, o := range r.Thresholds {
		if !o.Met {
			list = append(list, o.Text+" ("+o.Actual+")")
		}
	}
	return list
}

func (t Threshold) holds(v float64) bool {
	switch t.compare {
	case "<":
		return v < t.value
	case "<=":
		return v <= t.value
	case ">":
		return v > t.value
	case ">=":
		return v >= t.value
	}
	return v == t.value
}

// read returns what a threshold is about, as a number and in words.
func (t Threshold) read(r *Report) (v float64, said string, measured bool) {
	switch t.metric {
	case "violations":
		return float64(r.Violations.Count), strconv.FormatInt(r.Violations.Count, 10), true
	case "gap", "availability":
		return t.readGaps(r)
	}
	name := t.op
	if name == "" {
		name = r.Main
	}
	op, found := r.Op(name)
	if !found || op.Count == 0 {
		return 0, "", false
	}
	switch t.metric {
	case "err":
		v = float64(op.Errors) / float64(op.Count)
		return v, strconv.FormatFloat(v*100, 'f', 3, 64) + "%", true
	case "rate":
		return op.Rate, strconv.FormatFloat(op.Rate, 'f', 1, 64), true
	case "count":
		return float64(op.Count), strconv.FormatInt(op.Count, 10), true
	case "not_sent":
		n := op.Codes["not_sent"]
		return float64(n), strconv.FormatInt(n, 10), true
	case "max":
		v = op.LatencyMs.Max
	case "mean":
		v = op.LatencyMs.Mean
	default:
		v = float64(op.LatencyMs.hist.ValueAtPercentile(t.quantile)) / ms
	}
	return v, Duration(v), true
}

// readGaps finds the worst target.
func (t Threshold) readGaps(r *Report) (v float64, said string, measured bool) {
	name := t.op
	if name == "" {
		name = r.Main
	}
	worst := 1.0
	for _, g := range r.Gaps {
		if g.Op != name || g.OK+g.Failed == 0 {
			continue
		}
		measured = true
		v, worst = max(v, g.Longest), min(worst, g.Availability())
	}
	if t.metric == "availability" {
		return worst, strconv.FormatFloat(worst*100, 'f', 3, 64) + "%", measured
	}
	return v, Duration(v), measured
}

// Duration writes milliseconds for people.
func Duration(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 1:
		return strconv.FormatFloat(v*1000, 'f', 0, 64) + "µs"
	case v < 1000:
		return strconv.FormatFloat(v, 'f', 2, 64) + "ms"
	}
	return strconv.FormatFloat(v/1000, 'f', 2, 64) + "s"
}
