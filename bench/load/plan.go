package load

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is how many requests are due in a second: From at the beginning, To at the end, changing evenly in between.
type Rate struct{ From, To float64 }

// maxRate is beyond what one process sends.
const maxRate = 10_000_000

// ParseRate reads 5000 or 1000..20000.
func ParseRate(text string) (Rate, error) {
	from, to, ramp := strings.Cut(text, "..")
	if !ramp {
		to = from
	}
	a, aerr := strconv.ParseFloat(from, 64)
	b, berr := strconv.ParseFloat(to, 64)
	if aerr != nil || berr != nil {
		return Rate{}, fmt.Errorf("%q is no rate: give requests a second, 5000, or a ramp, 1000..20000", text)
	}
	if !(a > 0 && b > 0 && a <= maxRate && b <= maxRate) {
		return Rate{}, errors.New("a rate must be above 0 and at most 10000000 requests a second")
	}
	return Rate{a, b}, nil
}

func (r Rate) String() string {
	if r.From == r.To {
		return strconv.FormatFloat(r.From, 'f', -1, 64) + "/s"
	}
	return fmt.Sprintf("%s to %s/s", strconv.FormatFloat(r.From, 'f', -1, 64), strconv.FormatFloat(r.To, 'f', -1, 64))
}

// share is the part of a rate that one of n senders has.
func (r Rate) share(n int) Rate { return Rate{r.From / float64(n), r.To / float64(n)} }

// plan says when each request is due: From throughout the warm-up, then evenly changing to To.
type plan struct {
	rate           Rate
	warmup, length time.Duration // length is without the warm-up
	shift          float64       // a part of the first interval, so that senders do not all send at once
}

// due is when request i is due, counted from the start of the run.
func (p plan) due(i int64) time.Duration {
	n := float64(i) + p.shift
	warm := p.rate.From * p.warmup.Seconds()
	if n <= warm || p.rate.From == p.rate.To || p.length <= 0 {
		return seconds(n / p.rate.From)
	}
	// From·t + (To-From)·t²/2L = n, solved in the form that does not cancel.
	n -= warm
	slope := (p.rate.To - p.rate.From) / p.length.Seconds()
	root := p.rate.From*p.rate.From + 2*slope*n
	if root <= 0 {
		return math.MaxInt64 // a ramp down is over
	}
	return p.warmup + seconds(2*n/(p.rate.From+math.Sqrt(root)))
}

func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}

// total is how many are due before the end.
func (p plan) total() int64 {
	end := p.warmup + p.length
	n := p.rate.From*p.warmup.Seconds() + (p.rate.From+p.rate.To)/2*p.length.Seconds()
	i := max(int64(n)-2, 0)
	for p.due(i) < end {
		i++
	}
	return i
}
