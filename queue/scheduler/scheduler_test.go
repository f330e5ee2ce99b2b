package scheduler

import (
	"flag"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"
)

const hour = time.Hour

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "40") // a few seconds; the command line may ask for more
	os.Exit(m.Run())
}

// The scheduler decides, and does nothing else.
func TestTheSchedulerIsPure(t *testing.T) {
	allowed := []string{"cmp", "container/heap", "errors", "fmt", "iter", "math/rand/v2", "slices", "time"}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", file, path)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, clock := range []string{"time.Now", "time.Since", "time.Until", "time.After", "time.NewTimer", "time.Sleep"} {
			if strings.Contains(string(text), clock) {
				t.Errorf("%s reads a clock: %s", file, clock)
			}
		}
	}
}

// A million messages wait in the memory of a small machine: most have one group, and
// one object. Go gives objects of up to 160 octets 160.
func TestAMessageIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Entry{}); size > 160 {
		t.Errorf("an entry has %d octets", size)
	}
	if size := unsafe.Sizeof(Group{}); size > 64 {
		t.Errorf("a group has %d octets", size)
	}
}
