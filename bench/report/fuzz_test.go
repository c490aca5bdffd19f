package report

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// FuzzThresholds: what is taken for conditions can be judged, keeps its text, and is the same when it is read again.
func FuzzThresholds(f *testing.F) {
	for _, s := range []string{"p99<2ms, err<0.1%", "revoke.p99.9<=1s,violations=0", "rate>1e3", "p100<1h,availability>=99.9%", "p99<-1ms", "err<NaN", "rate<nan", "count>Inf", "p1000<1s", ",,", "x.err<1", "gap<9223372036854775807ns"} {
		f.Add(s)
	}
	ops := []string{"validate", "revoke"}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseThresholds(text, ops)
		if err != nil {
			return
		}
		var texts []string
		for _, th := range list {
			texts = append(texts, th.text)
			if th.op != "" && !slices.Contains(ops, th.op) || th.quantile < 0 || th.quantile > 100 {
				t.Fatalf("%q: %+v", text, th)
			}
			if math.IsNaN(th.value) {
				t.Fatalf("%q compares with no number: it can be neither met nor missed for a reason", th.text)
			}
		}
		again, err := ParseThresholds(strings.Join(texts, ","), ops)
		if err != nil || !slices.Equal(again, list) {
			t.Fatalf("%q is read again as %+v, %v", text, again, err)
		}
		if r := (&Report{Main: "validate"}); r.Judge(list) && len(list) > 0 && !slices.ContainsFunc(list, func(th Threshold) bool { return th.metric == "violations" }) {
			t.Fatalf("%q is met by a run in which nothing was measured", text)
		}
	})
}
