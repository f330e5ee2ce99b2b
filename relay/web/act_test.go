package web_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/web"
)

// buffer is a log that may be written and read at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// site is a page on which one may act, over a queue of n messages.
type site struct {
	*httptest.Server
	t     *testing.T
	queue *queue.Queue
	ids   []string
	log   *buffer
	http  *http.Client // with cookies; it does not follow redirections
}

func newSite(t *testing.T, n int, change func(*web.Options)) *site {
	t.Helper()
	s := &site{t: t, log: &buffer{}}
	var err error
	log := slog.New(slog.NewTextHandler(s.log, nil))
	if s.queue, err = queue.Open(queue.Options{Store: new(memory.Place).Open(), Paused: true, Logger: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.queue.Close)
	for i := range n {
		m := []queue.NewMessage{{Body: []byte("x\r\n"), Envelope: queue.Envelope{From: "a@a.example", Recipients: []queue.Recipient{{Address: fmt.Sprintf("b%d@b.example", i), Domain: "b.example"}}}}}
		if err := s.queue.Add(m, nil); err != nil {
			t.Fatal(err)
		}
		s.ids = append(s.ids, m[0].Envelope.ID.String())
	}
	o := web.Options{ActToken: "act", TokenDelay: 1, Metrics: func(io.Writer) {}, Logger: log,
		Operator: operator.New(operator.Options{Queue: s.queue, Logger: log, Status: func() operator.Status { return operator.Status{Version: "test", Hostname: "relay.example"} }})}
	if change != nil {
		change(&o)
	}
	s.Server = httptest.NewUnstartedServer(web.Handler(o))
	if o.TLS != nil {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	s.http = s.browser()
	return s
}

// browser returns a client without a login.
func (s *site) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &http.Client{Jar: jar, Transport: s.Client().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// post sends a form and returns the status, where the answer leads to, and its text.
func (s *site) post(path string, form url.Values, change func(*http.Request)) (status int, to, body string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(req)
	}
	return s.do(req)
}

func (s *site) get(path string) (status int, to, body string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(req)
}

func (s *site) do(req *http.Request) (status int, to, body string) {
	s.t.Helper()
	res, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Location"), string(text)
}

func (s *site) login(token string) (status int, body string) {
	s.t.Helper()
	status, _, body = s.post("/login", url.Values{"token": {token}, "back": {"/queue"}}, nil)
	return status, body
}

// state returns the state of a message, "" where it is not in the queue.
func (s *site) state(i int) string {
	s.t.Helper()
	id, err := s.queue.Resolve(s.ids[i])
	if err != nil {
		return ""
	}
	m, err := s.queue.Show(id)
	if err != nil {
		return ""
	}
	return string(m.State)
}

func TestWhoHasTheTokenActsFromTheListAndTheMessage(t *testing.T) {
	s := newSite(t, 5, nil)
	act := func(values url.Values) (to string) {
		t.Helper()
		values.Set("back", "/queue?domain=b.example")
		status, to, body := s.post("/queue/act", values, nil)
		if status != http.StatusSeeOther {
			t.Fatalf("%v: %d %s", values, status, body)
		}
		return to
	}
	said := func(page, want string) {
		t.Helper()
		if _, _, body := s.get(page); !strings.Contains(body, want) {
			t.Errorf("%s does not say %q:\n%s", page, want, body)
		}
		if _, _, body := s.get(page); strings.Contains(body, want) && strings.Contains(want, ".") {
			t.Errorf("%s says %q twice", page, want)
		}
	}
	if to := act(url.Values{"action": {"hold"}, "id": {s.ids[0]}}); to != "/login?back=%2Fqueue%3Fdomain%3Db.example" || s.state(0) != "queued" {
		t.Errorf("without a login: %s, %s", to, s.state(0))
	}
	if _, _, body := s.get("/queue"); strings.Contains(body, "/queue/act") || !strings.Contains(body, `href="/login?back=%2fqueue"`) {
		t.Errorf("the list without a login:\n%s", body)
	}
	if status, body := s.login("act"); status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}
	to := act(url.Values{"action": {"hold"}, "id": s.ids[:2], "reason": {"odd"}})
	if s.state(0) != "held" || s.state(1) != "held" || s.state(2) != "queued" {
		t.Error(s.state(0), s.state(1), s.state(2))
	}
	said(to, "2 messages are held.")
	if _, _, body := s.get(to); strings.Count(body, " checked></td>") != 2 {
		t.Errorf("the selection is lost:\n%s", body)
	}
	said(act(url.Values{"action": {"release"}, "id": {s.ids[0]}}), "One message is released.")
	said(act(url.Values{"action": {"retry"}, "scope": {"filter"}, "domain": {"b.example"}, "state": {"queued"}}), "4 messages are due now.")
	said(act(url.Values{"action": {"retry"}}), "Nothing was selected.")

	// What cannot be taken back asks for its number.
	to = act(url.Values{"action": {"bounce"}, "id": s.ids[:3], "reason": {"gone"}})
	_, _, body := s.get(to)
	for _, want := range []string{"3 messages are given up", s.ids[0], s.ids[2], `value="gone"`, `name="confirm"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	to = act(url.Values{"action": {"bounce"}, "id": s.ids[:3], "confirm": {"4"}})
	said(to, "4 is not the number of messages; nothing was changed.")
	if !strings.HasPrefix(to, "/queue/confirm?") || s.queue.Counts().Messages != 5 {
		t.Error(to, s.queue.Counts())
	}
	said(act(url.Values{"action": {"bounce"}, "id": s.ids[:3], "confirm": {"3"}}), "3 messages were given up; their senders are told.")
	if s.queue.Counts().Messages != 2 {
		t.Error(s.queue.Counts())
	}
	if to := act(url.Values{"action": {"remove"}, "scope": {"filter"}}); !strings.HasPrefix(to, "/queue/confirm?") {
		t.Error(to)
	}
	act(url.Values{"action": {"remove"}, "scope": {"filter"}, "confirm": {"2"}})
	if s.queue.Counts().Messages != 0 {
		t.Error(s.queue.Counts())
	}
	if log := s.log.String(); !regexp.MustCompile(`msg="queue changed by the operator" action=bounce touched=3 .* actor="web 127.0.0.1"`).MatchString(log) {
		t.Error(log)
	}
	if status, _, _ := s.post("/pause", url.Values{"paused": {"false"}, "back": {"/"}}, nil); status != http.StatusSeeOther || s.queue.Paused() {
		t.Error(status, s.queue.Paused())
	}
	if status, _, body := s.post("/policies/refresh", url.Values{"domain": {"b.example"}}, nil); status != http.StatusConflict || !strings.Contains(body, "MTA-STS is switched off") {
		t.Error(status, body)
	}
	if status, _, body := s.post("/reports/send", url.Values{"day": {"2026-11-23"}}, nil); status != http.StatusConflict || !strings.Contains(body, "TLS reports are switched off") {
		t.Error(status, body)
	}
}

func TestALoginEndsAndTheTokenToLookDoesNotAct(t *testing.T) {
	s := newSite(t, 1, func(o *web.Options) { o.Token = "look" })
	hold := func() string {
		t.Helper()
		_, to, _ := s.post("/queue/act", url.Values{"action": {"hold"}, "id": s.ids}, nil)
		return to
	}
	if status, _ := s.login("neither"); status != http.StatusForbidden {
		t.Error(status)
	}
	if status, _ := s.login(""); status != http.StatusForbidden {
		t.Error(status)
	}
	if status, body := s.login("look"); status != http.StatusSeeOther {
		t.Fatal(status, body)
	}
	if status, _, _ := s.get("/queue"); status != http.StatusOK {
		t.Error(status)
	}
	if to := hold(); !strings.HasPrefix(to, "/login") || s.state(0) != "queued" {
		t.Error("the token to look acts:", to, s.state(0))
	}
	// The token in the Authorization field, which browsers send of themselves, acts never.
	s.http = s.browser()
	_, to, _ := s.post("/queue/act", url.Values{"action": {"hold"}, "id": s.ids}, func(r *http.Request) { r.SetBasicAuth("", "act") })
	if !strings.HasPrefix(to, "/login") || s.state(0) != "queued" {
		t.Error(to, s.state(0))
	}
	if status, body := s.login("act"); status != http.StatusSeeOther {
		t.Fatal(status, body)
	}
	if _, to, _ := s.post("/logout", nil, nil); to != "/" {
		t.Error(to)
	}
	if to := hold(); !strings.HasPrefix(to, "/login") || s.state(0) != "queued" {
		t.Error("after the end of the session:", to, s.state(0))
	}
	if _, to, _ := s.post("/login", url.Values{"token": {"act"}, "back": {"//evil.example/"}}, nil); to != "/" {
		t.Error("led to", to)
	}
	if to := hold(); to != "/" || s.state(0) != "held" {
		t.Error(to, s.state(0))
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	s := newSite(t, 1, nil)
	if status, body := s.login("act"); status != http.StatusSeeOther {
		t.Fatal(status, body)
	}
	for name, change := range map[string]func(*http.Request){
		"another site":             func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another port":             func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"an old browser":           func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"another port, old":        func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") },
		"a page without an origin": func(r *http.Request) { r.Header.Set("Origin", "null") },
	} {
		for _, path := range []string{"/queue/act", "/login", "/logout", "/pause"} {
			if status, _, body := s.post(path, url.Values{"action": {"hold"}, "id": s.ids, "token": {"act"}}, change); status != http.StatusForbidden || !strings.Contains(body, "by another site") {
				t.Errorf("%s, %s: %d %s", name, path, status, body)
			}
		}
	}
	if s.state(0) != "queued" || !s.queue.Paused() {
		t.Error("something was changed")
	}
	if _, _, _ = s.post("/queue/act", url.Values{"action": {"hold"}, "id": s.ids}, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }); s.state(0) != "held" {
		t.Error("the page's own form was refused")
	}
}

func TestCookiesAreForThisHostAlone(t *testing.T) {
	for _, row := range []struct {
		name, host string
		tls        bool
		want       string
	}{
		{"over TLS", "", true, "__Host-stsrelay=SECRET; Path=/; Max-Age=28800; HttpOnly; Secure; SameSite=Strict"},
		{"on loopback", "", false, "stsrelay=SECRET; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict"},
		{"behind a proxy", "relay.example", false, "__Host-stsrelay=SECRET; Path=/; Max-Age=28800; HttpOnly; Secure; SameSite=Strict"},
	} {
		s := newSite(t, 0, func(o *web.Options) {
			o.Token = "look"
			if row.tls {
				o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			}
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/login", strings.NewReader("token=act"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Host = row.host
		res, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		got := regexp.MustCompile(`=[A-Z2-7]{26};`).ReplaceAllString(res.Header.Get("Set-Cookie"), "=SECRET;")
		if res.StatusCode != http.StatusSeeOther || got != row.want {
			t.Errorf("%s: %d, got %s, want %s", row.name, res.StatusCode, got, row.want)
		}
	}
}

func TestNobodyActsInClearOverANetwork(t *testing.T) {
	s := newSite(t, 1, func(o *web.Options) { o.Token = "look" })
	request := func(token string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://10.0.0.5:8025/login", strings.NewReader("token="+token))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "10.0.0.9:4711"
		s.Config.Handler.ServeHTTP(w, r)
		return w
	}
	if w := request("act"); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "Without TLS the token could be read on the way: set admin.tls, or use the tunnel.") || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := request("look"); w.Code != http.StatusSeeOther {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// With the delays of the relay it would take months to try as many tokens as here.
func TestTokensCannotBeTriedInMasses(t *testing.T) {
	s := newSite(t, 0, func(o *web.Options) { o.Token, o.TokenDelay = "look", 50*time.Millisecond })
	var judged, refused int
	var mu sync.Mutex
	var clients sync.WaitGroup
	begin := time.Now()
	for c := range 20 {
		clients.Go(func() {
			for i := range 50 {
				form := url.Values{"token": {fmt.Sprint("guess", c, i)}}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/login", strings.NewReader(form.Encode()))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if i%2 == 1 {
					req, err = http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/queue", http.NoBody)
					if err != nil {
						t.Error(err)
						return
					}
					req.Header.Set("Authorization", "Bearer "+form.Get("token"))
				}
				res, err := s.http.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				mu.Lock()
				switch res.StatusCode {
				case http.StatusTooManyRequests:
					refused++
					if res.Header.Get("Retry-After") == "" {
						t.Error("no Retry-After")
					}
				case http.StatusForbidden, http.StatusUnauthorized:
					judged++
				default:
					t.Error(res.StatusCode)
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	// Each judged token doubles the time to the next one, from 50 ms on.
	if most := 8; judged > most || judged+refused != 1000 {
		t.Errorf("%d tokens were judged in %s, %d refused", judged, time.Since(begin), refused)
	}
	// The right one is not judged either, until the time is over.
	if status, _ := s.login("look"); status != http.StatusTooManyRequests {
		t.Error(status)
	}
}
