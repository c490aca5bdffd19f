package wire

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		value   string
		trusted bool
		want    time.Duration
	}{
		{"7500", true, 7500 * time.Millisecond},
		{"0", true, 0},
		{"0001", true, time.Millisecond},
		{"8000", true, DefaultBudget},
		{"8001", true, DefaultBudget},
		{"99999999999999999999999999", true, DefaultBudget},
		{"", true, 0},
		{"-1", true, 0},
		{"1.5", true, 0},
		{"1s", true, 0},
		{"99999999x", true, 0},
		{"0", false, DefaultBudget},
		{"x", false, DefaultBudget},
	} {
		if got := Budget([]byte(c.value), c.trusted); got != c.want {
			t.Errorf("Budget(%q, %v) = %v, want %v", c.value, c.trusted, got, c.want)
		}
	}
	if got := Budget(nil, true); got != DefaultBudget {
		t.Errorf("without a header: %v", got)
	}
}

func TestAppendBudget(t *testing.T) {
	for left, want := range map[time.Duration]string{
		DefaultBudget: "8000", 1999 * time.Microsecond: "1", time.Microsecond: "0", 0: "0", -time.Second: "0",
	} {
		if got := string(AppendBudget([]byte("x"), left)); got != "x"+want {
			t.Errorf("AppendBudget(%v) = %q", left, got)
		}
	}
}
