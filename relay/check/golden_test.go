package check

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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
		if p.Text == "" || p.Rule == "" || p.Remedy == "" {
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
