package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// prefixes reads the constants of keys.go: name → prefix.
func prefixes(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range v.Names {
			call, ok := v.Values[i].(*ast.CallExpr) // []byte("…")
			if !ok || len(call.Args) != 1 {
				t.Fatalf("%s is not written as []byte(\"…\")", name.Name)
			}
			text, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[name.Name] = text
		}
		return false
	})
	if string(PrefixNotice) != found["PrefixNotice"] || string(PrefixBody) != found["PrefixBody"] {
		t.Fatalf("keys.go was not understood: %v", found)
	}
	return found
}

// documented reads the table of keys in docs/store.md: prefix → owners.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/store.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "| key | value | owner |\n|---|---|---|\n")
	if !found {
		t.Fatal("docs/store.md has no table of keys")
	}
	owners := make(map[string][]string)
	for l := range strings.Lines(rest) {
		f := strings.Split(strings.TrimSpace(l), "|")
		if len(f) != 5 {
			break
		}
		key := strings.Split(f[1], "`")
		if len(key) < 3 {
			t.Fatalf("a row of docs/store.md begins with no key: %s", l)
		}
		if owner := strings.TrimSpace(f[3]); !slices.Contains(owners[key[1]], owner) {
			owners[key[1]] = append(owners[key[1]], owner)
		}
	}
	return owners
}

func TestTheDocumentHasEveryPrefixAndNoOther(t *testing.T) {
	in, doc := prefixes(t), documented(t)
	for name, prefix := range in {
		if len(doc[prefix]) != 1 {
			t.Errorf("docs/store.md says of %s, %q, that it belongs to %q: each prefix has one owner", name, prefix, doc[prefix])
		}
	}
	for prefix, owner := range doc {
		found := false
		for _, p := range in {
			found = found || p == prefix
		}
		if !found {
			t.Errorf("docs/store.md has keys of %s that begin with %q, and keys.go has no such prefix", owner, prefix)
		}
	}
}

func TestNoPrefixBeginsAnother(t *testing.T) {
	in := prefixes(t)
	for a, x := range in {
		for b, y := range in {
			if a != b && strings.HasPrefix(y, x) {
				t.Errorf("%s, %q, begins %s, %q", a, x, b, y)
			}
		}
	}
}
