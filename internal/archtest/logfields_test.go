package archtest

import (
	"go/ast"
)

// fields adds the keys of the fields that are given to a line: a key and a value in turn, or
// a slog.Attr. With spread, the last argument is a list of them.
func (l *logEvents) fields(fn *ast.FuncDecl, to map[string]bool, args []ast.Expr, spread bool) {
	for i := 0; i < len(args); i++ {
		if spread && i == len(args)-1 {
			l.list(fn, to, args[i])
			return
		}
		if key, ok := l.text(args[i]); ok {
			to[key] = true
			i++ // its value
			continue
		}
		call, ok := args[i].(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			continue
		}
		switch key, ok := l.text(call.Args[0]); { // slog.String("key", …)
		case ok && key != "":
			to[key] = true
		case ok && len(call.Args) > 1: // a group that another function makes
			l.made(to, call.Args[1])
		}
	}
}

// list adds the keys of a list of fields: a literal, the result of append or of another
// function, or a variable, which may be the last parameter.
func (l *logEvents) list(fn *ast.FuncDecl, to map[string]bool, x ast.Expr) {
	switch x := x.(type) {
	case *ast.CompositeLit:
		l.fields(fn, to, x.Elts, false)
	case *ast.CallExpr:
		if isIdent(x.Fun, "append") {
			l.list(fn, to, x.Args[0])
			l.fields(fn, to, x.Args[1:], x.Ellipsis.IsValid())
			return
		}
		l.made(to, x)
	case *ast.Ident:
		l.variable(fn, to, x.Name)
	}
}

// made adds the keys that a function of the package returns.
func (l *logEvents) made(to map[string]bool, x ast.Expr) {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return
	}
	name := ""
	switch f := call.Fun.(type) {
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		name = f.Sel.Name
	}
	if made := l.funcs[name]; made != nil {
		ast.Inspect(made.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				l.fields(made, to, n.Elts, false)
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && isIdent(sel.X, "slog") {
					l.fields(made, to, n.Args[:1], false)
				} else if isIdent(n.Fun, "append") {
					l.fields(made, to, n.Args[1:], false)
				}
			}
			return true
		})
	}
}

// variable adds the keys of all that is assigned to a variable of a function, or that its
// callers give for its last parameter.
func (l *logEvents) variable(fn *ast.FuncDecl, to map[string]bool, name string) {
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			for i, left := range a.Lhs {
				if isIdent(left, name) && i < len(a.Rhs) {
					if call, ok := a.Rhs[i].(*ast.CallExpr); ok && isIdent(call.Fun, "append") && isIdent(call.Args[0], name) {
						l.fields(fn, to, call.Args[1:], call.Ellipsis.IsValid())
						continue
					}
					l.list(fn, to, a.Rhs[i])
				}
			}
		}
		return true
	})
	params := fn.Type.Params.List
	if len(params) == 0 || len(params[len(params)-1].Names) != 1 || params[len(params)-1].Names[0].Name != name {
		return
	}
	before := 0
	for _, p := range params[:len(params)-1] {
		before += max(1, len(p.Names))
	}
	l.eachFunc(func(caller *ast.FuncDecl) {
		ast.Inspect(caller.Body, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) <= before || caller == fn {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == fn.Name.Name || isIdent(call.Fun, fn.Name.Name) {
				l.fields(caller, to, call.Args[before:], call.Ellipsis.IsValid())
			}
			return true
		})
	})
}

// with adds the keys that a logger of a function has by With.
func (l *logEvents) with(fn *ast.FuncDecl, to map[string]bool, logger ast.Expr) {
	id, ok := logger.(*ast.Ident)
	if !ok {
		return
	}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && isIdent(a.Lhs[0], id.Name) {
			if call, ok := a.Rhs[0].(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "With" {
					l.fields(fn, to, call.Args, call.Ellipsis.IsValid())
				}
			}
		}
		return true
	})
}
