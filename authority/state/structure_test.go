package state

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// writers says which function may write which keys (S2). A key that is missing
// here may be written by nobody.
var writers = map[string]string{
	"orgKey(":              "changeOrg dropOrg",
	"keyKey(":              "changeKey dropKey",
	"orgKeyKey(":           "changeKey dropKey",
	"occupantKey(":         "changeOccupant",
	"timedKey(prefixByAge": "follow",
	"timedKey(prefixByEnd": "follow",
	"revokedKey(":          "follow",
	"seatsKey(":            "follow",
	"clusterKey":           "putCluster",
	"plansKey":             "putPlans",
	"markKey":              "stamp",
	"auditKey(":            "write leaveOut trimAudit clear",
	"orgAuditKey(":         "write trimAudit clear",
	"debris":               "clear",
	"goneKey(":             "deleteOrg tidy",
	"goneKeysKey(":         "deleteOrg dropDeadKeys",
	"onceKey(":             "remember forget forgetShare",
	"onceAgeKey(":          "remember forget forgetShare",
	"onceRangeKey(":        "setRange forgetShare",
	"seenKey(":             "setSeen forgetSeen",
	"usedKey(":             "setUsed dropKey",
	"signupKey(":           "signedUp expireSignups",
	"billingKey(":          "putBilling dropBilling",
	"customerKey(":         "putBilling dropBilling",
	"writtenKey(":          "auditSome dropKey",
}

// callers says who may call what, where that is not free: our own functions, and
// all by which a batch can be written.
var callers = map[string]string{
	"follow":      "changeOccupant",
	"dropOrg":     "deleteOrg",
	"putCluster":  "seed setLink reserveTime rotateToken setMembers",
	"putPlans":    "seed setPlans",
	"dropBilling": "deleteOrg",
	"putBilling":  "setBilling beginRecovery recover",
	"concern":     "changeOrg dropOrg changeKey dropKey changeOccupant holder",
	"w":           "set del",               // the batch itself
	"Set":         "set Renew noteRenewal", // the last two: offline, of a state that nobody has open
	"Delete":      "del",
	"Merge":       "", "DeleteRange": "", "DeleteSized": "", "SingleDelete": "", "LogData": "", "SetRepr": "", "AddInternalKey": "",
	"MarshalAppend": "put", "Marshal": "Encode Renew noteRenewal", // a record is encoded where its format is judged (S18)
	"SetDeferred": "", "MergeDeferred": "", "DeleteDeferred": "", "DeleteRangeDeferred": "", "SingleDeleteDeferred": "",
}

// writes are the methods of tx that write; their first argument is the key.
var writes = []string{"put", "set", "del"}

// changers emit before they do anything else.
var changers = []string{"changeOrg", "dropOrg", "changeKey", "dropKey", "changeOccupant"}

// faults names what breaks S2 in some files.
func faults(files ...*ast.File) (list []string) {
	used := map[string]bool{}
	for _, file := range files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				for _, fault := range faultsOf(f, used) {
					list = append(list, f.Name.Name+" "+fault)
				}
			}
		}
	}
	for key := range maps.Keys(writers) {
		if !used[key] {
			list = append(list, "nobody writes "+key)
		}
	}
	return list
}

// faultsOf looks at one function and adds the keys that it writes to used.
func faultsOf(f *ast.FuncDecl, used map[string]bool) (list []string) {
	allowed := func(who string) bool { return slices.Contains(strings.Fields(who), f.Name.Name) }
	if slices.Contains(changers, f.Name.Name) && (len(f.Body.List) == 0 || !strings.HasPrefix(textOf(f.Body.List[0]), "t.concern(")) {
		list = append(list, "does not emit first")
	}
	called := map[*ast.SelectorExpr]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(writes, s.Sel.Name) {
				called[s] = true
				key := kindOf(textOf(call.Args[0]))
				used[key] = true
				// put, set and del themselves pass on the key that they were given.
				if !allowed(writers[key]) && !slices.Contains(writes, f.Name.Name) {
					list = append(list, "writes "+textOf(call.Args[0]))
				}
			}
		}
		if s, ok := n.(*ast.SelectorExpr); ok && textOf(s.X) != "slices" {
			if who, held := callers[s.Sel.Name]; held && !allowed(who) {
				list = append(list, "uses "+s.Sel.Name)
			}
			// As a value it could be called where this test does not see the key.
			if slices.Contains(writes, s.Sel.Name) && !called[s] {
				list = append(list, "takes "+s.Sel.Name+" as a value")
			}
		}
		return true
	})
	return list
}

// kindOf is the entry of writers that a key's expression begins with.
func kindOf(expr string) string {
	for key := range writers {
		if expr == key || (strings.Contains(key, "(") && strings.HasPrefix(expr, key)) {
			return key
		}
	}
	return expr
}

func textOf(n ast.Node) string {
	switch n := n.(type) {
	case ast.Expr:
		return types.ExprString(n)
	case *ast.ExprStmt:
		return types.ExprString(n.X)
	}
	return ""
}

func parsePackage(t *testing.T) (files []*ast.File) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
	}
	return files
}

// TestOnlyChangeFunctionsWrite makes a forgotten emission impossible to write.
func TestOnlyChangeFunctionsWrite(t *testing.T) {
	for _, f := range faults(parsePackage(t)...) {
		t.Error(f)
	}
}

// TestStructureMutants adds code that forgets to emit: the test above must see it.
func TestStructureMutants(t *testing.T) {
	for code, want := range map[string]string{
		`func (t *tx) freeze(o *statepb.Org) { t.put(orgKey(OrgID(o.Id)), o) }`:           "freeze writes orgKey",
		`func (t *tx) drop(id OrgID, d string) { t.del(occupantKey(id, d)) }`:             "drop writes occupantKey",
		`func (t *tx) expire(h [32]byte) { func() { t.set(keyKey(h), nil) }() }`:          "expire writes keyKey",
		`func (t *tx) sly(id OrgID) { k := orgKey(id); t.put(k, nil) }`:                   "sly writes k",
		`func (t *tx) slyer(id OrgID) { put := t.put; put(orgKey(id), nil) }`:             "slyer takes put as a value",
		`func (t *tx) raw(id OrgID) { _ = t.w.Set(orgKey(id), nil, nil) }`:                "raw uses Set",
		`func (t *tx) rawer(id OrgID) { w := t.w; _ = w.Delete(orgKey(id), nil) }`:        "rawer uses w",
		`func (t *tx) alias(id OrgID) { x := t; x.put(orgKey(id), nil) }`:                 "alias writes orgKey",
		`func (m *Machine) Apply(w *pebble.Batch) { _ = w.Merge(nil, nil, nil) }`:         "Apply uses Merge",
		`func (t *tx) code(o *statepb.Org) []byte { b, _ := proto.Marshal(o); return b }`: "code uses Marshal",
		`func (t *tx) pay(id OrgID) { t.put(billingKey(id), nil) }`:                       "pay writes billingKey",
		`func (t *tx) charge(id OrgID) { t.putBilling(id, nil, nil) }`:                    "charge uses putBilling",
		`func (t *tx) seats(h *holder) { t.follow(h, "", nil, nil) }`:                     "seats uses follow",
		`func (t *tx) changeOrg() { t.put(orgKey(OrgID{}), nil); t.concern(Concern{}) }`:  "changeOrg does not emit first",
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "mutant.go", "package state\n"+code, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := faults(append(parsePackage(t), f)...)
		if !slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%s\nfound %q, want %q", code, found, want)
		}
	}
}
