package httpserve

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
)

// logged is a log that is written and read at the same time.
type logged struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// A fault of a handler is in the log at every level, with the place. What a client does is
// not: at the level debug it is, as all lines of net/http.
func TestAFaultOfAHandlerIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log logged
	mux := http.NewServeMux()
	mux.HandleFunc("/fault", func(http.ResponseWriter, *http.Request) { panic("a fault") })
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/twice", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		w.WriteHeader(http.StatusNoContent)
	})
	s := New(ln, &http.Server{Handler: mux}, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))) //nolint:gosec // the test is its only client
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	for _, path := range []string{"/abort", "/fault?secret=x", "/twice"} {
		if answer, err := http.Get("http://" + s.Addr().String() + path); err == nil { //nolint:noctx,gosec // it is the server above
			answer.Body.Close()
		}
	}
	await.Until(t, "the last line", func() bool {
		return strings.Contains(log.String(), `"level":"DEBUG","msg":"http","text":"http: superfluous`)
	})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := log.String()
	if strings.Count(got, `"level":"ERROR"`) != 1 || strings.Contains(got, "secret") {
		t.Error(got)
	}
	for _, want := range []string{`"msg":"a request ended by a fault of the relay","client":"127.0.0.1:`, `"method":"GET","path":"/fault","text":"a fault\n`, "httpserve_test.go"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}
