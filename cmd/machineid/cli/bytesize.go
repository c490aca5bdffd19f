package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"machineid/cmd/machineid/cli/config"
)

// byteSize is a flag's number of bytes: plain, or with a unit.
type byteSize int64

// byteUnits are the units, the largest first.
var byteUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	number, unit := s, int64(1)
	for _, u := range byteUnits {
		if rest, found := strings.CutSuffix(s, u.name); found {
			number, unit = rest, u.bytes
			break
		}
	}
	n, err := config.Whole(strings.TrimSpace(number), math.MaxInt64)
	if err != nil || n > uint64(math.MaxInt64/unit) {
		return fmt.Errorf("%q is no size: give bytes, or a whole number of KiB, MiB, GiB or TiB, for example 1GiB", s)
	}
	*b = byteSize(int64(n) * unit)
	return nil
}

// String implements pflag.Value: what Set takes, in the largest unit that leaves no fraction.
func (b *byteSize) String() string {
	for _, u := range byteUnits {
		if n := int64(*b); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Type implements pflag.Value.
func (*byteSize) Type() string { return "SIZE" }
