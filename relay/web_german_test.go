package relay_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// englishWord matches what no German sentence has, and quotation what a text quotes.
var (
	englishWord = regexp.MustCompile(`\b(the|and|is|are|not|of|with|for|from|no|its|which|cannot)\b`)
	quotation   = regexp.MustCompile(`„[^“]*“`)
)

// untranslated are the texts of a German page that have English words, without those that are
// marked as English, or as what others have said.
func untranslated(page string) (list []string) {
	z := html.NewTokenizer(strings.NewReader(page))
	said := 0 // how deep in elements with what others have said
	for {
		switch z.Next() {
		case html.ErrorToken:
			return list
		case html.StartTagToken:
			token := z.Token()
			if said > 0 {
				said++
			}
			for _, a := range token.Attr {
				if said == 0 && (a.Key == "lang" && a.Val == "en" || a.Key == "class" && a.Val == "said") {
					said = 1
				}
			}
			if said == 0 && (token.Data == "code" || token.Data == "style") {
				said = 1
			}
			switch token.Data {
			case "br", "input", "meta", "link", "img", "hr":
				said = max(0, said-1)
			}
		case html.EndTagToken:
			said = max(0, said-1)
		case html.TextToken:
			if text := z.Token().Data; said == 0 && englishWord.MatchString(quotation.ReplaceAllString(text, "")) {
				list = append(list, text)
			}
		}
	}
}

func TestTheGermanPageOfACheckIsGerman(t *testing.T) {
	w := e2e.New(t, actingConfig(t)+"[[domain]]\nname = \"ruled.example\"\ntls = \"secure\"\nfallback = \"unbound\"\nroute = \"next.example\"\n")
	good, plain, broken := w.DANEHost("mx1.good.example"), w.Host("mx1.plain.example"), w.Host("mx1.broken.example")
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}, Policy: e2e.PolicyFor("testing", good.Name)})
	w.DNS.Secure("good.example", true)
	w.Domain("plain.example", testnet.Domain{MX: []string{plain.Name}, Policy: e2e.PolicyFor("enforce", plain.Name)})
	w.SetFaults(plain, testnet.Faults{NoStartTLS: true})
	w.Domain("ruled.example", testnet.Domain{MX: []string{plain.Name}})
	w.Domain("broken.example", testnet.Domain{MX: []string{broken.Name}, Policy: e2e.PolicyFor("enforce", "other.example")})
	w.SetFaults(broken, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.Attempted(w.Send("anna@sender.example", "kurt@plain.example"))

	browser := acting(w)
	for _, row := range []struct{ path, has string }{
		{"/check?domain=good.example", "der Modus ist testing"},
		{"/check?domain=plain.example", "Mail wartet, und nichts wird gesendet: MTA-STS verlangt mehr: mx1.plain.example bietet kein STARTTLS an"},
		{"/check?domain=plain.example", "der letzte Versuch mit dieser Mail endete so: „"},
		{"/check?domain=plain.example", "Sagen Sie es dem Postmaster der Domain; stsrelay check plain.example sagt"},
		{"/check?domain=plain.example", "Schlägt fehl seit <time"},
		{"/pause?domain=plain.example&for=2h", "Eine Nachricht wartet darauf"},
		{"/check?domain=ruled.example&sender=anna@sender.example", "die Ausweichroute"},
		{"/check?domain=broken.example", "die Policy von broken.example nennt mx1.broken.example nicht"},
		{"/check?domain=nothing.example", "Mail kommt sofort zurück: die Domain nothing.example existiert nicht"},
		{"/check?domain=a..b", "&#34;a..b&#34; ist keine Domain"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.Relay.HTTPAddr().String()+row.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Language", "de")
		_, _, body := fetch(w, browser, req)
		if !strings.Contains(body, row.has) {
			t.Errorf("%s has no %s:\n%s", row.path, row.has, body)
		}
		for _, text := range untranslated(body) {
			t.Errorf("%s: not German: %s", row.path, text)
		}
	}
}
