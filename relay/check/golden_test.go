package check

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scenario is a state of a domain, and whether its mail is delivered. Its report is a
// file under testdata.
type scenario struct {
	name        string
	deliverable bool
	setup       func(w *world, domain string)
}

var scenarios = slices.Concat(policyScenarios, hostScenarios, daneScenarios, ruleScenarios, textScenarios)

func TestReports(t *testing.T) {
	for _, tt := range scenarios {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			domain := "example.org"
			tt.setup(w, domain)
			r := Run(t.Context(), domain, w.options)
			if r.Outcome.Deliverable != tt.deliverable {
				t.Errorf("deliverable: %t, want %t", r.Outcome.Deliverable, tt.deliverable)
			}
			everyProblemIsComplete(t, r)
			everyTextIsGerman(t, reflect.ValueOf(r))
			var page bytes.Buffer
			w.ok(normal(t, r).Text(&page, Style{}))
			golden(t, tt.name, page.String())
		})
	}
}

// golden compares a text with its file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./relay/check -update writes it anew):\n%s", file, got)
	}
}

var (
	loopback = regexp.MustCompile(`127\.\d+\.\d+\.\d+(:\d+)?`)
	digest   = regexp.MustCompile(`\b[0-9a-f]{40,}\b|\b[0-9a-f]{8}…`)
)

// normal is a report in which addresses, ports and digests look the same in
// every run, before lines are broken by their length.
func normal(t *testing.T, r *Report) *Report {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	text := loopback.ReplaceAllStringFunc(string(data), func(a string) string {
		if host, port, ok := strings.Cut(a, ":"); ok && host == "127.0.0.1" && port != "25" {
			return "127.0.0.1:53"
		} else if ok {
			return seen[host] + ":" + port
		}
		if seen[a] == "" {
			seen[a] = fmt.Sprintf("192.0.2.%d", len(seen)+1)
		}
		return seen[a]
	})
	out := &Report{}
	if err := json.Unmarshal([]byte(digest.ReplaceAllString(text, "[sha256]")), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// everyProblemIsComplete holds that a problem names its rule and its remedy.
func everyProblemIsComplete(t *testing.T, r *Report) {
	t.Helper()
	faults := 0
	for _, p := range r.AllProblems() {
		if p.Text.IsZero() || p.Rule == "" || p.Remedy.IsZero() {
			t.Errorf("incomplete: %+v", p)
		}
		if p.Severity == Fault {
			faults++
		}
	}
	if !r.Outcome.Deliverable && faults == 0 {
		t.Error("mail does not go, and nothing is said to be at fault")
	}
}

var (
	// What hosts have said, and keys of other programs.
	quoted  = regexp.MustCompile(`"[^"]*"|„[^“]*“|\b[45]\d\d \d.*|\bAlert .*|no-gzip`)
	english = regexp.MustCompile(`\b(the|and|is|are|not|of|with|for|from|no|it|its|mail host|cannot|could)\b`)
)

// everyTextIsGerman holds that what a report says can be told in German, but for what it
// quotes.
func everyTextIsGerman(t *testing.T, v reflect.Value) {
	t.Helper()
	if p, ok := v.Interface().(phrase.Phrase); ok {
		if found := english.FindString(quoted.ReplaceAllString(p.German(), "")); found != "" {
			t.Errorf("%q in %q", found, p.German())
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			everyTextIsGerman(t, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			everyTextIsGerman(t, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				everyTextIsGerman(t, v.Field(i))
			}
		}
	}
}
