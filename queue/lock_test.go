package queue

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// atStart are the functions that run before anything else uses the queue.
var atStart = []string{"Open", "rebuild", "unreadable", "record", "begin", "group", "finish", "spread", "loadTrash", "spare"}

// What Queue.mu guards is used by functions that lock it, or say in their name that
// it is locked; those never lock it themselves.
func TestWhatTheLockGuardsIsUsedUnderIt(t *testing.T) {
	t.Parallel()
	files := token.NewFileSet()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var functions []*ast.FuncDecl
	var guarded []string
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				functions = append(functions, fn)
			} else if fields := queueFields(d); fields != nil {
				guarded = fields[slices.Index(fields, "mu")+1:]
			}
		}
	}
	if len(guarded) < 3 || len(functions) < 100 {
		t.Fatalf("%d functions, guarded is %v", len(functions), guarded)
	}
	for _, fn := range functions {
		use, locks := uses(fn, guarded)
		name := fn.Name.Name
		switch locked := strings.HasSuffix(name, "Locked"); {
		case locked && locks:
			t.Errorf("%s: %s locks", files.Position(fn.Pos()), name)
		case use != "" && !locked && !locks && !slices.Contains(atStart, name):
			t.Errorf("%s: %s uses %s without the lock", files.Position(fn.Pos()), name, use)
		}
	}
}

// queueFields returns the fields of Queue, where that is what is declared.
func queueFields(d ast.Decl) (names []string) {
	g, ok := d.(*ast.GenDecl)
	if !ok || g.Tok != token.TYPE || g.Specs[0].(*ast.TypeSpec).Name.Name != "Queue" {
		return nil
	}
	for _, f := range g.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType).Fields.List {
		for _, name := range f.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// uses returns what fn uses that is guarded, and whether it locks. Of a function that
// is called with the lock held, what its closures do comes later.
func uses(fn *ast.FuncDecl, guarded []string) (use string, locks bool) {
	later := strings.HasSuffix(fn.Name.Name, "Locked")
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return !later
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				break
			}
			if s.Sel.Name == "each" { // it calls its function with the lock held
				return false
			}
			if strings.HasSuffix(s.Sel.Name, "Locked") {
				use = s.Sel.Name
			}
			if of, ok := s.X.(*ast.SelectorExpr); ok && s.Sel.Name == "Lock" && of.Sel.Name == "mu" && isQueue(of.X) {
				locks = true
			}
		case *ast.SelectorExpr:
			if isQueue(n.X) && slices.Contains(guarded, n.Sel.Name) {
				use = n.Sel.Name
			}
		}
		return true
	})
	return use, locks
}

// isQueue reports whether x is a Queue by its name, q or ending with .q.
func isQueue(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "q"
	case *ast.SelectorExpr:
		return x.Sel.Name == "q"
	}
	return false
}
