package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// mutant is one fault: a piece of a file, and what stands in its place.
type mutant struct {
	file     string // below the root of the module, with slashes
	from, to int
	becomes  string
	// name is what survivors.txt and the log call it: file, function, operator and the text that is changed. It has no line numbers, so it
	// outlives edits elsewhere in the file.
	name string

	// How it is made switchable (schemata.go), and the piece of the file that is changed for that.
	way       way
	low, high int
}

// apply returns the file with the fault in it.
func (m *mutant) apply(src []byte) []byte {
	return bytes.Join([][]byte{src[:m.from], []byte(m.becomes), src[m.to:]}, nil)
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// finder goes through one file.
type finder struct {
	file   string
	fset   *token.FileSet
	src    []byte
	factor int

	owner   string // the function, or the name that is declared
	results *ast.FieldList
	stack   []ast.Node
	found   []mutant
	times   map[string]int
}

// find returns the mutants of a file, in its order. Constants become factor times as large, and as small.
func find(file string, src []byte, factor int) ([]mutant, error) {
	if generated.Match(src) {
		return nil, nil
	}
	f := &finder{file: file, fset: token.NewFileSet(), src: src, factor: factor, times: map[string]int{}}
	tree, err := parser.ParseFile(f.fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	for _, d := range tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Body == nil {
				continue
			}
			f.owner, f.results = funcName(d), d.Type.Results
			f.walk(d.Body)
		case *ast.GenDecl:
			if d.Tok == token.CONST || d.Tok == token.VAR {
				f.declared(d)
			}
		}
	}
	return f.found, nil
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	of := d.Recv.List[0].Type
	for {
		switch t := of.(type) {
		case *ast.StarExpr:
			of = t.X
		case *ast.IndexExpr:
			of = t.X
		case *ast.IndexListExpr:
			of = t.X
		case *ast.Ident:
			return t.Name + "." + d.Name.Name
		default:
			return d.Name.Name
		}
	}
}

func (f *finder) declared(d *ast.GenDecl) {
	for _, s := range d.Specs {
		s, ok := s.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, v := range s.Values {
			if i >= len(s.Names) {
				break
			}
			f.owner, f.results = s.Names[i].Name, nil
			if d.Tok == token.CONST {
				f.scale(v, v, s)
			} else {
				f.walk(v)
			}
		}
	}
}

// add notes a mutant: what stands from one position to another becomes something else. of is what the name quotes, in what can be switched.
func (f *finder) add(op string, from, to token.Pos, becomes string, of ast.Node, by way, in ast.Node) {
	text := strings.Join(strings.Fields(f.text(of)), " ")
	if cut := []rune(text); len(cut) > 100 {
		text = string(cut[:100]) + "..."
	}
	name := fmt.Sprintf("%s %s: %s: %s", f.file, f.owner, op, text)
	if f.times[name]++; f.times[name] > 1 {
		name = fmt.Sprintf("%s (%d)", name, f.times[name])
	}
	f.found = append(f.found, mutant{
		file: f.file, from: f.at(from), to: f.at(to), becomes: becomes, name: name,
		way: by, low: f.at(in.Pos()), high: f.at(in.End()),
	})
}

func (f *finder) at(p token.Pos) int { return f.fset.Position(p).Offset }

func (f *finder) text(n ast.Node) string { return string(f.src[f.at(n.Pos()):f.at(n.End())]) }

func (f *finder) walk(root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		if n == nil {
			f.stack = f.stack[:len(f.stack)-1]
			return true
		}
		if lit, ok := n.(*ast.FuncLit); ok {
			// Its returns are those of another list of results.
			results, stack := f.results, f.stack
			f.results, f.stack = lit.Type.Results, nil
			f.walk(lit.Body)
			f.results, f.stack = results, stack
			return false
		}
		f.visit(n)
		f.stack = append(f.stack, n)
		return true
	})
}

func (f *finder) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		f.operators(n)
	case *ast.IncDecStmt:
		other := map[token.Token]token.Token{token.INC: token.DEC, token.DEC: token.INC}[n.Tok]
		f.swap(n.Tok, other, n.TokPos, n, f.statement(n))
		f.remove(n)
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE {
			return
		}
		if other, ok := opposite[n.Tok]; ok {
			f.swap(n.Tok, other, n.TokPos, n, f.statement(n))
		}
		f.remove(n)
	case *ast.ExprStmt:
		if !leftAlone(n.X) {
			f.remove(n)
		}
	case *ast.DeferStmt:
		if !leftAlone(n.Call) {
			f.remove(n)
		}
	case *ast.SendStmt, *ast.GoStmt:
		f.remove(n)
	case *ast.IfStmt:
		f.add("never", n.Cond.Pos(), n.Cond.End(), "false && ("+f.text(n.Cond)+")", n.Cond, truth, n.Cond)
	case *ast.ReturnStmt:
		f.zeros(n)
	case *ast.GenDecl:
		if n.Tok == token.CONST {
			for _, s := range n.Specs {
				if s, ok := s.(*ast.ValueSpec); ok {
					for _, v := range s.Values {
						f.scale(v, s, &ast.ValueSpec{})
					}
				}
			}
		}
	case *ast.BasicLit:
		f.literal(n)
	}
}

// opposite is what an operator becomes. Strings know + only: with - the compiler refuses them.
var opposite = map[token.Token]token.Token{
	token.LAND: token.LOR, token.LOR: token.LAND, token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LSS: token.GEQ, token.GEQ: token.LSS, token.GTR: token.LEQ, token.LEQ: token.GTR,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL, token.REM: token.MUL,
	token.AND: token.OR, token.OR: token.AND, token.XOR: token.AND, token.AND_NOT: token.AND, token.SHL: token.SHR, token.SHR: token.SHL,
	token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN, token.MUL_ASSIGN: token.QUO_ASSIGN, token.QUO_ASSIGN: token.MUL_ASSIGN,
	token.AND_ASSIGN: token.OR_ASSIGN, token.OR_ASSIGN: token.AND_ASSIGN, token.AND_NOT_ASSIGN: token.AND_ASSIGN,
	token.XOR_ASSIGN: token.AND_ASSIGN, token.SHL_ASSIGN: token.SHR_ASSIGN, token.SHR_ASSIGN: token.SHL_ASSIGN,
}

var boundary = map[token.Token]token.Token{token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR}

func (f *finder) operators(n *ast.BinaryExpr) {
	by := truth
	if arithmetic[n.Op] {
		by = number
	}
	if other, ok := opposite[n.Op]; ok {
		f.swap(n.Op, other, n.OpPos, n, by)
	}
	if other, ok := boundary[n.Op]; ok {
		f.swap(n.Op, other, n.OpPos, n, by)
	}
}

func (f *finder) swap(op, other token.Token, at token.Pos, of ast.Node, by way) {
	f.add(fmt.Sprintf("%s to %s", op, other), at, at+token.Pos(len(op.String())), other.String(), of, by, of)
}

// remove leaves a statement out. Its names stay in use, or the compiler would refuse most.
func (f *finder) remove(n ast.Node) {
	if f.statement(n) == statement {
		f.add("removed", n.Pos(), n.End(), "if false { "+f.text(n)+" }", n, statement, n)
	}
}

// statement says whether a statement stands in a list: not at the beginning of an if, as the step of a for, or as what a select waits for.
func (f *finder) statement(n ast.Node) way {
	if len(f.stack) == 0 {
		return statement
	}
	switch in := f.stack[len(f.stack)-1].(type) {
	case *ast.BlockStmt, *ast.CaseClause:
		return statement
	case *ast.CommClause:
		if in.Comm != n {
			return statement
		}
	}
	return byItself
}

// leftAlone says whether a call writes a line to a log, or is a lock's: those are the race detector's, and a lock that is never given back
// only takes time to be found.
func leftAlone(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch sel.Sel.Name {
	case "Lock", "Unlock", "RLock", "RUnlock", "LogAttrs":
		return true
	case "Debug", "Info", "Warn", "Error":
	default:
		return false
	}
	switch on := sel.X.(type) {
	case *ast.Ident:
		return isLog(on.Name)
	case *ast.SelectorExpr:
		return isLog(on.Sel.Name)
	}
	return false
}

func isLog(name string) bool {
	return strings.EqualFold(name, "log") || strings.EqualFold(name, "logger")
}

// zeros returns nothing in the place of what is returned: the zero values, and the other truth.
func (f *finder) zeros(n *ast.ReturnStmt) {
	if f.results == nil || len(n.Results) == 0 {
		return
	}
	var types []string
	for _, r := range f.results.List {
		for range max(len(r.Names), 1) {
			types = append(types, f.text(r.Type))
		}
	}
	becomes, changed := make([]string, len(types)), false
	for i, t := range types {
		becomes[i] = "*new(" + t + ")"
		if len(n.Results) != len(types) { // a call that returns them all
			changed = true
			continue
		}
		was := f.text(n.Results[i])
		switch {
		case t == "bool":
			becomes[i], changed = "!("+was+")", true
		case was != "nil" && was != "0" && was != `""` && !strings.HasSuffix(was, "{}"):
			changed = true
		}
	}
	if changed {
		f.add("zero", n.Pos(), n.End(), "return "+strings.Join(becomes, ", "), n, f.statement(n), n)
	}
}

// scale makes a declared constant larger and smaller. One of the package's can be switched: it is made a variable.
func (f *finder) scale(v ast.Expr, of ast.Node, spec *ast.ValueSpec) {
	counts, other := false, false
	ast.Inspect(v, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			counts = counts || n.Kind == token.INT || n.Kind == token.FLOAT
			other = other || n.Kind == token.STRING || n.Kind == token.CHAR
		case *ast.Ident:
			other = other || n.Name == "iota"
		case *ast.SelectorExpr: // a unit is a number, too
			of, ok := n.X.(*ast.Ident)
			counts = counts || ok && of.Name == "time"
		}
		return true
	})
	if !counts || other {
		return
	}
	by, changed := byItself, ast.Node(v)
	if at := slices.Index(spec.Values, v); spec.Type == nil && at >= 0 {
		by, changed = constant, spec.Names[at]
	}
	f.add(fmt.Sprint("times ", f.factor), v.Pos(), v.End(), fmt.Sprintf("(%s) * %d", f.text(v), f.factor), of, by, changed)
	f.add(fmt.Sprint("over ", f.factor), v.Pos(), v.End(), fmt.Sprintf("(%s) / %d", f.text(v), f.factor), of, by, changed)
}

// literal makes a number in the code larger and smaller. 0 and 1 are steps and ends more often than sizes: other operators reach them.
func (f *finder) literal(n *ast.BasicLit) {
	if n.Kind != token.INT || n.Value == "0" || n.Value == "1" {
		return
	}
	var of ast.Node = n
	for _, in := range f.stack {
		if d, ok := in.(*ast.GenDecl); ok && d.Tok == token.CONST {
			return // scale has it
		}
	}
	by, changed := number, ast.Node(n)
	if len(f.stack) > 0 {
		switch in := f.stack[len(f.stack)-1].(type) {
		case *ast.IndexExpr, *ast.SliceExpr:
			return // beyond the end, mostly
		case *ast.BinaryExpr:
			of = in
			if text := f.text(in); !arithmetic[in.Op] {
				by, changed = truth, in
			} else if !strings.ContainsAny(text, "([/%<") { // its other side may be evaluated twice
				changed = in
			}
		case ast.Expr:
			of = in
		}
	}
	f.add(fmt.Sprint("times ", f.factor), n.Pos(), n.End(), fmt.Sprintf("(%s * %d)", n.Value, f.factor), of, by, changed)
	f.add(fmt.Sprint("over ", f.factor), n.Pos(), n.End(), fmt.Sprintf("(%s / %d)", n.Value, f.factor), of, by, changed)
}
