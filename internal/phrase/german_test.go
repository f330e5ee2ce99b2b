package phrase

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sentence matches text that a reader of another language would not understand.
var sentence = regexp.MustCompile(`[a-z]{2,} [a-z]{2,}`)

// formats are the formats of all calls of New and Errorf in the code, with the place of one.
func formats(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	files := token.NewFileSet()
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			if pkg, ok := fun.X.(*ast.Ident); !ok || pkg.Name != "phrase" {
				return true
			}
			text, literal := literal(call.Args[0])
			switch place := files.Position(call.Pos()).String(); fun.Sel.Name {
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
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
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
