package phrase

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type mode string

// german is what the tests know of German.
func german(english string) string {
	if own, ok := map[string]string{
		"mail waits: %s":             "Mail wartet: %s",
		"%s: %w":                     "%s: %w",
		"the host %s does not exist": "der Host %s existiert nicht",
		"it took %s, %d times":       "es dauerte %s, %d-mal",
		"EOF":                        "Ende der Daten",
	}[english]; ok {
		return own
	}
	return english
}

func TestAPhraseIsTranslatedWithWhatStandsInIt(t *testing.T) {
	gone := Errorf("the host %s does not exist", "mx1.example.org")
	for _, row := range []struct {
		name    string
		p       Phrase
		en, de  string
		isError error
	}{
		{name: "nothing"},
		{name: "no arguments", p: New("EOF"), en: "EOF", de: "Ende der Daten"},
		{name: "values", p: New("it took %s, %d times", 2*time.Second, 3), en: "it took 2s, 3 times", de: "es dauerte 2s, 3-mal"},
		{name: "a phrase", p: New("mail waits: %s", New("the host %s does not exist", mode("a"))), en: "mail waits: the host a does not exist", de: "Mail wartet: der Host a existiert nicht"},
		{name: "an error", p: New("mail waits: %s", gone), en: "mail waits: the host mx1.example.org does not exist", de: "Mail wartet: der Host mx1.example.org existiert nicht"},
		{name: "an error that wraps another", p: New("mail waits: %s", Errorf("%s: %w", "read", io.EOF)), en: "mail waits: read: EOF", de: "Mail wartet: read: Ende der Daten"},
		{name: "joined errors", p: Of(errors.Join(gone, io.EOF)), en: "the host mx1.example.org does not exist\nEOF", de: "der Host mx1.example.org existiert nicht\nEnde der Daten"},
		{name: "an error of another kind around it", p: Of(fmt.Errorf("x: %w", gone)), en: "x: the host mx1.example.org does not exist", de: "x: the host mx1.example.org does not exist"},
		{name: "a text that looks like a format", p: New("mail waits: %s", "EOF 100% %s"), en: "mail waits: EOF 100% %s", de: "Mail wartet: EOF 100% %s"},
		{name: "a quotation is not translated", p: Quote("EOF"), en: "EOF", de: "EOF"},
		{name: "a quotation of nothing", p: Quote("")},
		{name: "a list", p: Join([]Phrase{New("EOF"), Quote("b"), Quote("c")}, ", "), en: "EOF, b, c", de: "Ende der Daten, b, c"},
		{name: "an address", p: New("mail waits: %s", netip.MustParseAddr("192.0.2.1")), en: "mail waits: 192.0.2.1", de: "Mail wartet: 192.0.2.1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.p.String(); got != row.en {
				t.Errorf("%q, want %q", got, row.en)
			}
			if got := row.p.In(german); got != row.de {
				t.Errorf("in German %q, want %q", got, row.de)
			}
			if row.p.IsZero() != (row.en == "") {
				t.Error("IsZero")
			}
		})
	}
}

func TestAnErrorWrapsWhatItWasGiven(t *testing.T) {
	sentinel := Errorf("it is empty")
	err := Errorf("%w (%d octets): %w", sentinel, 3, io.EOF)
	if !errors.Is(err, sentinel) || !errors.Is(err, io.EOF) || err.Error() != "it is empty (3 octets): EOF" {
		t.Error(err)
	}
	if errors.Is(Errorf("it is empty"), sentinel) {
		t.Error("two errors of one text are the same")
	}
}

func TestJSONHasTheEnglishText(t *testing.T) {
	type doc struct {
		Text Phrase `json:"text"`
		None Phrase `json:"none,omitzero"`
	}
	data, err := json.Marshal(doc{Text: New("mail waits: %s", `"x"`)})
	if err != nil || string(data) != `{"text":"mail waits: \"x\""}` {
		t.Errorf("%s %v", data, err)
	}
	var back doc
	if err := json.Unmarshal(data, &back); err != nil || back.Text.String() != `mail waits: "x"` || !back.None.IsZero() {
		t.Errorf("%+v %v", back, err)
	}
}

func TestAFilterIsAppliedInEveryLanguage(t *testing.T) {
	p := New("mail waits: %s", New("EOF")).Filtered(strings.ToUpper)
	if got, de := p.String(), p.In(german); got != "MAIL WAITS: EOF" || de != "MAIL WARTET: ENDE DER DATEN" {
		t.Error(got, de)
	}
}
