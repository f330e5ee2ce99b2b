package tlsrpt

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the texts of testdata anew")

// text is what people read in a mailed report.
func text(t *testing.T, m *Mail) string {
	t.Helper()
	msg, err := mail.ReadMessage(strings.NewReader(string(m.Body)))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := multipart.NewReader(msg.Body, params["boundary"]).NextRawPart()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(quotedprintable.NewReader(part))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), "\r\n", "\n")
}

// A postmaster reads at a glance how many sessions failed, where, how, when, and
// what to do. The texts are files: testdata/mail-*.txt.
func TestTheTextOfAMailedReport(t *testing.T) {
	sts := Policy{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: testing"}, MXHosts: []string{"*.a.example"}}
	tlsa := Policy{Type: PolicyTLSA, Strings: []string{"3 1 1 abcd"}, MXHosts: []string{"mx1.a.example"}}
	none := Policy{Type: PolicyNone}
	fail := func(p Policy, at time.Duration, kind ResultType, host, code string) Result {
		return Result{Domain: "a.example", Policy: p, Failure: &Failure{Type: kind, MXHost: host, Code: code}, At: noon.Add(at)}
	}
	many := []Result{{Domain: "a.example", Policy: none, At: noon}}
	for i := range 30 {
		many = append(many, fail(none, 0, StartTLSNotSupported, fmt.Sprintf("mx%02d.a.example", i), "not-offered"))
	}
	for _, tt := range []struct {
		name    string
		results []Result
	}{
		{"well", []Result{{Domain: "a.example", Policy: sts, At: noon}, {Domain: "a.example", Policy: tlsa, At: noon}}},
		{"failures", []Result{
			{Domain: "a.example", Policy: sts, At: noon}, {Domain: "a.example", Policy: tlsa, At: noon},
			fail(sts, -4*time.Hour, CertificateExpired, "mx1.a.example", "expired"), fail(sts, 2*time.Hour, CertificateExpired, "mx1.a.example", "expired"), fail(sts, 0, CertificateExpired, "mx1.a.example", "expired"),
			fail(sts, 0, ValidationFailure, "mx2.a.example", "mta-sts-mx-mismatch"), fail(tlsa, 0, ValidationFailure, "mx1.a.example", "tlsa-mismatch"),
			fail(Policy{Type: PolicySTS}, 0, STSPolicyFetchError, "", "it answered\n\n\"500\""),
		}},
		{"many", many},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newHarness(t)
			o.publish("a.example", "v=TLSRPTv1; rua=mailto:x@r.example")
			o.count(tt.results...)
			o.at(nextDay)
			if len(o.queued) != 1 {
				t.Fatalf("%d mails", len(o.queued))
			}
			got := text(t, &o.queued[0])
			file := filepath.Join("testdata", "mail-"+tt.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got != string(want) {
				t.Errorf("%s differs (go test ./tlsrpt -update writes it anew), %v:\n%s", file, err, got)
			}
		})
	}
}

// Every result type has its advice, and a code has its own where the type has none.
func TestEveryResultTypeHasItsAdvice(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "result.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	types := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "ResultType" {
			return true
		}
		types++
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		k := failureKind{kind: ResultType(value)}
		if text := k.advice("a.example", nil); (text == unexplained) != (k.kind == ValidationFailure) {
			t.Errorf("%s: %q", value, text)
		}
		return false
	})
	if types != 11 {
		t.Errorf("%d types", types)
	}
	byCode := func(code string) string { return map[string]string{"a": "Do this."}[code] }
	for code, want := range map[string]string{"a": "Do this.", "a: since": "Do this.", "b": unexplained, "": unexplained} {
		k := failureKind{kind: ValidationFailure, code: code}
		if got := k.advice("a.example", byCode); got != want {
			t.Errorf("%q: %q, want %q", code, got, want)
		}
	}
}
