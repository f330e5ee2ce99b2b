package archtest

import (
	"cmp"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root     = "../.."
	module   = "github.com/stsrelay/stsrelay/"
	document = "ARCHITECTURE.md"
	columns  = "| package | what it is | imports of ours |"
)

// imports are the imports of every package of the module, tests left out, on whatever
// platform. Paths of the module are short: "relay/check".
func imports(t *testing.T) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		all[pkg] = append(all[pkg], []string{}...) // also one that imports nothing
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			all[pkg] = append(all[pkg], strings.TrimPrefix(imported, module))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, list := range all {
		slices.Sort(list)
		all[pkg] = slices.Compact(list)
	}
	return all
}

// ours are the packages of the module in a list of imports, in the order of the table.
func ours(all map[string][]string, list []string) (of []string) {
	for _, p := range list {
		if _, ok := all[p]; ok {
			of = append(of, p)
		}
	}
	rank := func(p string) int {
		top, _, _ := strings.Cut(p, "/")
		return slices.Index([]string{"config", "queue", "sts", "tlsrpt", "relay", "internal"}, top)
	}
	slices.SortFunc(of, func(a, b string) int { return cmp.Or(rank(a)-rank(b), strings.Compare(a, b)) })
	return of
}

// cell writes imports as the table does: "internal/" stands before the first only.
func cell(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	short := slices.Clone(list)
	for i, p := range list {
		if i > 0 && strings.HasPrefix(p, "internal/") && strings.HasPrefix(list[i-1], "internal/") {
			short[i] = strings.TrimPrefix(p, "internal/")
		}
	}
	return strings.Join(short, ", ")
}

// table reads the rows of the document: package → its imports, as cell writes them.
func table(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), columns+"\n")
	if !found {
		t.Fatalf("%s has no table that begins with %s", document, columns)
	}
	rows := make(map[string]string)
	for l := range strings.Lines(rest) {
		f := strings.Split(strings.TrimSpace(l), "|")
		if len(f) != 5 {
			break
		}
		name := strings.Trim(f[1], " `")
		if strings.HasPrefix(name, "--") {
			continue
		}
		if _, ok := rows[name]; ok {
			t.Errorf("%s has two rows of %s", document, name)
		}
		rows[name] = strings.TrimSpace(f[3])
	}
	return rows
}

// The table of packages has a row of each, and what it says of imports is so.
func TestTheTableOfPackagesIsRight(t *testing.T) {
	all, rows := imports(t), table(t)
	for pkg, list := range all {
		want := cell(ours(all, list))
		switch got, ok := rows[pkg]; {
		case !ok:
			t.Errorf("%s has no row of %s. Write\n| `%s` | what it is | %s |", document, pkg, pkg, want)
		case got != want:
			t.Errorf("%s, the row of %s: the last column is\n%s |\nbut the imports are\n%s |", document, pkg, got, want)
		}
	}
	for pkg := range rows {
		if _, ok := all[pkg]; !ok {
			t.Errorf("%s has a row of %s, which is no package: delete it", document, pkg)
		}
	}
}

// within reports whether p is a package or one below it.
func within(p, pkg string) bool { return p == pkg || strings.HasPrefix(p, pkg+"/") }

// way is how one package comes to know another, over others: the packages on the way,
// or nil.
func way(all map[string][]string, from, to string, seen map[string]bool) []string {
	seen[from] = true
	for _, p := range all[from] {
		if within(p, to) {
			return []string{from, p}
		}
	}
	for _, p := range all[from] {
		if _, ok := all[p]; !ok || seen[p] {
			continue
		}
		if rest := way(all, p, to, seen); rest != nil {
			return append([]string{from}, rest...)
		}
	}
	return nil
}

// Some packages never know some others, not even over a third one.
func TestWhichPackagesNeverKnowWhich(t *testing.T) {
	all := imports(t)
	for _, never := range []struct{ from, to, because string }{
		{"queue", "relay", "the queue does not know who delivers"},
		{"queue", "sts", "queue, sts and tlsrpt do not know each other"},
		{"queue", "tlsrpt", "queue, sts and tlsrpt do not know each other"},
		{"sts", "queue", "queue, sts and tlsrpt do not know each other"},
		{"sts", "tlsrpt", "queue, sts and tlsrpt do not know each other"},
		{"sts", "relay", "a policy does not know who asks for it"},
		{"tlsrpt", "queue", "queue, sts and tlsrpt do not know each other"},
		{"tlsrpt", "sts", "queue, sts and tlsrpt do not know each other"},
		{"tlsrpt", "relay", "a report does not know who counts"},
		{"relay/check", "relay/delivery", "both stand on relay/outbound; what one does, the other must not repeat"},
		{"relay/check", "queue", "check must work beside the running relay"},
		{"relay/outbound", "queue", "a plan and a session do not know what is sent"},
		{"relay/outbound", "relay/delivery", "delivery stands on outbound"},
		{"relay/security", "relay/outbound", "evidence is handed in"},
		{"relay/web", "relay/adminapi", "both call relay/operator"},
		{"relay/operator", "relay/adminapi", "who asks the operator's questions is not the operator's concern"},
		{"relay/delivery", "relay/history", "the history is one reader of events among others"},
		{"internal/store", "queue", "an engine does not know what it stores"},
		{"queue", "internal/store/badger", "only the contract of an engine is known, not the engine"},
		{"sts", "internal/store", "the policy cache has an interface of its own"},
		{"tlsrpt", "internal/store/badger", "only the contract of an engine is known, not the engine"},
		{"relay/notify", "internal/store/badger", "only the contract of an engine is known, not the engine"},
		{"internal/testnet", strings.TrimSuffix(module, "/"), "the fake Internet cannot share the relay's mistakes"},
		{"queue/scheduler", "internal", "the scheduler is pure"},
		{"queue/scheduler", "sync", "the scheduler is pure: its user locks"},
		{"queue/scheduler", "context", "the scheduler is pure: it waits for nothing"},
		{"queue/scheduler", "log", "the scheduler is pure: its user logs"},
	} {
		for from := range all {
			if !within(from, never.from) {
				continue
			}
			if w := way(all, from, never.to, make(map[string]bool)); w != nil {
				t.Errorf("%s: %s", strings.Join(w, " → "), never.because)
			}
		}
	}
}

// Only who wires the parts knows the configuration; only tests know what is made for
// them.
func TestWhoMayKnowConfigurationAndWorld(t *testing.T) {
	all := imports(t)
	for pkg, allowed := range map[string][]string{
		"config":                 {"relay", "cmd/stsrelay", "internal/e2e"},
		"internal/e2e":           nil,
		"internal/await":         {"internal/e2e"},
		"internal/bench/cputime": nil,
		// An engine is known to those who open it. All others hold a store.Store.
		"internal/store/badger":                {"relay", "cmd/stsrelay", "internal/bench/least", "internal/bench/loadgen"},
		"internal/store/postgres":              {"relay", "cmd/stsrelay", "relay/fleet", "internal/store/postgres/postgrestest"},
		"internal/store/pgtest":                {"cmd/stsrelay", "internal/store/postgres/postgrestest"},
		"internal/store/postgres/postgrestest": nil,
		"internal/store/memory":                nil,
		"internal/store/storetest":             nil,
		"internal/testnet":                     {"cmd/stsrelay", "internal/bench/loadgen", "internal/dnslab", "internal/e2e", "internal/realhosts"},
	} {
		if _, ok := all[pkg]; !ok {
			t.Errorf("there is no package %s", pkg)
		}
		for from, list := range all {
			if slices.Contains(list, pkg) && !slices.Contains(allowed, from) {
				t.Errorf("%s imports %s, which only %v may: hand in Options", from, pkg, allowed)
			}
		}
	}
}

// Every file that ARCHITECTURE.md names by its path is there.
func TestTheFilesThatTheArchitectureNamesAreThere(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "`")
	for i := 1; i < len(parts); i += 2 {
		name := parts[i]
		top, _, deep := strings.Cut(name, "/")
		if strings.ContainsAny(name, " *{") || !deep || !slices.Contains([]string{"cmd", "config", "queue", "sts", "tlsrpt", "relay", "internal", "docs", ".ci"}, top) {
			continue
		}
		if strings.Contains(path.Base(name), ".") && !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".md") && !strings.HasSuffix(name, ".toml") {
			continue // a name of Go, such as sts.Store
		}
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err != nil {
			t.Error(fmt.Errorf("%s names %s: %w", document, name, err))
		}
	}
}
