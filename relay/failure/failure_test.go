package failure

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reasons.md anew")

const page = "../../docs/reasons.md"

// The page for operators is the vocabulary as it is.
func TestThePageOfReasons(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Why mail waits

One vocabulary for the queue, the log, the metrics, the notices and the API. Whose it is: ` + "`them`" + `, the people behind the recipient's domain;
` + "`network`" + `, what lies between; ` + "`us`" + `, you. ` + "`stsrelay queue show ID`" + ` and ` + "`queue summary`" + ` print what helps.

| code | whose | what it means | what you can do |
|---|---|---|---|
`)
	for _, r := range All() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Code, r.Owner, r.Says, r.Remedy)
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a page of the documentation
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != b.String() {
		t.Errorf("%s is not of today, -update writes it anew (%v)", page, err)
	}
}

func TestEveryReasonIsWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range All() {
		if seen[r.Code] || r.Says == "" || r.Remedy == "" || r.Owner != Remote && r.Owner != Network && r.Owner != Local {
			t.Errorf("%+v", r)
		}
		seen[r.Code] = true
		if Of(r.Code) != r {
			t.Errorf("%s is not found", r.Code)
		}
	}
	if r := Of("of another version"); r.Code != "of another version" || r.Says == "" || r.Remedy == "" {
		t.Errorf("%+v", r)
	}
}
