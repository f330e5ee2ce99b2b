package main

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// The GODEBUG settings of the tests of package relay are in a file of their own. The
// program must have the same settings.
func TestTheProgramHasTheSettingsOfTheTests(t *testing.T) {
	settings := func(file string) (out []string) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range f.Comments {
			for _, c := range group.List {
				if setting, ok := strings.CutPrefix(c.Text, "//go:debug "); ok {
					out = append(out, setting)
				}
			}
		}
		return out
	}
	program, tests := strings.Join(settings("main.go"), " "), strings.Join(settings("../../relay/starttls_test.go"), " ")
	if program == "" || program != tests {
		t.Errorf("the program has %q, the tests %q", program, tests)
	}
}
