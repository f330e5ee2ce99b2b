package history

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	"io"
	"strings"
	"text/template"
	"time"

	"github.com/pelletier/go-toml/v2"
)

//go:embed texts
var texts embed.FS

// Languages are the languages in which documents are available.
var Languages = []string{"en", "de"}

// words are the phrases of a language, by key.
type words map[string]string

func wordsOf(language string) (words, error) {
	b, err := texts.ReadFile("texts/" + language + ".toml")
	if err != nil {
		return nil, fmt.Errorf("there are no documents in the language %q; there are: %s", language, strings.Join(Languages, ", "))
	}
	var w words
	if err := toml.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("the texts of the language %q: %w", language, err)
	}
	return w, nil
}

// page is the data for the templates.
type page struct {
	Words    words
	Language string
	All      []Evidence
}

// Text returns evidence as plain text in a language.
func Text(all []Evidence, language string) ([]byte, error) {
	return document(all, language, func(w words) (executor, error) {
		return template.New("evidence.txt").Funcs(w.functions()).ParseFS(texts, "texts/evidence.txt")
	})
}

// HTML returns evidence in a language, as a page for printing on A4. The page loads no
// other files.
func HTML(all []Evidence, language string) ([]byte, error) {
	return document(all, language, func(w words) (executor, error) {
		return htmltemplate.New("evidence.html").Funcs(w.functions()).ParseFS(texts, "texts/evidence.html")
	})
}

// executor is a template of text/template or html/template.
type executor interface {
	Execute(w io.Writer, data any) error
}

func document(all []Evidence, language string, parse func(words) (executor, error)) ([]byte, error) {
	w, err := wordsOf(language)
	if err != nil {
		return nil, err
	}
	t, err := parse(w)
	if err != nil {
		return nil, fmt.Errorf("write evidence: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, page{w, language, all}); err != nil {
		return nil, fmt.Errorf("write evidence: %w", err)
	}
	return b.Bytes(), nil
}

func (w words) functions() map[string]any {
	return map[string]any{
		"word":   func(key string) (string, error) { return w.phrase(key) },
		"time":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"zero":   func(t time.Time) bool { return t.IsZero() },
		"date":   func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
		"join":   func(list []string) string { return strings.Join(list, ", ") },
		"proves": w.proves,
		"print":  fingerprint,
	}
}

func (w words) phrase(key string, args ...string) (string, error) {
	s, ok := w[key]
	if !ok {
		return "", fmt.Errorf("no text for %q", key)
	}
	return strings.NewReplacer(args...).Replace(s), nil
}

// proves returns a sentence about how the host of a delivery was authenticated, and what
// that proves.
func (w words) proves(d Delivery) (string, error) {
	issuer, fetched := w["unknown"], w["unknown"]
	if c := d.TLS.Certificate; c != nil && c.Issuer != "" {
		issuer = c.Issuer
	}
	if f := d.TLS.PolicyFetched; f != nil {
		fetched = f.UTC().Format("2006-01-02 15:04 UTC")
	}
	key := "proof-" + string(d.TLS.Proof)
	if d.TLS.Proof == ProofNone && d.TLS.OfferedAndBroke {
		key = "proof-broken"
	}
	return w.phrase(key, "{DOMAIN}", d.Domain, "{HOST}", d.Host, "{TLSA}", d.TLS.TLSA,
		"{POLICY_ID}", d.TLS.PolicyID, "{POLICY_MODE}", d.TLS.PolicyMode, "{POLICY_FETCHED}", fetched, "{ISSUER}", issuer)
}

// fingerprint formats a SHA-256 as openssl x509 -fingerprint does.
func fingerprint(hex string) string {
	var b strings.Builder
	for i, c := range strings.ToUpper(hex) {
		if i > 0 && i%2 == 0 {
			b.WriteByte(':')
		}
		b.WriteRune(c)
	}
	return b.String()
}
