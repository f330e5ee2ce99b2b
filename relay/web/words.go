package web

import (
	"embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/text/language"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/operator"
)

//go:embed words
var wordFiles embed.FS

// languages are those of the pages, each with all of its texts; the first is for browsers
// that ask for none of them.
// A language but English is a file of folder words: the English text, and its
// translation. Texts with a plural are "one message|%d messages". The texts of reasons
// come from the table of package failure, those of a check from package phrase.
var languages = []language.Tag{language.English, language.German}

var matcher = language.NewMatcher(languages)

// words are the texts of a language.
type words struct {
	Language string // "en"
	texts    map[string]string
	// phrase returns the translation of a part of a phrase; nil: phrases are told in English.
	phrase func(english string) (text string, ok bool)
}

// allWords returns the texts of all languages, which are part of the program: it panics where
// some are wrong.
func allWords() map[string]*words {
	all := make(map[string]*words)
	for _, tag := range languages {
		w, err := loadWords(tag)
		if err != nil {
			panic(err)
		}
		all[w.Language] = w
	}
	return all
}

// loadWords returns the texts of a language.
func loadWords(tag language.Tag) (*words, error) {
	w := &words{Language: tag.String()}
	if tag == language.English {
		return w, nil
	}
	b, err := wordFiles.ReadFile("words/" + w.Language + ".toml")
	if err == nil {
		err = toml.Unmarshal(b, &w.texts)
	}
	if err != nil {
		return nil, fmt.Errorf("the texts of the web page in %s: %w", w.Language, err)
	}
	if tag == language.German {
		w.phrase = phrase.German
		for _, row := range failure.All() {
			says, remedy, shared := row.German()
			maps.Copy(w.texts, map[string]string{row.Says: says, row.Remedy: remedy})
			if row.Shared != "" {
				w.texts[row.Shared] = shared
			}
		}
	}
	return w, nil
}

// languageOf returns the language of the pages that a browser likes best.
func languageOf(r *http.Request) string {
	tags, _, _ := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	_, i, _ := matcher.Match(tags...)
	return languages[i].String()
}

// T returns a text in the language of w, with its arguments filled in as by Sprintf. A
// text that has no translation stays as it is.
func (w *words) T(text string, args ...any) string {
	if own, ok := w.texts[text]; ok {
		text = own
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// Say returns a phrase in the language of w.
func (w *words) Say(p phrase.Phrase) string {
	if w.phrase == nil {
		return p.String()
	}
	return p.In(func(english string) string {
		if own, ok := w.phrase(english); ok {
			return own
		}
		return w.T(english) // a reason
	})
}

// N returns a text about n things: of "one message|%d messages" the first half for 1,
// else the second, with n and then args filled in.
func (w *words) N(n int, text string, args ...any) string {
	one, many, _ := strings.Cut(w.T(text), "|")
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, append([]any{n}, args...)...)
}

// functions are what templates can call.
func (w *words) functions() template.FuncMap {
	return template.FuncMap{
		"t": w.T, "n": w.N, "say": w.Say, "size": human.Size, "span": human.Span, "clock": human.Clock, "join": strings.Join,
		"language": func() string { return w.Language },
		"seconds":  func(n int64) time.Duration { return time.Duration(n) * time.Second },
		"age":      func(t time.Time) string { return human.Span(time.Since(t)) },
		"ago":      w.ago, "until": w.until, "at": at, "name": domainName, "remedy": w.remedy, "check": checkAddress,
	}
}

// ago returns how long ago a time was, as an element that has the time itself.
func (w *words) ago(t any) template.HTML {
	at := pointer(t)
	if at == nil {
		return "–"
	}
	return timeElement(*at, w.T("%s ago", human.Span(time.Since(*at))))
}

// until returns how far away a time is.
func (w *words) until(t any) template.HTML {
	at := pointer(t)
	if at == nil {
		return "–"
	}
	if d := time.Until(*at); d > 0 {
		return timeElement(*at, w.T("in %s", human.Span(d)))
	}
	return timeElement(*at, w.T("now"))
}

// at returns a time to the second, in UTC.
func at(t any) template.HTML {
	at := pointer(t)
	if at == nil {
		return "–"
	}
	return timeElement(*at, human.Clock(*at))
}

// pointer returns a time or a pointer to one as a pointer, nil for neither.
func pointer(t any) *time.Time {
	switch t := t.(type) {
	case *time.Time:
		return t
	case time.Time:
		if !t.IsZero() {
			return &t
		}
	}
	return nil
}

func timeElement(at time.Time, text string) template.HTML {
	return template.HTML(`<time datetime="` + at.UTC().Format(time.RFC3339) + `" title="` + human.Clock(at) + `">` + template.HTMLEscapeString(text) + `</time>`) //nolint:gosec // the text is escaped
}

// remedy returns what the operator can do about the reason of a domain or of a message.
func (w *words) remedy(r operator.Reason, domain, id string) string {
	return failure.Fill(w.T(r.Row().Remedy), domain, id)
}
