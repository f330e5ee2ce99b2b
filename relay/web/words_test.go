package web

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/language"

	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// texts returns all texts that templates and Go files give to T and N.
func texts(t *testing.T) []string {
	t.Helper()
	all := make(map[string]bool)
	for pattern, calls := range map[string]*regexp.Regexp{
		"page/*.html": regexp.MustCompile(`\bt "([^"]+)"|\bn (?:[^ "(]+|\([^)]*\)) "([^"]+)"`),
		"*.go":        regexp.MustCompile(`\.T\("([^"]+)"|\.refuse\(w, r, [\w.]+, "([^"]+)"|\.N\(.*, "([^"]+\|[^"]+)"`),
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			for _, m := range calls.FindAllStringSubmatch(string(data), -1) {
				all[strings.Join(m[1:], "")] = true
			}
		}
	}
	for _, text := range didWhat {
		all[text] = true
	}
	for _, text := range []string{withoutTLS, notLoopback, tooManyTokens} {
		all[text] = true
	}
	return slices.Sorted(maps.Keys(all))
}

func TestEveryTextHasATranslation(t *testing.T) {
	w, err := loadWords(language.German)
	if err != nil {
		t.Fatal(err)
	}
	all := texts(t)
	if len(all) < 150 {
		t.Fatalf("only %d texts were found", len(all))
	}
	verbs := regexp.MustCompile(`%[.0-9]*[a-z]`)
	for _, text := range all {
		own, ok := w.texts[text]
		if !ok {
			t.Errorf("no translation of %q", text)
			continue
		}
		if strings.Count(own, "|") != strings.Count(text, "|") || !slices.Equal(verbs.FindAllString(own, -1), verbs.FindAllString(text, -1)) {
			t.Errorf("the translation of %q is %q", text, own)
		}
	}
	for _, row := range failure.All() {
		if says, remedy, _ := row.German(); w.T(row.Says) != says || w.T(row.Remedy) != remedy || says == "" {
			t.Errorf("the reason %s has no translation", row.Code)
		}
	}
}

// The name of a domain, such as check, can be a word of the remedy.
func TestARemedyWithTheNameOfADomainInIt(t *testing.T) {
	german, err := loadWords(language.German)
	if err != nil {
		t.Fatal(err)
	}
	english, err := loadWords(language.English)
	if err != nil {
		t.Fatal(err)
	}
	row, held := failure.TLSName.Row(), failure.Held.Row()
	for _, domain := range []string{"check", "domain", "mend", "two.example"} {
		why := operator.Reason{Code: row.Code, Owner: string(row.Owner), Says: row.Says, Remedy: failure.Fill(row.Remedy, domain, "")}
		if got, want := english.remedy(why, domain, "1"), "Tell the domain's postmaster; stsrelay check "+domain+" says what to mend."; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got, want := german.remedy(why, domain, "1"), "Sagen Sie es dem Postmaster der Domain; stsrelay check "+domain+" sagt, was zu beheben ist."; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		groups := groupByReason([]operator.DomainSummary{{Domain: domain, Messages: 1, Reason: why}, {Domain: "other.example", Messages: 1, Reason: why}})
		if len(groups) != 1 || groups[0].Reason != row {
			t.Errorf("on the overview: %+v", groups)
		}
	}
	why := operator.Reason{Code: held.Code, Owner: string(held.Owner), Remedy: failure.Fill(held.Remedy, "", "queue")}
	if got := german.remedy(why, "", "queue"); got != "stsrelay queue release queue" {
		t.Errorf("%q", got)
	}
}

func TestAPageIsInTheLanguageOfTheBrowser(t *testing.T) {
	for accept, want := range map[string]string{"": "en", "de-AT,de;q=0.9,en;q=0.5": "de", "fr,en;q=0.5": "en", "en-GB,de;q=0.5": "en", "x": "en"} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Accept-Language", accept)
		if got := languageOf(r); got != want {
			t.Errorf("Accept-Language %q: %s, want %s", accept, got, want)
		}
	}
}
