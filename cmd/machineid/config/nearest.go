package config

import "unicode/utf8"

// Nearest returns the candidate with the fewest typing errors from name, or nothing if none is near enough to have been meant.
// Of equally near ones it is the first.
func Nearest(name string, candidates []string) string {
	best, found := min(3, 1+utf8.RuneCountInString(name)/4)+1, ""
	for _, candidate := range candidates {
		if d := distance(name, candidate); d < best {
			best, found = d, candidate
		}
	}
	return found
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
