package failure

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// Every reason has a row, every row is made by some package, and nobody makes a code
// that has none.
func TestEveryRowIsMadeAndEveryCodeHasARow(t *testing.T) {
	made := make(map[string]bool)
	for name, r := range constants(t) {
		made[name] = false
		if int(r) >= len(table) || table[r].Code == "" {
			t.Errorf("%s has no row", name)
		}
	}
	if len(made) != len(table)-1 {
		t.Errorf("%d reasons, and %d rows", len(made), len(table)-1)
	}
	for file, f := range sources(t) {
		v := visitor{t: t, file: file, made: made}
		ast.Inspect(f, v.visit)
	}
	for name, ok := range made {
		if !ok {
			t.Errorf("%s is made nowhere", name)
		}
	}
}

// constants are the reasons by the names of their constants.
func constants(t *testing.T) map[string]Reason {
	f, err := parser.ParseFile(token.NewFileSet(), "failure.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]Reason)
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		first, _ := g.Specs[0].(*ast.ValueSpec)
		if kind, ok := first.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
			continue
		}
		for i, s := range g.Specs[1:] {
			out[s.(*ast.ValueSpec).Names[0].Name] = Reason(i + 1)
		}
	}
	return out
}

// sources are all files of the module but tests and this package.
func sources(t *testing.T) map[string]*ast.File {
	out := make(map[string]*ast.File)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || path == "../../relay/failure" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		out[path] = f
		return err
	})
	if err != nil || len(out) < 100 {
		t.Fatalf("%d files, %v", len(out), err)
	}
	return out
}

type visitor struct {
	t    *testing.T
	file string
	made map[string]bool
}

// visit takes note of the reasons that a file makes. A comparison, a case, the key of a
// map and a look into the table make none.
func (v *visitor) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		return n.Op != token.EQL && n.Op != token.NEQ
	case *ast.CaseClause:
		for _, s := range n.Body {
			ast.Inspect(s, v.visit)
		}
		return false
	case *ast.CompositeLit:
		v.literal(n)
	case *ast.KeyValueExpr:
		v.noText(n.Key, n.Value)
		ast.Inspect(n.Value, v.visit)
		return false
	case *ast.AssignStmt:
		if len(n.Lhs) == len(n.Rhs) {
			for i := range n.Lhs {
				v.noText(n.Lhs[i], n.Rhs[i])
			}
		}
	case *ast.CallExpr:
		if isSelector(n.Fun, "failure", "Reason") {
			v.t.Errorf("%s makes a reason of a number", v.file)
		}
	case *ast.SelectorExpr:
		if n.Sel.Name == "Row" {
			return false
		}
		if _, known := v.made[n.Sel.Name]; known && isSelector(n, "failure", n.Sel.Name) {
			v.made[n.Sel.Name] = true
		}
	}
	return true
}

// literal looks at a queue.Reason that is written out.
func (v *visitor) literal(n *ast.CompositeLit) {
	if !isSelector(n.Type, "queue", "Reason") {
		return
	}
	for i, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok && isIdent(kv.Key, "Code") {
			v.noTextIn("Code", kv.Value)
		} else if !ok && i == 0 {
			v.noTextIn("Code", e)
		}
	}
}

// noText finds a code that is written as a text.
func (v *visitor) noText(to, value ast.Expr) {
	if s, ok := to.(*ast.SelectorExpr); ok {
		to = s.Sel
	}
	if isIdent(to, "ReasonCode") {
		v.noTextIn("ReasonCode", value)
	}
}

func (v *visitor) noTextIn(field string, value ast.Expr) {
	if lit, ok := value.(*ast.BasicLit); ok && lit.Value != `""` {
		v.t.Errorf("%s sets %s to %s, which is no reason's Code()", v.file, field, lit.Value)
	}
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && s.Sel.Name == name && isIdent(s.X, pkg)
}
