package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// docs/store.md lists every prefix of keys, and none that there is not.
func TestTheDocumentListsEveryPrefix(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	prefixes := []string{"i"} // the engine's own
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			prefixes = append(prefixes, s)
		}
		return true
	})
	doc, err := os.ReadFile("../../docs/store.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]/?)`").FindAllSubmatch(doc, -1) {
		listed = append(listed, string(row[1]))
	}
	slices.Sort(prefixes)
	slices.Sort(listed)
	if listed = slices.Compact(listed); !slices.Equal(prefixes, listed) {
		t.Errorf("keys.go has the prefixes %q, the table of keys in docs/store.md %q", prefixes, listed)
	}
}
