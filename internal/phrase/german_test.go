package phrase

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sentinel matches the name of an exported error.
var sentinel = regexp.MustCompile(`^Err[A-Z]`)

// sentence matches text that a reader of another language would not understand.
var sentence = regexp.MustCompile(`[a-z]{2,} [a-z]{2,}`)

// sources are all files of the module but tests, by their names, which begin with "../../".
func sources(t *testing.T) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	files, all := token.NewFileSet(), make(map[string]*ast.File)
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		all[filepath.ToSlash(name)], err = parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, all
}

// called returns the package and the name of a function that is called, "" for others.
func called(n ast.Node) (pkg, name string, args []ast.Expr) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", "", nil
	}
	pkg, name = selected(call.Fun)
	return pkg, name, call.Args
}

// selected returns the parts of pkg.Name, "" for anything else.
func selected(n ast.Node) (pkg, name string) {
	if s, ok := n.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return x.Name, s.Sel.Name
		}
	}
	return "", ""
}

// formats are the formats of all calls of New and Errorf in the code, with the place of one.
func formats(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	files, code := sources(t)
	for _, file := range code {
		ast.Inspect(file, func(n ast.Node) bool {
			pkg, name, args := called(n)
			if pkg != "phrase" || len(args) == 0 {
				return true
			}
			text, literal := literal(args[0])
			switch place := files.Position(n.Pos()).String(); name {
			case "New", "Errorf":
				if !literal {
					t.Errorf("%s: the format is no literal", place)
				}
				all[text] = place
			case "Quote", "Text":
				if sentence.MatchString(text) {
					t.Errorf("%s: %q has no translation; use New", place, text)
				}
			}
			return true
		})
	}
	return all
}

// told are the packages whose exported errors the operator's methods pass on.
var told = []string{"queue", "sts", "tlsrpt", "relay/history", "relay/received", "relay/trace", "internal/store"}

// An error that the operator's methods or the web page make, or pass on, is told in the
// language of the browser.
func TestEveryErrorThatThePageTellsIsAPhrase(t *testing.T) {
	files, code := sources(t)
	found := 0
	for name, file := range code {
		folder := strings.TrimPrefix(path.Dir(name), "../../")
		tells := folder == "relay/operator" || folder == "relay/web" && path.Base(name) != "web.go" && path.Base(name) != "words.go" // which make errors of the start
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 && slices.Contains(told, folder) && sentinel.MatchString(v.Names[0].Name) {
				found++
				if pkg, f, _ := called(v.Values[0]); pkg != "" && (pkg != "phrase" || f != "Errorf") { // "": that of another package
					t.Errorf("%s: use phrase.Errorf: the web page may tell this error", files.Position(n.Pos()))
				}
			}
			if pkg, f, _ := called(n); tells && (pkg == "errors" && f == "New" || pkg == "fmt" && f == "Errorf") {
				t.Errorf("%s: use phrase.Errorf: the web page tells this error", files.Position(n.Pos()))
			}
			return true
		})
	}
	if found < 20 {
		t.Fatalf("only %d exported errors were found", found)
	}
}

// literal returns the value of a string literal, or of several with "+" between them.
func literal(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		x, okX := literal(e.X)
		y, okY := literal(e.Y)
		return x + y, okX && okY && e.Op == token.ADD
	}
	return "", false
}

func TestEveryPhraseHasAGermanText(t *testing.T) {
	all := formats(t)
	if len(all) < 200 {
		t.Fatalf("only %d formats were found", len(all))
	}
	verb := regexp.MustCompile(`%[.0-9]*[a-z]`)
	word := regexp.MustCompile(`[A-Za-z]{2,}`)
	for _, text := range slices.Sorted(maps.Keys(all)) {
		own, ok := German(text)
		switch {
		case !ok && word.MatchString(verb.ReplaceAllString(text, "")):
			t.Errorf("%s: no German of %q", all[text], text)
		case ok && !slices.Equal(verb.FindAllString(own, -1), verb.FindAllString(text, -1)):
			t.Errorf("the German of %q is %q", text, own)
		}
	}
	for _, table := range germanTexts {
		for text := range table {
			if _, used := all[text]; !used {
				t.Errorf("nothing says %q", text)
			}
		}
	}
}
