//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// token is what the test shows to act.
const token = "the-token-to-act"

// newWorld starts a relay on whose page one can act.
func newWorld(t *testing.T) *e2e.World {
	t.Helper()
	w := e2e.NewStopped(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Start("retry = [\"30m\"]\n[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\n[[publish]]\ndomains = [\"own.example\"]\nmode = \"testing\"\nmx = [\"mx1.own.example\"]\n[admin]\nhttp = \"127.0.0.1:0\"\nact_token_file = \"" + file + "\"\n")
	return w
}

// faults are the hosts of newInternet, by the beginning of their domain's name.
var faults = []struct {
	name   string
	faults testnet.Faults
	policy string // its mode
}{
	{"good", testnet.Faults{}, "enforce"},
	{"plain", testnet.Faults{NoStartTLS: true}, ""},
	{"verified", testnet.Faults{}, ""},
	{"none", testnet.Faults{NoStartTLS: true}, "enforce"},
	{"down", testnet.Faults{Down: true}, ""},
	{"busy", testnet.Faults{Replies: map[string]string{"greeting": "421 4.3.2 too busy, come back later"}}, ""},
	{"full", testnet.Faults{Replies: map[string]string{"rcpt": "452 4.2.2 the mailbox is full, and has been for longer than anybody can remember"}}, ""},
	{"grey", testnet.Faults{Replies: map[string]string{"mail": "450 4.7.1 greylisted"}}, "testing"},
	{"broken", testnet.Faults{GarbageAfter220: true}, "enforce"},
	{"named", testnet.Faults{Cert: testnet.CertSpec{Names: []string{"other.example"}}}, "enforce"},
	{"spam", testnet.Faults{Replies: map[string]string{"dot": "451 4.7.0 looks like spam"}}, ""},
}

// newInternet lets mail wait for n domains in many states, and some of it arrive.
func newInternet(t *testing.T, w *e2e.World, n, messages int) {
	t.Helper()
	var domains []string
	for i := range n {
		f := faults[i%len(faults)]
		domain := fmt.Sprintf("%s%d.example", f.name, i)
		if f.name == "full" {
			domain = fmt.Sprintf("xn--mller-kva%d.example", i)
			domain = "xn--mller-kva.full" + fmt.Sprint(i) + ".example"
		}
		h := w.Host("mx." + domain)
		d := testnet.Domain{MX: []string{h.Name}}
		if f.policy != "" {
			d.Policy = e2e.PolicyFor(f.policy, h.Name)
		}
		w.Domain(domain, d)
		w.SetFaults(h, f.faults)
		domains = append(domains, domain)
	}
	var list []queue.NewMessage
	for i := range messages {
		domain := domains[i%len(domains)]
		if i > len(domains)*3 {
			domain = domains[3+i%(len(domains)-3)]
		}
		list = append(list, queue.NewMessage{Body: []byte("Subject: x\r\n\r\nx\r\n"), Envelope: queue.Envelope{
			From: "invoices@sender.example", Client: "ex01.sender.example [10.0.0.5]", MessageID: fmt.Sprintf("<%d@sender.example>", i), TLS: "TLS 1.3",
			Recipients: []queue.Recipient{{Address: fmt.Sprintf("somebody-with-a-long-name.%d@%s", i, domain), Domain: domain}},
		}})
	}
	if err := w.Relay.Queue().Add(list, nil); err != nil {
		t.Fatal(err)
	}
	w.WaitFor("nothing is under way", func(q *queue.Queue) bool {
		for _, d := range q.Summary() {
			if d.Last.Code == "" {
				return false
			}
		}
		return true
	})
	w.Relay.Queue().SetPaused(true)
	if _, err := w.Relay.Operator().Change(t.Context(), operator.Actor{}, operator.Hold, operator.Selection{Domain: domains[4]}); err != nil {
		t.Fatal(err)
	}
}

func TestAnOperatorsDayOnThePage(t *testing.T) {
	w := newWorld(t)
	newInternet(t, w, 11, 80)
	base := "http://" + w.Relay.HTTPAddr().String()
	b := start(t, base, "en")
	q := w.Relay.Queue()
	before := q.Counts().Messages

	b.open("/")
	b.login("wrong")
	b.wants("This is not a token of this relay.")
	b.fill(`input[name=token]`, token)
	b.click("form.login button")
	b.wants("Log out", "What waits")

	// From the reason on the overview to its messages, and one of them again.
	b.open("/queue?why=rcpt")
	b.click("table a.id")
	b.click("button[value=retry]")
	b.wants("One message is due now.")

	// A search, three of its messages bounced.
	b.open("/queue")
	b.fill("input[name=domain]", "none3.example")
	b.click("form[role=search] button")
	for i := range 3 {
		b.tick(fmt.Sprintf("tbody tr:nth-child(%d) input[name=id]", i+1))
	}
	b.click("button[value=bounce]")
	b.wants("3 messages are given up", "Oldest", "Newest")
	b.fill("input[name=reason]", "the invoice was wrong")
	b.fill("input[name=confirm]", "2")
	b.click("button.danger")
	b.wants("2 is not the number of messages; nothing was changed.")
	if n := q.Counts().Messages; n != before {
		t.Errorf("%d messages, want %d", n, before)
	}
	b.fill("input[name=confirm]", "3")
	b.click("button.danger")
	b.wants("3 messages were given up; their senders are told.")

	// The selection is in the address: it stays when the page is loaded again.
	b.open("/queue?domain=busy5.example")
	b.tick("tbody tr:nth-child(1) input[name=id]")
	b.click("button[value=hold]")
	b.wants("One message is held.")
	run(b, chromedp.Reload())
	if n := run(b, chromedp.Evaluate[int](`document.querySelectorAll("input[name=id]:checked").length`)); n != 1 {
		t.Errorf("%d are ticked after a reload", n)
	}

	// The delivery to a domain is paused from its page, and goes on from any.
	b.fill("main input[name=for]", "2h")
	b.click(`main form.acts[action="/pause"] button`)
	b.wants("Delivery to busy5.example pauses for 2h, and goes on by itself.")
	b.click(`form:has(input[name=confirm]) button`)
	b.wants("Delivery to busy5.example is paused.", "It goes on in")
	b.click(`.banner form:has(input[name=domain]) button`)
	b.wants("Delivery to busy5.example goes on.")

	// Pages of other sites, also on this machine, can neither act nor show this one in a frame.
	held := len(messages(t, w, operator.Selection{State: "held"}))
	var form strings.Builder
	fmt.Fprintf(&form, `<!DOCTYPE html><title>x</title><form method="post" action="%s/queue/act"><input name="action" value="hold"><input name="scope" value="filter"><input name="why" value="rcpt"><button>Win</button></form>`, base)
	fmt.Fprintf(&form, `<iframe src="%s/queue"></iframe>`, base)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, form.String())
	}))
	defer evil.Close()
	run(b, chromedp.Navigate(evil.URL))
	// The document of a frame of another site is never there for the page around it: the
	// browser knows what the frame shows.
	var shown string
	await.Until(t, "the frame to be loaded or refused", func() bool {
		frames := call(b, page.GetFrameTree, cdp.Empty{}).FrameTree.ChildFrames
		if len(frames) == 1 {
			shown = frames[0].Frame.URL
		}
		return shown != "" && shown != "about:blank"
	})
	if !strings.HasPrefix(shown, "chrome-error:") {
		t.Errorf("%s is shown in a frame", shown)
	}
	b.click("button")
	b.wants("this form was sent by another site: nothing was changed")
	if n := len(messages(t, w, operator.Selection{State: "held"})); n != held {
		t.Errorf("%d are held, before it were %d", n, held)
	}

	// After the end of the session nothing acts.
	b.open("/queue?why=rcpt")
	b.click(".who button")
	b.open("/queue?why=rcpt")
	if n := run(b, chromedp.Evaluate[int](`document.querySelectorAll("form[method=post]").length`)); n != 0 {
		t.Errorf("%d forms are there without a login", n)
	}
}

// messages returns the messages of a selection.
func messages(t *testing.T, w *e2e.World, sel operator.Selection) (list []operator.Message) {
	t.Helper()
	if err := w.Relay.Operator().Messages(t.Context(), sel, -1, func(m *operator.Message) bool { list = append(list, *m); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

// receive takes in TLS reports about a domain of the operator, of ten days.
func receive(t *testing.T, w *e2e.World) {
	t.Helper()
	for i := range 10 {
		day := time.Now().UTC().AddDate(0, 0, -i-1).Format(time.DateOnly)
		report := fmt.Sprintf(`{"organization-name":"Sender %d","date-range":{"start-datetime":"%sT00:00:00Z","end-datetime":"%sT23:59:59Z"},"contact-info":"tls@sender.example","report-id":"%s",`+
			`"policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: testing","mx: mx1.own.example","max_age: 86400"],"policy-domain":"own.example","mx-host":["mx1.own.example"]},`+
			`"summary":{"total-successful-session-count":%d,"total-failure-session-count":%d},"failure-details":[{"result-type":"certificate-expired","receiving-mx-hostname":"mx1.own.example","failed-session-count":%d},`+
			`{"result-type":"starttls-not-supported","receiving-mx-hostname":"mx2.own.example","failed-session-count":1}]}]}`, i%3, day, day, day, 500-40*i, 4+i, 3+i)
		if _, err := w.Relay.Operator().ImportReports(t.Context(), operator.Actor{}, strings.NewReader(report), "report.json"); err != nil {
			t.Fatal(err)
		}
	}
}

// Every page, at the widths of a phone and of a desk, light and dark.
func TestEveryPageIsForEverybody(t *testing.T) {
	w := newWorld(t)
	newInternet(t, w, 28, 400)
	base := "http://" + w.Relay.HTTPAddr().String()
	id := messages(t, w, operator.Selection{Domain: "busy5.example"})[0].ID
	var gone string // a message that was delivered
	if err := w.Relay.Operator().History(t.Context(), operator.HistoryQuery{Domain: "good0.example", Verdict: "delivered", Limit: 1}, func(r *history.Record) bool { gone = r.QueueID; return true }); err != nil {
		t.Fatal(err)
	}
	receive(t, w)
	for _, language := range []string{"en", "de"} {
		b := start(t, base, language)
		b.open("/login")
		look := func(name, path string) {
			b.open(path)
			for _, width := range []int64{360, 1400} {
				for _, scheme := range []string{"light", "dark"} {
					b.size(width, scheme)
					b.open(path)
					picture := fmt.Sprintf("%s-%s-%d-%s", name, language, width, scheme)
					b.picture(picture)
					for _, fault := range b.axe() {
						t.Errorf("%s: %s", picture, fault)
					}
					height, over := b.measure()
					if over > 0 {
						t.Errorf("%s is %d wider than the window", picture, over)
					}
					if name == "overview" && width == 360 && height > 4*800 {
						t.Errorf("%s is %d high, more than four screens", picture, height)
					}
				}
			}
		}
		look("login", "/login")
		b.open("/")
		b.login(token)
		for _, page := range [][2]string{
			{"overview", "/"}, {"queue", "/queue"}, {"reason", "/queue?why=rcpt&sort=-to"}, {"message", "/queue/" + id}, {"confirm", "/queue/confirm?action=bounce&scope=filter&why=rcpt"}, {"pause", "/pause?domain=busy5.example&for=2h"},
			{"history", "/history"}, {"timeline", "/history/" + gone}, {"policies", "/policies"}, {"reports", "/reports"}, {"day", "/reports/" + time.Now().UTC().Format(time.DateOnly)}, {"error", "/queue/nothing"},
			{"live", "/live?refresh=0"}, {"check", "/check"}, {"checked", "/check?domain=none3.example"}, {"publish", "/publish"}, {"received", "/received"}, {"receiveddomain", "/received/own.example"},
		} {
			look(page[0], page[1])
		}
	}
}
