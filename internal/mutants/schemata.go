package main

import (
	"cmp"
	"fmt"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// way is how a mutant can be switched on in a binary that has all of a package's: so that it is compiled once.
type way int

const (
	byItself  way = iota // it cannot: it is compiled alone
	truth                // an expression that is true or false
	number               // an expression that is a number
	statement            // one of a list
	constant             // the package's, and a variable then
)

// arithmetic are the operators whose answer is a number.
var arithmetic = map[token.Token]bool{
	token.ADD: true, token.SUB: true, token.MUL: true, token.QUO: true, token.REM: true, token.AND: true, token.OR: true, token.XOR: true,
	token.AND_NOT: true, token.SHL: true, token.SHR: true,
}

// woven is a file with all its mutants in it, each behind a question of its number.
type woven struct {
	text  []byte
	sites []site // in the order in which they end
}

// site is where a place that has mutants stands in the woven text.
type site struct {
	from, to int
	of       []int // their numbers
	way      way
	name     string // a constant's
}

type weaver struct {
	src     []byte
	mutants []mutant // of the file, by number
	numbers []int
	next    int
	woven
	after []string // variables that were constants
}

// weave puts mutants into their file. Their numbers are those of the package.
func weave(src []byte, mutants []mutant, numbers []int) *woven {
	w := &weaver{src: src}
	order := make([]int, 0, len(mutants))
	for i := range mutants {
		if mutants[i].way != byItself {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(mutants[a].low-mutants[b].low, mutants[b].high-mutants[a].high)
	})
	for _, i := range order {
		w.mutants, w.numbers = append(w.mutants, mutants[i]), append(w.numbers, numbers[i])
	}
	w.piece(0, len(src))
	for i := range w.sites {
		if s := &w.sites[i]; s.way == constant {
			s.from = len(w.text)
			w.put(w.after[0])
			s.to, w.after = len(w.text), w.after[1:]
		}
	}
	return &w.woven
}

func (w *weaver) put(text string) { w.text = append(w.text, text...) }

// piece writes what stands from one place to another, with the mutants in it that were not written yet.
func (w *weaver) piece(from, to int) {
	for w.next < len(w.mutants) && w.mutants[w.next].low >= from && w.mutants[w.next].high <= to {
		at := w.next
		low, high := w.mutants[at].low, w.mutants[at].high
		for w.next < len(w.mutants) && w.mutants[w.next].low == low && w.mutants[w.next].high == high {
			w.next++
		}
		w.put(string(w.src[from:low]))
		here := site{from: len(w.text), of: w.numbers[at:w.next], way: w.mutants[at].way}
		w.switched(w.mutants[at:w.next], here.of, &here)
		here.to = len(w.text)
		w.sites = append(w.sites, here)
		from = high
	}
	w.put(string(w.src[from:to]))
}

// with is a place as it is with a fault.
func (w *weaver) with(m *mutant) string {
	return string(w.src[m.low:m.from]) + m.becomes + string(w.src[m.to:m.high])
}

func (w *weaver) switched(here []mutant, numbers []int, at *site) {
	low, high := here[0].low, here[0].high
	switch here[0].way {
	case byItself: // none comes here
	case truth:
		w.put("(")
		var none strings.Builder
		for i := range here {
			w.put(fmt.Sprintf("mutant(%d) && (%s) || ", numbers[i], w.with(&here[i])))
			fmt.Fprintf(&none, "!mutant(%d) && ", numbers[i])
		}
		w.put(none.String() + "(")
		w.piece(low, high)
		w.put("))")
	case statement:
		for i := range here {
			w.put(fmt.Sprintf("if mutant(%d) { %s } else ", numbers[i], w.with(&here[i])))
		}
		w.put("{ ")
		w.piece(low, high)
		w.put(" }")
	case constant: // its name is given to a variable, behind the file
		w.put("_")
		at.name = string(w.src[low:high])
		value := string(w.src[here[0].from:here[0].to])
		for i := range here {
			value = fmt.Sprintf("mutantPick(%d, %s, %s)", numbers[i], here[i].becomes, value)
		}
		w.after = append(w.after, fmt.Sprintf("\nvar %s = %s\n", at.name, value))
	case number:
		var scaled []int
		operator := -1
		for i := range here {
			if here[i].becomes[0] == '(' {
				scaled = append(scaled, i)
			} else {
				operator = i
			}
		}
		for _, i := range scaled {
			w.put(fmt.Sprintf("mutantPick(%d, %s, ", numbers[i], w.with(&here[i])))
		}
		if operator < 0 {
			w.piece(low, high)
		} else {
			m := &here[operator]
			w.put(fmt.Sprintf("mutant%s(%d, ", operatorNames[string(w.src[m.from:m.to])], numbers[operator]))
			w.piece(low, m.from)
			w.put(", ")
			w.piece(m.to, high)
			w.put(")")
		}
		w.put(strings.Repeat(")", len(scaled)))
	}
}

var operatorNames = map[string]string{
	"+": "Add", "-": "Sub", "*": "Mul", "/": "Quo", "%": "Rem", "&": "And", "|": "Or", "^": "Xor", "&^": "AndNot", "<<": "Shl", ">>": "Shr",
}

// switches is the file that a package gets beside its own: which mutant is on, and which were asked about.
func switches(pkg string) string {
	var b strings.Builder
	b.WriteString("package " + pkg + switchesText)
	for _, op := range []string{"+", "-", "*", "/"} {
		fmt.Fprintf(&b, operatorText, operatorNames[op], "T mutantInteger | ~float32 | ~float64", "T", op, opposite[tokens[op]].String())
	}
	for _, op := range []string{"%", "&", "|", "^", "&^"} {
		fmt.Fprintf(&b, operatorText, operatorNames[op], "T mutantInteger", "T", op, opposite[tokens[op]].String())
	}
	for _, op := range []string{"<<", ">>"} {
		fmt.Fprintf(&b, operatorText, operatorNames[op], "T, U mutantInteger", "U", op, opposite[tokens[op]].String())
	}
	return b.String()
}

var tokens = map[string]token.Token{
	"+": token.ADD, "-": token.SUB, "*": token.MUL, "/": token.QUO, "%": token.REM, "&": token.AND, "|": token.OR, "^": token.XOR,
	"&^": token.AND_NOT, "<<": token.SHL, ">>": token.SHR,
}

const (
	switchesText = `

import (
	mutantos "os"
	mutantconv "strconv"
	mutantatomic "sync/atomic"
)

var (
	mutantOn    = mutantNumber()
	mutantFile  = mutantAsked()
	mutantKnown [1 << 16]mutantatomic.Bool
)

func mutantNumber() int {
	n, err := mutantconv.Atoi(mutantos.Getenv("MUTANT"))
	if err != nil {
		return -1
	}
	return n
}

func mutantAsked() *mutantos.File {
	name := mutantos.Getenv("MUTANTS_ASKED")
	if name == "" {
		return nil
	}
	f, err := mutantos.OpenFile(name, mutantos.O_CREATE|mutantos.O_APPEND|mutantos.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	return f
}

func mutant(n int) bool {
	if mutantFile != nil && !mutantKnown[n].Swap(true) {
		mutantFile.WriteString(mutantconv.Itoa(n) + "\n")
	}
	return n == mutantOn
}

func mutantPick[T any](n int, with, without T) T {
	if mutant(n) {
		return with
	}
	return without
}

type mutantInteger interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}
`
	operatorText = `
func mutant%[1]s[%[2]s](n int, x T, y %[3]s) T {
	if mutant(n) {
		return x %[5]s y
	}
	return x %[4]s y
}
`
)

var complaint = regexp.MustCompile(`(?m)^(\S+\.go):(\d+)(?::(\d+))?: .*$`)

// refusedBy are the numbers of those that a complaint of the compiler at a line and column of the woven text may be about. Numbers whose
// type is not that of what is around them are the likeliest, and their complaint stands anywhere in the line.
func (w *woven) refusedBy(line, column int) []int {
	lines := strings.SplitAfter(string(w.text), "\n")
	from := 0
	for _, l := range lines[:min(line-1, len(lines))] {
		from += len(l)
	}
	to, at := from, from+column-1
	if line-1 < len(lines) {
		to += len(lines[line-1])
	}
	var of []int
	for _, s := range w.sites {
		if s.way == number && s.from < to && s.to > from {
			of = append(of, s.of...)
		}
	}
	if of != nil {
		return of
	}
	before := -1
	for i, s := range w.sites { // inner ones end first
		if s.from <= at && at < s.to {
			return s.of
		}
		if s.to <= at {
			before = i
		}
	}
	if before < 0 {
		return nil
	}
	return w.sites[before].of
}

// constants are the numbers of the constants that a line names.
func (w *woven) constants(line string) (of []int) {
	for _, s := range w.sites {
		if s.way == constant && regexp.MustCompile(`\b`+regexp.QuoteMeta(s.name)+`\b`).MatchString(line) {
			of = append(of, s.of...)
		}
	}
	return of
}

func lineOf(text []byte, n int) string {
	lines := strings.Split(string(text), "\n")
	if n < 1 || n > len(lines) {
		return ""
	}
	return lines[n-1]
}
