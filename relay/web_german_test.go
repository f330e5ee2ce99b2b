package relay_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/received"
)

// englishWord matches what no German sentence has, but for codes such as dns-no-host, and quotation what a text quotes.
var (
	englishWord = regexp.MustCompile(`(^|[^-\w])(the|and|is|are|not|of|with|for|from|no|its|which|cannot)($|[^-\w])`)
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

// inGerman is what a browser that asks for German is answered. The query of a POST is its form.
func inGerman(w *e2e.World, browser *http.Client, method, path string) string {
	w.T.Helper()
	form := ""
	if method == http.MethodPost {
		path, form, _ = strings.Cut(path, "?")
	}
	req, err := http.NewRequestWithContext(w.T.Context(), method, "http://"+w.Relay.HTTPAddr().String()+path, strings.NewReader(form))
	if err != nil {
		w.T.Fatal(err)
	}
	req.Header.Set("Accept-Language", "de")
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	_, _, body := fetch(w, browser, req)
	return body
}

// What the page finds and what it refuses is told in German, too. A text that the program
// itself has made is not marked as English.
func TestTheGermanPagesSayWhatIsWrongInGerman(t *testing.T) {
	w := e2e.New(t, actingConfig(t)+"[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\n[[publish]]\ndomains = [\"own.example\"]\nmode = \"testing\"\nmx = [\"mx.own.example\"]\n")
	silent := w.Host("mx1.silent.example")
	w.Domain("silent.example", testnet.Domain{MX: []string{silent.Name}})
	w.SetFaults(silent, testnet.Faults{Hang: "greeting"})
	if _, err := w.Relay.Operator().Pause(t.Context(), operator.Actor{Via: "test"}, operator.PauseOrder{Domain: "held.example"}); err != nil {
		t.Fatal(err)
	}
	held := w.Send("anna@sender.example", "kurt@held.example")
	active := w.Send("anna@sender.example", "kurt@silent.example")
	w.WaitFor("an attempt is under way", func(*queue.Queue) bool {
		m, err := w.Relay.Operator().Message(active)
		return err == nil && len(m.WaitsFor) > 0 && strings.HasPrefix(m.WaitsFor[0].For.String(), "the greeting")
	})
	importFailures(w, "own.example")

	browser := acting(w)
	inGerman(w, browser, http.MethodPost, "/queue/act?action=hold&id="+held)
	for _, row := range []struct{ method, path, has string }{
		{"GET", "/received", "weitere Tage mit Berichten: 13 (1 von 14); Berichte von einem weiteren Absender (1 von 2)"},
		{"GET", "/received/own.example", "own.example ist nicht bereit für enforce; es fehlt: "},
		{"GET", "/received/own.example", "das Zertifikat erneuern, in den Mailserver laden"},
		{"GET", "/received/own.example", "bieten Sie die Policy unter genau https://mta-sts.own.example/"},
		{"GET", "/received/own.example", "fragen Sie den Absender, was fehlschlug"},
		{"GET", "/received/own.example", "Oder die Policy nennt den Host nicht"},
		{"GET", "/publish", "own.example ist nicht bereit für enforce"},
		{"GET", "/", "Was wartet"},
		{"GET", "/queue/" + held, "<dd>durch den Administrator</dd>"},
		{"GET", "/queue", "durch den Administrator <code>held"},
		{"GET", "/queue/" + active, "die Begrüßung von mx1.silent.example"},
		{"GET", "/queue/" + active, "unverschlüsselt"},
		{"GET", "/queue/01ABC", "keine solche Nachricht in der Queue"},
		{"GET", "/queue/0", "die IDs mehrerer Nachrichten beginnen so"},
		{"GET", "/queue?domain=a..b", "ist keine Domain"},
		{"GET", "/queue?older_than=soon", "older_than &#34;soon&#34; ist keine Zeit"},
		{"GET", "/queue?state=gone", "state &#34;gone&#34; ist nicht"},
		{"GET", "/queue?why=x", "ist kein Code eines Grundes"},
		{"GET", "/queue/confirm?action=x", "das Feld &#34;action&#34;"},
		{"GET", "/pause?domain=a..b", "ist keine Domain"},
		{"GET", "/pause?domain=a.example&for=x", "ist keine Zeit wie 2h"},
		{"GET", "/history?since=x", "ein Tag wird geschrieben wie 2026-11-28"},
		{"GET", "/history?verdict=x", "verdict &#34;x&#34; ist nicht delivered, deferred oder bounced"},
		{"GET", "/history/01ABC", "Von einer solchen Nachricht steht nichts im Verlauf"},
		{"GET", "/history/01ABC/evidence", "von dieser Nachricht steht keine Zustellung im Verlauf"},
		{"GET", "/history/evidence?to=x", "von dieser Nachricht steht keine Zustellung im Verlauf"},
		{"GET", "/received/a..b", "ist keine Domain"},
		{"GET", "/reports/x", "ist kein Datum wie 2026-11-23"},
		{"GET", "/nothing", "eine solche Seite gibt es nicht"},
		{"POST", "/queue/act?action=x", "das Feld &#34;action&#34;"},
		{"POST", "/queue/act?action=retry&scope=filter&why=x", "ist kein Code eines Grundes"},
		{"POST", "/queue/act?action=%zz", "das Formular lässt sich nicht lesen: "},
		{"POST", "/pause?paused=true&domain=a..b", "ist keine Domain"},
		{"POST", "/policies/refresh?domain=nothing.example", "die Domain nothing.example existiert nicht"},
		{"POST", "/reports/send?day=2026-11-23&domain=x.example", "für x.example wurde am 2026-11-23 nichts gezählt"},
		{"POST", "/publish/renew?domain=own.example", "dieses Relay bestellt keine Zertifikate"},
		{"PUT", "/queue", "hier werden nur GET, HEAD und POST beantwortet"},
	} {
		body := inGerman(w, browser, row.method, row.path)
		if !strings.Contains(body, row.has) {
			t.Errorf("%s %s has no %s:\n%s", row.method, row.path, row.has, body)
		}
		if strings.Contains(body, ` lang="en"`) {
			t.Errorf("%s %s has a text in English:\n%s", row.method, row.path, body)
		}
		for _, text := range untranslated(body) {
			t.Errorf("%s %s: not German: %s", row.method, row.path, text)
		}
	}
}

// importFailures imports a report about a domain with several types of failures.
func importFailures(w *e2e.World, domain string) {
	w.T.Helper()
	details := ""
	for _, kind := range []string{"certificate-expired", "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid", "dane-required", "validation-failure", "something-new"} {
		details += `,{"result-type":"` + kind + `","receiving-mx-hostname":"mx.` + domain + `","failed-session-count":1}`
	}
	day := time.Now().AddDate(0, 0, -1).UTC().Format(time.DateOnly)
	report := `{"organization-name":"one.example","report-id":"1","date-range":{"start-datetime":"` + day + `T00:00:00Z","end-datetime":"` + day + `T23:59:59Z"},
		"policies":[{"policy":{"policy-type":"sts","policy-domain":"` + domain + `"},"summary":{"total-successful-session-count":1,"total-failure-session-count":7},"failure-details":[` + details[1:] + `]}]}`
	got, err := w.Relay.Operator().ImportReports(w.T.Context(), operator.Actor{Via: "test"}, strings.NewReader(report), "r.json")
	if err != nil || len(got) != 1 || got[0].Outcome != received.Kept {
		w.T.Fatal(got, err)
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
		body := inGerman(w, browser, http.MethodGet, row.path)
		if !strings.Contains(body, row.has) {
			t.Errorf("%s has no %s:\n%s", row.path, row.has, body)
		}
		for _, text := range untranslated(body) {
			t.Errorf("%s: not German: %s", row.path, text)
		}
	}
}
