package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logMethods are the methods of slog.Logger that write a line, with the index of the
// message among their arguments. Fields follow it.
var logMethods = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1, "Log": 2, "LogAttrs": 2,
}

// loggers are the names of what is a logger in this module, as a variable or a field.
var loggers = []string{"log", "Logger", "logger", "slog"}

// logWrappers are the methods that pass their message on to a logger, with its index.
var logWrappers = map[string]int{"relay/operator.log": 2, "relay/operator.logOnly": 2}

// logDeeds is the function whose messages are the constants of its package that begin with
// deed.
const logDeeds = "queue.logAction"

// event is a line of the log: where it is written, its levels and its fields.
type event struct {
	at             string
	levels, fields map[string]bool
}

// row is the line's row in the documentation.
func (e *event) row(message string) string {
	fields := ""
	if len(e.fields) > 0 {
		fields = "`" + strings.Join(slices.Sorted(maps.Keys(e.fields)), "`, `") + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s |", message, strings.Join(slices.Sorted(maps.Keys(e.levels)), ", "), fields)
}

// logEvents finds the lines of the log that a package writes. It fails for one whose message
// is not constant.
type logEvents struct {
	t      *testing.T
	set    *token.FileSet
	pkg    string // "relay/operator"
	files  []*ast.File
	consts map[string]string
	funcs  map[string]*ast.FuncDecl
	found  map[string]*event
}

func (l *logEvents) find() {
	l.eachFunc(func(fn *ast.FuncDecl) { l.funcs[fn.Name.Name] = fn })
	l.eachFunc(func(fn *ast.FuncDecl) {
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				l.call(fn, call)
			}
			return true
		})
	})
}

func (l *logEvents) eachFunc(do func(*ast.FuncDecl)) {
	for _, f := range l.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				do(fn)
			}
		}
	}
}

func (l *logEvents) call(fn *ast.FuncDecl, call *ast.CallExpr) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	at, isMethod := logMethods[sel.Sel.Name]
	wrapped, isWrapper := logWrappers[l.pkg+"."+sel.Sel.Name]
	if isWrapper {
		at = wrapped
	} else if !isMethod || !isLogger(sel.X) || len(call.Args) <= at {
		return
	}
	where := l.set.Position(call.Pos())
	place := fmt.Sprintf("%s/%s:%d", l.pkg, filepath.Base(where.Filename), where.Line)
	messages := []string{}
	if message, ok := l.text(call.Args[at]); ok {
		messages = append(messages, message)
	} else if l.pkg+"."+fn.Name.Name == logDeeds {
		for name, value := range l.consts {
			if strings.HasPrefix(name, "deed") {
				messages = append(messages, value)
			}
		}
	} else if _, ok := logWrappers[l.pkg+"."+fn.Name.Name]; !ok {
		l.t.Errorf("%s: the message of a line of the log is not constant; what differs is a field", place)
	}
	fields := make(map[string]bool)
	l.fields(fn, fields, call.Args[at+1:], call.Ellipsis.IsValid())
	l.with(fn, fields, sel.X)
	if isWrapper {
		fields["actor"] = true
	}
	for _, m := range messages {
		if l.found[m] == nil {
			l.found[m] = &event{at: place, levels: make(map[string]bool), fields: make(map[string]bool)}
		}
		maps.Copy(l.found[m].levels, levels(fn, sel.Sel.Name, isWrapper))
		maps.Copy(l.found[m].fields, fields)
	}
}

// levels are those of a line that a method writes. That of Log is one of those which its
// function names.
func levels(fn *ast.FuncDecl, method string, wrapper bool) map[string]bool {
	out := make(map[string]bool)
	switch {
	case wrapper:
		out["INFO"] = true
	case method == "Log" || method == "LogAttrs":
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && isIdent(sel.X, "slog") {
				if level, ok := strings.CutPrefix(sel.Sel.Name, "Level"); ok {
					out[strings.ToUpper(level)] = true
				}
			}
			return true
		})
	default:
		out[strings.ToUpper(strings.TrimSuffix(method, "Context"))] = true
	}
	return out
}

// isLogger reports whether an expression is a logger.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return slices.Contains(loggers, x.Name)
	case *ast.SelectorExpr:
		return slices.Contains(loggers, x.Sel.Name)
	case *ast.CallExpr:
		return isIdent(x.Fun, "newLogger")
	}
	return false
}

func isIdent(x ast.Expr, name string) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == name
}

// text is a constant string.
func (l *logEvents) text(x ast.Expr) (string, bool) {
	switch x := x.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(x.Value)
		return s, err == nil && x.Kind == token.STRING
	case *ast.Ident:
		s, ok := l.consts[x.Name]
		return s, ok
	case *ast.BinaryExpr:
		a, ok := l.text(x.X)
		b, ok2 := l.text(x.Y)
		return a + b, ok && ok2 && x.Op == token.ADD
	}
	return "", false
}

// writtenEvents are the lines of the log that the program can write.
func writtenEvents(t *testing.T) map[string]*event {
	t.Helper()
	found := make(map[string]*event)
	for _, dir := range []string{"cmd/stsrelay", "relay", "queue", "sts", "tlsrpt", "internal"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			rel, err := filepath.Rel("../..", path)
			if err == nil && !slices.Contains(notInTheRelay, rel) {
				eventsOf(t, rel, found)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// notInTheRelay are packages that are no part of the relay.
var notInTheRelay = []string{"internal/bench/loadgen", "internal/bench/least", "internal/bench/sessionbench", "internal/browser", "internal/dnslab", "internal/e2e", "internal/realhosts", "internal/testnet", "internal/store/storetest", "internal/store/pgtest"}

// eventsOf finds those of one package.
func eventsOf(t *testing.T, pkg string, found map[string]*event) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	l := &logEvents{t: t, set: token.NewFileSet(), pkg: pkg, consts: make(map[string]string), funcs: make(map[string]*ast.FuncDecl), found: found}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(l.set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		l.files = append(l.files, f)
		for _, d := range f.Decls {
			if decl, ok := d.(*ast.GenDecl); ok && decl.Tok == token.CONST {
				l.constants(decl)
			}
		}
	}
	l.find()
}

func (l *logEvents) constants(decl *ast.GenDecl) {
	for _, s := range decl.Specs {
		spec := s.(*ast.ValueSpec)
		for i, name := range spec.Names {
			if i < len(spec.Values) {
				if s, ok := l.text(spec.Values[i]); ok {
					l.consts[name.Name] = s
				}
			}
		}
	}
}

// eventRow is a row of docs/logging.md: message, levels, fields.
var eventRow = regexp.MustCompile("^\\| `([^`]+)` \\| ((?:DEBUG|ERROR|INFO|WARN|, )+) \\| .*\\|$")

// docs/logging.md has a row for each line that the log can have, with all its fields, and
// for no other.
func TestEveryLineOfTheLogIsDocumented(t *testing.T) {
	written := writtenEvents(t)
	if len(written) < 100 {
		t.Fatalf("only %d lines were found", len(written))
	}
	text, err := os.ReadFile("../../docs/logging.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if m := eventRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			if documented[m[1]] != "" {
				t.Errorf("docs/logging.md has %q twice", m[1])
			}
			documented[m[1]] = m[0]
		}
	}
	for _, message := range slices.Sorted(maps.Keys(written)) {
		if row := written[message].row(message); documented[message] != row {
			t.Errorf("docs/logging.md: the row of the line that %s writes must be\n%s", written[message].at, row)
		}
	}
	for message := range documented {
		if written[message] == nil {
			t.Errorf("docs/logging.md: nothing writes %q", message)
		}
	}
}
