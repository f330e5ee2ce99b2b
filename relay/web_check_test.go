package relay_test

import (
	"context"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// actingConfig lets those act on the web page who show the token "act".
func actingConfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("act"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "[admin]\nhttp = \"127.0.0.1:0\"\nact_token_file = \"" + file + "\"\n"
}

// acting returns a browser that is logged in to act.
func acting(w *e2e.World) *http.Client {
	w.T.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.T.Fatal(err)
	}
	c := &http.Client{Jar: jar}
	req, err := http.NewRequestWithContext(w.T.Context(), http.MethodPost, "http://"+w.Relay.HTTPAddr().String()+"/login", strings.NewReader(url.Values{"token": {"act"}}.Encode()))
	if err != nil {
		w.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.Do(req)
	if err != nil {
		w.T.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		w.T.Fatal(res.StatusCode)
	}
	return c
}

func TestTheWebPageChecksADomainForThoseWhoMayAct(t *testing.T) {
	w := e2e.NewStopped(t)
	var dialled atomic.Int64
	w.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return w.DialContext(ctx, network, address)
	}
	w.Start(actingConfig(t) + "[[domain]]\nname = \"ruled.example\"\ntls = \"secure\"\n")
	good, plain := w.DANEHost("mx1.good.example"), w.Host("mx1.plain.example")
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}, Policy: e2e.PolicyFor("enforce", good.Name)})
	w.DNS.Secure("good.example", true)
	w.Domain("plain.example", testnet.Domain{MX: []string{plain.Name}, Policy: e2e.PolicyFor("enforce", plain.Name)})
	w.Domain("ruled.example", testnet.Domain{MX: []string{plain.Name}})
	w.SetFaults(plain, testnet.Faults{NoStartTLS: true, Replies: map[string]string{"greeting": "220 <script>alert(1)</script>"}})

	if body := page(w, "/check?domain=good.example"); !strings.Contains(body, "Log in to act") || strings.Contains(body, "mx1.good.example") || dialled.Load() != 0 {
		t.Errorf("without a login, after %d connections:\n%s", dialled.Load(), body)
	}
	browser := acting(w)
	for _, row := range []struct {
		path string
		has  []string
	}{
		{"/check", []string{`<input name="domain" value="" required>`}},
		{"/check?domain=anna@good.example", []string{"Check of good.example", "Mail would go", "mx1.good.example", "<dt>DANE</dt><dd><strong class=\"good\">fine</strong>", "_25._tcp.mx1.good.example", "mode enforce, kept for", "TLS 1.3", "takes TLS 1.3, TLS 1.2", "refuses TLS 1.1, TLS 1.0", "ECDSA P-256"}},
		{"/check?domain=plain.example", []string{"Mail would wait", "<dt>rule</dt><dd>RFC 8461", "<dt>mend</dt>", "&lt;script&gt;alert(1)"}},
		{"/check?domain=ruled.example&sender=anna@sender.example", []string{"Rule of this relay", "<dt>tls</dt><dd>secure</dd>", "None: the domain has no MTA-STS."}},
		{"/check?domain=nothing.example", []string{"Mail would bounce"}},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.Relay.HTTPAddr().String()+row.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		status, _, body := fetch(w, browser, req)
		if status != http.StatusOK {
			t.Errorf("%s: %d", row.path, status)
		}
		for _, want := range row.has {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %s:\n%s", row.path, want, body)
			}
		}
		for _, fault := range htmlFaults(body) {
			t.Errorf("%s: %s in\n%s", row.path, fault, body)
		}
	}
	if dialled.Load() == 0 {
		t.Error("no host was asked")
	}
	if n := good.Counts().Mails + plain.Counts().Mails; n != 0 {
		t.Errorf("%d transactions", n)
	}
}

func TestTheWebPageShowsWhatHappensNow(t *testing.T) {
	w := e2e.New(t, "[admin]\nhttp = \"127.0.0.1:0\"\n")
	good, busy := w.Host("mx1.good.example"), w.Host("mx1.busy.example")
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}})
	w.Domain("busy.example", testnet.Domain{MX: []string{busy.Name}})
	w.SetFaults(busy, testnet.Faults{Replies: map[string]string{"greeting": "421 4.3.2 too busy"}})
	w.Attempted(w.Send("anna@sender.example", "kurt@good.example"))
	w.Attempted(w.Send("anna@sender.example", "kurt@busy.example"))
	status, header, body := browse(w, "/live")
	if status != http.StatusOK || header.Get("Refresh") != "5" {
		t.Errorf("%d, refresh %q", status, header.Get("Refresh"))
	}
	for _, want := range []string{"Accepted a second", "15m 0s", "Commit of the store in ms", `<a href="/queue?domain=busy.example">busy.example</a>`, ">resting, <time", "421 4.3.2 too busy", ">mx1.good.example, valid certificate<"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	for _, fault := range htmlFaults(body) {
		t.Errorf("%s in\n%s", fault, body)
	}
	if _, header, _ := browse(w, "/live?refresh=0"); header.Get("Refresh") != "" {
		t.Error("the page that was stopped loads itself again")
	}
}

// The page of a message that is being delivered says what that waits for.
func TestTheWebPageSaysWhatAnAttemptWaitsFor(t *testing.T) {
	w := e2e.New(t, "[admin]\nhttp = \"127.0.0.1:0\"\n")
	silent := w.Host("mx1.silent.example")
	w.Domain("silent.example", testnet.Domain{MX: []string{silent.Name}})
	w.SetFaults(silent, testnet.Faults{Hang: "greeting"})
	id := w.Send("anna@sender.example", "kurt@silent.example")
	w.WaitFor("an attempt is under way", func(*queue.Queue) bool {
		m, err := w.Relay.Operator().Message(id)
		return err == nil && len(m.WaitsFor) > 0 && strings.HasPrefix(m.WaitsFor[0].For.String(), "the greeting")
	})
	if body := page(w, "/queue/"+id); !strings.Contains(body, `<dt>Waits for</dt><dd>the greeting of mx1.silent.example, for `) || !strings.Contains(body, ", 1 of ") {
		t.Errorf("%s", body)
	}
}

func TestTheWebPageShowsWhatIsPublished(t *testing.T) {
	w := e2e.New(t, actingConfig(t)+"[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\n[[publish]]\ndomains = [\"own.example\"]\nmode = \"testing\"\nmx = [\"mx1.own.example\"]\n")
	if status, text := served(t, w, "own.example"); status != http.StatusOK {
		t.Fatal(status, text)
	}
	body := page(w, "/publish")
	for _, want := range []string{"<h2>own.example</h2>", "<dt>Mode</dt><dd>testing</dd>", "mx: mx1.own.example", "<dt>Fetches</dt><dd>one today"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.Relay.HTTPAddr().String()+"/publish/renew", strings.NewReader("domain=own.example"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if status, _, body := fetch(w, acting(w), req); status != http.StatusConflict || !strings.Contains(body, "this relay orders no certificates") {
		t.Errorf("%d %s", status, body)
	}
}
