package security

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Every code has a row, every row is that of a code, and every code is made
// somewhere.
func TestEveryCodeHasARowAndIsMade(t *testing.T) {
	names := make(map[string]int) // of the constants; how often each is made
	var files []*ast.File
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Code" {
					names[v.Names[0].Name] = 0
					return false
				}
			}
			return true
		})
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec, *ast.BinaryExpr, *ast.KeyValueExpr: // the table, comparisons
				_, constants := n.(*ast.ValueSpec)
				return !constants && !hasCode(n, names)
			case *ast.Ident:
				if _, ok := names[n.Name]; ok {
					names[n.Name]++
				}
			}
			return true
		})
	}
	for name, made := range names {
		if made == 0 {
			t.Errorf("%s is made nowhere", name)
		}
	}
	if len(names) != len(codeTable) {
		t.Errorf("%d codes, and %d rows", len(names), len(codeTable))
	}
	for code, row := range codeTable {
		s := newShortfall(MTASTS, code, phrase.Quote("x"))
		if row.Reason == 0 || row.Rule == "" || row.Remedy.IsZero() || s.Type == "" || s.Rule() == "" {
			t.Errorf("%s: %+v", code, row)
		}
		// What the type does not say is said by the code, where it may stand in a report.
		if counted := code != CodeMXNotAuthenticated && code != CodeNoRequireTLS; counted && (s.Type == tlsrpt.ValidationFailure) != (row.Report != "") {
			t.Errorf("%s is reported as %s, %q", code, s.Type, row.Report)
		}
	}
}

// hasCode reports whether n is a comparison with a code, or a row of a code.
func hasCode(n ast.Node, names map[string]int) bool {
	var sides []ast.Expr
	switch n := n.(type) {
	case *ast.BinaryExpr:
		sides = []ast.Expr{n.X, n.Y}
	case *ast.KeyValueExpr:
		sides = []ast.Expr{n.Key}
	}
	for _, s := range sides {
		if id, ok := s.(*ast.Ident); ok {
			if _, ok := names[id.Name]; ok {
				return true
			}
		}
	}
	return false
}

func TestTheReasonOfAShortfall(t *testing.T) {
	for _, tt := range []struct {
		source Source
		code   Code
		want   failure.Reason
		kind   tlsrpt.ResultType
	}{
		{MTASTS, CodeMXMismatch, failure.STSMX, tlsrpt.ValidationFailure},
		{MTASTS, CodeNotOffered, failure.TLSNone, tlsrpt.StartTLSNotSupported},
		{MTASTS, CodeTLSVersion, failure.Handshake, tlsrpt.ValidationFailure},
		{MTASTS, CodeWeakCipher, failure.Handshake, tlsrpt.ValidationFailure},
		{DANE, CodeRefused, failure.TLSNone, tlsrpt.StartTLSNotSupported},
		{DANE, CodeTLSAMismatch, failure.DANE, tlsrpt.ValidationFailure},
		{DANE, CodeNoUsableTLSA, failure.DANE, tlsrpt.TLSAInvalid},
		{Plaintext, CodeNotOffered, failure.Rule, tlsrpt.StartTLSNotSupported},
		{Plaintext, CodeHandshake, failure.Rule, tlsrpt.ValidationFailure},
		{Rule, CodeNotOffered, failure.Rule, tlsrpt.StartTLSNotSupported},
		{Rule, CodeHandshake, failure.Rule, tlsrpt.ValidationFailure},
		{Rule, CodeExpired, failure.CertExpired, tlsrpt.CertificateExpired},
		{Rule, CodeNameNotPinned, failure.TLSName, tlsrpt.CertificateHostMismatch},
		{Rule, CodeTLSAMismatch, failure.Rule, tlsrpt.ValidationFailure},
		{Rule, CodeMXNotAuthenticated, failure.Rule, tlsrpt.ValidationFailure},
		{RequireTLS, CodeMXNotAuthenticated, failure.RequireTLS, tlsrpt.ValidationFailure},
		{RequireTLS, CodeNoRequireTLS, failure.RequireTLS, tlsrpt.ValidationFailure},
		{RequireTLS, CodeHandshake, failure.Handshake, tlsrpt.ValidationFailure},
		{RequireTLS, CodeSelfSigned, failure.TLSCert, tlsrpt.CertificateNotTrusted},
	} {
		if s := newShortfall(tt.source, tt.code, phrase.Quote("x")); s.Reason() != tt.want || s.Type != tt.kind {
			t.Errorf("%s of %s: %s, %s; want %s, %s", tt.code, tt.source, s.Reason().Code(), s.Type, tt.want.Code(), tt.kind)
		}
	}
	if s := TLSALookupFailed(errors.New("SERVFAIL")); s.Reason() != failure.DANE || s.Type != tlsrpt.DNSSECInvalid {
		t.Errorf("%+v", s)
	}
}
