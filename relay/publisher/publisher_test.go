package publisher

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// bench is a Publisher with a clock of its own. restart gives it another one on the same
// store.
type bench struct {
	*Publisher
	t     *testing.T
	store *memory.Store
	now   time.Time
	count map[string]int
}

func newBench(t *testing.T) *bench {
	place := &memory.Place{}
	b := &bench{t: t, store: place.Open(), now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), count: make(map[string]int)}
	b.restart()
	return b
}

func (b *bench) restart() {
	b.Publisher = New(Options{Store: b.store, Host: "relay.example", Now: func() time.Time { return b.now }, Counted: func(r string) { b.count[r]++ }})
}

func (b *bench) set(domains ...publish.Domain) {
	b.t.Helper()
	if err := b.Set(b.t.Context(), domains); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) get(method, host, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "https://"+host+path, nil)
	b.ServeHTTP(w, r)
	return w
}

func domain(name string, mode sts.Mode, age time.Duration) publish.Domain {
	return publish.Domain{Name: name, Policy: &sts.Policy{Mode: mode, MaxAge: age, MX: []string{"mx." + name}}}
}

const week = 7 * 24 * time.Hour

func TestWhatIsServedAndWhatIsNot(t *testing.T) {
	b := newBench(t)
	d := domain("a.example", sts.ModeTesting, 2*week)
	b.set(d, domain("b.example", sts.ModeEnforce, 2*week))
	b.Handle("POST /tlsrpt", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	for _, tt := range []struct {
		name, method, host, path string
		status                   int
		says                     string
	}{
		{"the policy", "GET", "mta-sts.a.example", publish.Path, 200, "mx: mx.a.example\r\n"},
		{"another domain", "GET", "mta-sts.b.example", publish.Path, 200, "mx: mx.b.example\r\n"},
		{"capitals, final dot and port", "GET", "MTA-STS.A.example.:8443", publish.Path, 200, "mx: mx.a.example\r\n"},
		{"the header alone", "HEAD", "mta-sts.a.example", publish.Path, 200, ""},
		{"a post", "POST", "mta-sts.a.example", publish.Path, 405, "GET"},
		{"an underscore", "GET", "mta-sts.a.example", "/.well_known/mta-sts.txt", 404, "the policy of a.example is at https://mta-sts.a.example/.well-known/mta-sts.txt"},
		{"capitals", "GET", "mta-sts.a.example", "/.Well-Known/MTA-STS.txt", 404, "is at https://"},
		{"a slash too many", "GET", "mta-sts.a.example", publish.Path + "/", 404, "is at https://"},
		{"an escaped path", "GET", "mta-sts.a.example", "/%2ewell-known%2Fmta-sts.txt", 404, "is at https://"},
		{"the root", "GET", "mta-sts.a.example", "/", 404, "is at https://"},
		{"the domain itself", "GET", "a.example", publish.Path, 404, "no policy of a.example is published here"},
		{"a stranger", "GET", "mta-sts.c.example", publish.Path, 404, "no policy of mta-sts.c.example"},
		{"a report", "POST", "relay.example", "/tlsrpt", 201, ""},
		{"a report to a policy host", "POST", "mta-sts.a.example", "/tlsrpt", 404, ""},
		{"something else of the relay", "GET", "relay.example", "/", 404, "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := b.get(tt.method, tt.host, tt.path)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) || tt.method == "HEAD" && w.Body.Len() > 0 {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, tt.status, tt.says)
			}
			if tt.status == 200 && (!strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || w.Header().Get("Location") != "") {
				t.Error(w.Header())
			}
		})
	}
	if b.count["policy"] != 4 || b.count["not-found"] != 10 {
		t.Error(b.count)
	}
	s := b.Served()[0]
	if s.Near != 4 || s.Misspelt != "/.well-known/mta-sts.txt" || s.FetchesToday != 3 || !s.LastFetch.Equal(b.now) || s.Text != publish.Text(d.Policy) || s.ID != publish.ID(s.Text) {
		t.Errorf("%+v", s)
	}
}

func TestADomainThatLeavesIsServedOnAsLongAsItBinds(t *testing.T) {
	b := newBench(t)
	start := b.now
	fetch := func() int { return b.get("GET", "mta-sts.a.example", publish.Path).Code }
	b.set(domain("a.example", sts.ModeEnforce, 4*week), domain("quiet.example", sts.ModeEnforce, 4*week))
	fetch()
	b.now = b.now.Add(24 * time.Hour)
	b.set(domain("a.example", sts.ModeEnforce, 2*week), domain("quiet.example", sts.ModeEnforce, 4*week))
	fetch()
	b.restart() // what binds is durable
	b.now = b.now.Add(24 * time.Hour)
	b.set()
	if got := b.Hosts(); len(got) != 1 || got[0] != "mta-sts.a.example" {
		t.Fatalf("%v; nobody has fetched the policy of quiet.example: it binds nobody", got)
	}
	s := b.Served()[0]
	// The first one, of four weeks, was replaced on the second day; that binds longest.
	if want := start.Add(24*time.Hour + 4*week); !s.Leaving || !s.Binds.Equal(want) {
		t.Fatalf("%+v, want until %v", s, want)
	}
	w := b.get("GET", "mta-sts.a.example", publish.Path)
	p, _, err := sts.ParsePolicy(w.Body.Bytes())
	if err != nil || p.Mode != sts.ModeNone || p.MaxAge != 24*time.Hour || s.ID != publish.ID(w.Body.String()) {
		t.Fatalf("%q, %v, id %s", w.Body, err, s.ID)
	}
	b.now = s.Binds.Add(-time.Second)
	b.restart()
	b.set()
	b.expire(t.Context())
	if fetch() != 200 {
		t.Error("it ended too early")
	}
	b.now = s.Binds
	b.expire(t.Context())
	if fetch() != 404 || len(b.Hosts()) != 0 {
		t.Error("it has not ended")
	}
	b.restart()
	b.set()
	if len(b.Hosts()) != 0 {
		t.Error("it came back")
	}
}

func TestADomainThatComesBackIsServedAgain(t *testing.T) {
	b := newBench(t)
	d := domain("a.example", sts.ModeEnforce, 2*week)
	b.set(d)
	b.get("GET", "mta-sts.a.example", publish.Path)
	b.set()
	b.set(d)
	if s := b.Served(); len(s) != 1 || s[0].Leaving || s[0].Text != publish.Text(d.Policy) || s[0].Binds.IsZero() {
		t.Errorf("%+v", s)
	}
}

// A policy of mode none, or one that only says what should be, keeps no mail back.
func TestModeNoneBindsNobody(t *testing.T) {
	b := newBench(t)
	d := domain("a.example", sts.ModeNone, 2*week)
	d.Policy.MX = nil
	b.set(d)
	b.get("GET", "mta-sts.a.example", publish.Path)
	b.set()
	if len(b.Hosts()) != 0 {
		t.Error(b.Hosts())
	}
}

func TestFetchesAreCountedByDayAndKept(t *testing.T) {
	b := newBench(t)
	d := domain("a.example", sts.ModeTesting, 2*week)
	b.set(d)
	for range 3 {
		b.get("GET", "mta-sts.a.example", publish.Path)
	}
	b.flush(t.Context())
	b.restart()
	b.set(d)
	if s := b.Served()[0]; s.FetchesToday != 3 || s.LastFetch.IsZero() {
		t.Errorf("%+v", s)
	}
	b.now = b.now.Add(24 * time.Hour)
	if s := b.Served()[0]; s.FetchesToday != 0 {
		t.Errorf("%+v", s)
	}
}

// The name at which reports are taken may be the policy host of a published domain, too.
func TestReportsAreTakenAtAPolicyHost(t *testing.T) {
	b := newBench(t)
	b.o.Host = "mta-sts.a.example"
	b.set(domain("a.example", sts.ModeTesting, 2*week), domain("b.example", sts.ModeTesting, 2*week))
	b.Handle("POST /tlsrpt", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	for _, tt := range []struct {
		method, host, path string
		want               int
	}{
		{http.MethodPost, "mta-sts.a.example", "/tlsrpt", http.StatusCreated},
		{http.MethodGet, "mta-sts.a.example", "/tlsrpt", http.StatusNotFound},
		{http.MethodGet, "mta-sts.a.example", publish.Path, http.StatusOK},
		{http.MethodPost, "mta-sts.b.example", "/tlsrpt", http.StatusNotFound},
	} {
		if got := b.get(tt.method, tt.host, tt.path).Code; got != tt.want {
			t.Errorf("%s %s%s: %d, want %d", tt.method, tt.host, tt.path, got, tt.want)
		}
	}
}
