package failure

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reasons.md anew")

const page = "../../docs/reasons.md"

// The page for operators is the table as it is.
func TestThePageOfReasons(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Why mail waits

One vocabulary for the queue, the log, the metrics, the notices and the API. Whose it is: ` + "`them`" + `, the people behind the recipient's domain;
` + "`network`" + `, what lies between; ` + "`us`" + `, you. ` + "`stsrelay queue show ID`" + ` and ` + "`queue summary`" + ` print what helps. The status code (RFC 3463) stands in front
of the error, with 4 for x while mail waits and 5 when it is given up. It is the usual one: a host's own code stands in its place, and a more
precise one where there is one. TLS reports (RFC 8460) count most sessions that fail for the reason under the type named.

A reason that most of the waiting domains share (at least five) is yours, whoever's it is for one domain: the last column says what to do then, and
` + "`queue summary`, `queue show`" + ` and the alerts say so.

Where a policy of the domain holds mail that must go now, ` + "`override_policy`" + ` is the way out:

    [[domain]]
    name = "partner.example"
    tls = "opportunistic"       # or "encrypt": TLS with whoever answers
    override_policy = true      # the domain's own policy does not count

then ` + "`stsrelay reload` and `stsrelay queue retry --domain partner.example`" + `. It costs what the domain asks for: whoever is on the way, or answers in the
host's place, can read and change the mail. Each log line of such a delivery says so. Take it out again when the domain's postmaster has mended the fault.
It applies to ` + ways() + `.

| code | whose | status | in TLS reports | what it means | what you can do | where most domains wait for it |
|---|---|---|---|---|---|---|
`)
	for _, r := range All() {
		status, result := "", ""
		if r.Status != "" {
			status = "x." + r.Status
		}
		if r.Result != "" {
			result = "`" + string(r.Result) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", r.Code, r.Owner, status, result, r.Says, r.Remedy, r.Shared)
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

// ways names the reasons that have a way out.
func ways() string {
	var codes []string
	for _, r := range All() {
		if r.WayOut() != "" {
			codes = append(codes, "`"+r.Code+"`")
		}
	}
	return strings.Join(codes, ", ")
}

// noWord finds what Fill would take for a place in the middle of a word.
var noWord = regexp.MustCompile(`\pL(DOMAIN|ID)|(DOMAIN|ID)\pL`)

func TestEveryReasonIsWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range All() {
		if seen[r.Code] || r.Code == "" || r.Says == "" || r.Remedy == "" || r.Text == "" || r.Owner != Remote && r.Owner != Network && r.Owner != Local {
			t.Errorf("%+v", r)
		}
		seen[r.Code] = true
		if r.Shared != "" && r.Owner == Local {
			t.Errorf("%s is this relay's matter already, and may not differ where most domains share it", r.Code)
		}
		says, remedy, shared := r.German()
		for _, text := range []string{r.Remedy, r.Shared, r.WayOut(), remedy, shared} {
			if noWord.MatchString(text) {
				t.Errorf("%s: a place is a part of a word: %s", r.Code, text)
			}
		}
		if says == "" || remedy == "" || (shared == "") != (r.Shared == "") {
			t.Errorf("%s in German: %q, %q, %q", r.Code, says, remedy, shared)
		}
		if Of(r.Code) != r || r.Reason.Row() != r || r.Reason.Code() != r.Code {
			t.Errorf("%s is not found", r.Code)
		}
		if r.Protection && (r.Status == "" || r.Result == "") {
			t.Errorf("%s is about protection, and has no status code or result type", r.Code)
		}
	}
	if r := Of("of another version"); r.Code != "of another version" || r.Reason != 0 || r.Says == "" || r.Remedy == "" || r.Text == "" {
		t.Errorf("%+v", r)
	}
	if r := Of(""); r.Code != "" || r.Reason != 0 || r.Says == "" {
		t.Errorf("%+v", r)
	}
}

func TestARemedyIsFilledIn(t *testing.T) {
	for _, tt := range []struct{ text, domain, id, want string }{
		{"check DOMAIN, release ID", "a.example", "01A", "check a.example, release 01A"},
		{"check DOMAIN, release ID", "", "01A", "check DOMAIN, release 01A"},
		{"check DOMAIN, release ID", "a.example", "", "check a.example, release ID"},
		{"DOMAIN and DOMAIN", "ID", "01A", "ID and ID"},
		{"", "a.example", "01A", ""},
	} {
		if got := Fill(tt.text, tt.domain, tt.id); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestTheStatusCodeOfAReason(t *testing.T) {
	for _, tt := range []struct {
		reason Reason
		final  bool
		detail string
		want   string
	}{
		{Connect, false, "", "4.4.1"},
		{Connect, false, "4.2", "4.4.2"},
		{NullMX, true, "", "5.1.10"},
		{Expired, true, "", "5.4.7"},
		{Recipient, true, "1.1", "5.1.1"},
		{New, false, "", ""},
		{0, true, "", ""},
	} {
		if got := tt.reason.Status(tt.final, tt.detail); got != tt.want {
			t.Errorf("%s, %t, %q: %q, want %q", tt.reason.Code(), tt.final, tt.detail, got, tt.want)
		}
	}
}

func TestAReasonThatMostDomainsShare(t *testing.T) {
	for _, tt := range []struct {
		name    string
		domains map[string]int
		want    string
	}{
		{"none", nil, ""},
		{"most wait for the DNS", map[string]int{"dns": 6, "connect": 5}, "dns"},
		{"half do", map[string]int{"dns": 6, "connect": 6}, ""},
		{"too few domains to tell", map[string]int{"dns": 4}, ""},
		{"greylisting says nothing of this relay", map[string]int{"rcpt": 40}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Shared(tt.domains); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
