package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxStays is how many functions the way of a delivered message may have.
const maxStays = 20

// declares reports whether the package in a folder of the module has a function, or a
// method: "judge", "Queue.Claim".
func declares(t *testing.T, pkg, function string) (found bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no files: %v", pkg, err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			full := f.Name.Name
			if f.Recv != nil {
				of := f.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				if id, ok := of.(*ast.Ident); ok {
					full = id.Name + "." + full
				}
			}
			found = found || full == function && !strings.HasSuffix(name, "_test.go")
		}
	}
	return found
}

func TestTheWayOfADeliveredMessageIsTheOneInTheCode(t *testing.T) {
	text, err := fs.ReadFile(os.DirFS(root), document)
	if err != nil {
		t.Fatal(err)
	}
	_, way, found := strings.Cut(string(text), "### The functions on the way of one delivered message\n")
	if !found {
		t.Fatalf("%s has no list of the functions on the way of a message", document)
	}
	way, _, _ = strings.Cut(way, "\n## ")
	stays := regexp.MustCompile("(?m)^[0-9]+\\. `([^`]+)` `([^`]+)`").FindAllStringSubmatch(way, -1)
	if n := len(stays); n < 10 || n > maxStays {
		t.Errorf("the way has %d functions, at most %d are allowed", n, maxStays)
	}
	for _, stay := range stays {
		if !declares(t, stay[1], stay[2]) {
			t.Errorf("%s has no %s", stay[1], stay[2])
		}
	}
}
