package config

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Nearest returns the candidate with the fewest typing errors from name, or nothing if none is near enough to have been meant.
// Of equally near ones it is the first.
func Nearest(name string, candidates []string) string {
	near := NearestAll(name, candidates, min(3, 1+utf8.RuneCountInString(name)/4))
	if len(near) == 0 {
		return ""
	}
	return candidates[slices.IndexFunc(candidates, func(c string) bool { return slices.Contains(near, c) })]
}

// NearestAll returns the candidates with the fewest typing errors from name, sorted, or nothing if there are more than most in each. If one of them has a
// syllable more or less in front (un, dis, no-), name is a word of its own, often the opposite: then nothing was mistyped.
func NearestAll(name string, candidates []string, most int) (near []string) {
	best := most
	for _, candidate := range candidates {
		if reversed(name, candidate) || reversed(candidate, name) {
			return nil
		}
		d := distance(name, candidate)
		if d < best {
			best, near = d, nil
		}
		if d == best {
			near = append(near, candidate)
		}
	}
	slices.Sort(near)
	return near
}

// turning are the syllables that make another word of one.
var turning = []string{"un", "dis", "de", "in", "im", "ir", "no", "non", "not", "re"}

// reversed reports whether long is short with such a syllable in front.
func reversed(long, short string) bool {
	before, found := strings.CutSuffix(long, short)
	return found && slices.Contains(turning, strings.TrimSuffix(before, "-"))
}

// distance counts the letters to insert, delete, replace or swap with their neighbour to get from a to b (optimal string
// alignment).
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	var beforeLast []int
	last := make([]int, len(to)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(from); i++ {
		row := make([]int, len(to)+1)
		row[0] = i
		for j := 1; j <= len(to); j++ {
			replace := last[j-1]
			if from[i-1] != to[j-1] {
				replace++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				row[j] = min(row[j], beforeLast[j-2]+1)
			}
		}
		beforeLast, last = last, row
	}
	return last[len(to)]
}
