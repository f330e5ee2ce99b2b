package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/web"
)

// fullStore is a store without room.
type fullStore struct{ *badger.Store }

// Room implements queue.Store.
func (fullStore) CheckSpace(int64) error { return errors.New("the disk is full") }

// newServer has a queue of its own, and neither policies nor reports. It returns
// the handler for a token.
func newServer(t *testing.T) (serve func(token string) http.Handler, q *queue.Queue) {
	t.Helper()
	st, err := badger.Open(badger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	q, err = queue.Open(queue.Options{Store: fullStore{st}, Paused: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	o := operator.New(operator.Options{Queue: q, Status: func() operator.Status { return operator.Status{Version: "test", Hostname: "relay.example"} }})
	return func(token string) http.Handler {
		return web.Handler(web.Options{Operator: o, Token: token, TokenDelay: 1, Metrics: func(w io.Writer) { _, _ = io.WriteString(w, "up 1\n") }})
	}, q
}

// reply is the status and the header of an answer.
type reply struct {
	status int
	header http.Header
}

// ask sends one request over TCP and returns the answer and its text.
func ask(t *testing.T, server *httptest.Server, method, path string, change func(*http.Request)) (reply, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header}, string(body)
}

var guarded = []string{"/", "/queue", "/queue/01ABC", "/queue/confirm?action=remove", "/pause?domain=a.example", "/policies", "/reports", "/reports/2026-11-23", "/metrics"}

func TestTheTokenIsAskedForAndTakenAsBrowsersAndScrapersShowIt(t *testing.T) {
	serve, _ := newServer(t)
	server := httptest.NewServer(serve("secret"))
	defer server.Close()
	header := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	for _, row := range []struct {
		name   string
		change func(*http.Request)
		in     bool
	}{
		{"nothing", nil, false},
		{"a bearer", header("Bearer secret"), true},
		{"a bearer in lower case", header("bearer secret"), true},
		{"a wrong bearer", header("Bearer secrets"), false},
		{"an empty bearer", header("Bearer "), false},
		{"the token alone", header("secret"), false},
		{"another scheme", header("Digest secret"), false},
		{"a password", basic("postmaster", "secret"), true},
		{"a password of nobody", basic("", "secret"), true},
		{"a wrong password", basic("secret", "guess"), false},
		{"an empty password", basic("secret", ""), false},
		{"what is no Basic", header("Basic secret"), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, path := range guarded {
				server := httptest.NewServer(serve("secret")) // a new one has seen no wrong tokens
				res, body := ask(t, server, http.MethodGet, path, row.change)
				server.Close()
				login := res.status == http.StatusSeeOther && strings.HasPrefix(res.header.Get("Location"), "/login?back=")
				if in := res.status != http.StatusUnauthorized && !login; in != row.in {
					t.Errorf("%s: %d", path, res.status)
				}
				want := `Basic realm="stsrelay"`
				if path == "/metrics" {
					want = "Bearer"
				}
				if row.change == nil && path != "/metrics" {
					if !login {
						t.Errorf("%s: %d %v", path, res.status, res.header)
					}
				} else if !row.in && (res.header.Get("WWW-Authenticate") != want || body != "the token of admin.token_file is needed\n") {
					t.Errorf("%s: %v %s", path, res.header, body)
				}
			}
		})
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} { // for those who have no token
		res, body := ask(t, server, http.MethodGet, path, nil)
		if res.status != want || want == 503 && body != "no mail is taken in: stsrelay status has the reason\n" {
			t.Errorf("%s: %d %s", path, res.status, body)
		}
	}
	// With the token, the name that the page is reached by may be any.
	named := func(r *http.Request) { r.Host = "relay.example"; r.SetBasicAuth("x", "secret") }
	if res, _ := ask(t, server, http.MethodGet, "/", named); res.status != http.StatusOK {
		t.Error(res.status)
	}
}

func TestWithoutATokenOnlyNamesOfThisMachineLeadToThePage(t *testing.T) {
	serve, _ := newServer(t)
	server := httptest.NewServer(serve(""))
	defer server.Close()
	for host, want := range map[string]int{
		"127.0.0.1:8025": 200, "127.8.9.1": 200, "localhost:9000": 200, "LocalHost": 200, "[::1]:8025": 200, "[::1]": 200,
		"evil.example": 403, "evil.example:8025": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:8025": 403, "10.0.0.1:8025": 403,
		"[2001:db8::1]:8025": 403, "0.0.0.0:8025": 403,
	} {
		for _, path := range []string{"/", "/metrics", "/queue"} {
			res, body := ask(t, server, http.MethodGet, path, func(r *http.Request) { r.Host = host })
			if res.status != want || want == 403 && !strings.Contains(body, "must begin with 127.0.0.1") {
				t.Errorf("%s of %s: %d %s", path, host, res.status, body)
			}
		}
		if res, _ := ask(t, server, http.MethodGet, "/healthz", func(r *http.Request) { r.Host = host }); res.status != http.StatusOK {
			t.Errorf("/healthz of %s: %d", host, res.status)
		}
	}
}

func TestWithoutATokenToActNothingCanBeChangedAndNoAnswerRunsScripts(t *testing.T) {
	serve, q := newServer(t)
	if err := q.Add([]queue.NewMessage{{Envelope: queue.Envelope{From: "a@a.example", Recipients: []queue.Recipient{{Address: "b@b.example", Domain: "b.example"}}}, Body: []byte("x\r\n")}}, nil); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(serve(""))
	defer server.Close()
	paths := append([]string{"/healthz", "/readyz", "/nothing", "/style.css", "/queue/act", "/pause", "/policies/refresh", "/reports/send", "/login", "/v1/queue/remove", "/v1/reload"}, guarded...)
	for _, path := range paths {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
			if res, _ := ask(t, server, method, path, nil); res.status != http.StatusMethodNotAllowed && res.status != http.StatusNotFound && res.status != http.StatusForbidden || res.status != http.StatusMethodNotAllowed && method != http.MethodPost {
				t.Errorf("%s %s: %d %v", method, path, res.status, res.header)
			}
		}
		get, _ := ask(t, server, http.MethodGet, path, nil)
		head, body := ask(t, server, http.MethodHead, path, nil)
		if head.status != get.status || body != "" {
			t.Errorf("HEAD %s: %d, GET: %d", path, head.status, get.status)
		}
		for key, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if got := get.header.Get(key); got != want {
				t.Errorf("%s: %s %q", path, key, got)
			}
		}
	}
	if !q.Paused() || q.Counts().Messages != 1 {
		t.Error("the queue has changed")
	}
}

func TestPagesAreBoundedAndSaySo(t *testing.T) {
	serve, q := newServer(t)
	add := func(from, to int) {
		var messages []queue.NewMessage
		for i := from; i < to; i++ {
			messages = append(messages, queue.NewMessage{Body: []byte("x\r\n"),
				Envelope: queue.Envelope{From: "a@a.example", Recipients: []queue.Recipient{{Address: fmt.Sprintf("b@b%d.example", i), Domain: fmt.Sprintf("b%d.example", i)}}}})
		}
		if err := q.Add(messages, nil); err != nil {
			t.Fatal(err)
		}
	}
	show := func(path string) string {
		server := httptest.NewServer(serve(""))
		defer server.Close()
		res, body := ask(t, server, http.MethodGet, path, nil)
		if res.status != http.StatusOK {
			t.Fatalf("%s: %d", path, res.status)
		}
		return body
	}
	add(0, 50)
	if body := show("/"); strings.Count(body, `href="/queue?domain=b`) != 5 || !strings.Contains(body, "also of 45 other domains") {
		t.Errorf("50 domains:\n%s", body)
	}
	add(50, 200)
	if body := show("/"); strings.Count(body, `href="/queue?domain=b`) != 5 || !strings.Contains(body, "also of 195 other domains") {
		t.Errorf("200 domains:\n%s", body)
	}
	if body := show("/queue"); strings.Count(body, `href="/queue/0`) != 100 || !strings.Contains(body, "Page 1 of 2") {
		t.Errorf("200 messages:\n%s", body)
	}
	add(200, 201)
	if body := show("/queue?page=3&from=a@a.example"); strings.Count(body, `href="/queue/0`) != 1 || !strings.Contains(body, "201 messages, these are 201 to 201") {
		t.Errorf("201 messages:\n%s", body)
	}
	if body := show("/queue?domain=b200.example"); strings.Count(body, `href="/queue/0`) != 1 {
		t.Errorf("one domain:\n%s", body)
	}

	// A search that takes too long shows what it has found.
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/queue", http.NoBody)
	serve("").ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "there may be more") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
}

func TestAlertsAreInTheLanguageOfTheBrowser(t *testing.T) {
	_, q := newServer(t)
	alerts := []alert.Alert{alert.Fleet("x", phrase.New("PostgreSQL does not answer")), {Key: "y", What: "no other language"}}
	o := operator.New(operator.Options{Queue: q, Status: func() operator.Status { return operator.Status{Hostname: "relay.example", Alerts: alerts} }})
	server := httptest.NewServer(web.Handler(web.Options{Operator: o}))
	defer server.Close()
	for language, want := range map[string]string{"en": "<dt>the fleet: PostgreSQL does not answer</dt>", "de": "<dt>Die Flotte: PostgreSQL antwortet nicht</dt>"} {
		_, body := ask(t, server, http.MethodGet, "/", func(r *http.Request) { r.Header.Set("Accept-Language", language) })
		if !strings.Contains(body, want) || !strings.Contains(body, "<dt>no other language</dt>") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}

func TestWhatIsOffAndWhatIsWrongIsSaid(t *testing.T) {
	serve, _ := newServer(t)
	server := httptest.NewServer(serve(""))
	defer server.Close()
	for path, want := range map[string]string{
		"/":         "MTA-STS is switched off (sts.enabled)",
		"/queue":    "<strong>No mail is taken in:</strong> the disk is full</p>",
		"/policies": "MTA-STS is switched off (sts.enabled)",
		"/reports":  "TLS reports are switched off (tlsrpt.enabled)",
	} {
		res, body := ask(t, server, http.MethodGet, path, nil)
		if off := path == "/policies" || path == "/reports"; (res.status == http.StatusConflict) != off || !strings.Contains(body, want) {
			t.Errorf("%s: %d\n%s", path, res.status, body)
		}
	}
	if _, body := ask(t, server, http.MethodGet, "/", nil); !strings.Contains(body, "TLS reports are switched off") || !strings.Contains(body, "The queue is empty") {
		t.Error(body)
	}
}
