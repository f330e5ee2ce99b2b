package adminapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// newServer has a queue of its own, and neither policies nor reports.
func newServer(t *testing.T, log *slog.Logger) (*adminapi.Server, *queue.Queue) {
	t.Helper()
	st, err := badger.Open(badger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(queue.Options{Store: st, Paused: true, TrashSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	o := operator.New(operator.Options{Queue: q, Logger: log, Status: func() operator.Status { return operator.Status{Version: "test"} },
		Reload: func(context.Context) ([]string, error) { return nil, errors.New("the file is wrong") }})
	return adminapi.New(adminapi.Options{Operator: o, Logger: log}), q
}

func TestAChangeByTheSocketIsLoggedWithTheUserOfItsPeer(t *testing.T) {
	var log bytes.Buffer
	s, _ := newServer(t, slog.New(slog.NewTextHandler(&log, nil)))
	socket := filepath.Join(t.TempDir(), "s.sock")
	if err := s.Listen(socket); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	err := adminapi.NewClient(socket).Do(t.Context(), http.MethodPost, "/v1/queue/resume", nil, nil)
	if e := errors.Join(err, s.Shutdown(t.Context()), <-done); e != nil {
		t.Fatal(e)
	}
	want := `actor="socket uid ` + strconv.Itoa(os.Getuid()) + `"`
	if runtime.GOOS == "openbsd" || runtime.GOOS == "netbsd" {
		want = "actor=socket"
	}
	if !strings.Contains(log.String(), want) {
		t.Errorf("no %s in %s", want, log.String())
	}
}

func TestListenTakesAStaleSocketAndNothingElse(t *testing.T) {
	s, _ := newServer(t, nil)
	dir := t.TempDir()
	file, live, stale := filepath.Join(dir, "file"), filepath.Join(dir, "live"), filepath.Join(dir, "stale")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	for path, want := range map[string]string{file: "no socket", live: "another relay answers"} {
		if err := s.Listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if err := s.Listen(stale); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, err := os.Stat(stale); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestEveryPathAnswersJSON(t *testing.T) {
	s, q := newServer(t, nil)
	m := []queue.NewMessage{{Envelope: queue.Envelope{From: "a@a.example", Recipients: []queue.Recipient{{Address: "b@b.example", Domain: "b.example"}}}, Body: []byte("x\r\n")}}
	if err := q.Add(m, nil); err != nil {
		t.Fatal(err)
	}
	id := m[0].Envelope.ID.String()
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	for _, row := range []struct {
		request, body string
		status        int
		want          string
	}{
		{"GET /v1/status", "", 200, `"version":"test"`},
		{"POST /v1/reload", "", 422, `{"error":"the file is wrong"}`},
		{"GET /v1/queue", "", 200, `[{"id":"` + id},
		{"GET /v1/queue?limit=x", "", 400, `limit \"x\" is not a number`},
		{"GET /v1/queue?limit=0", "", 200, "[]"},
		{"GET /v1/queue?domain=..", "", 400, `"error"`},
		{"GET /v1/queue?state=held", "", 200, "[]"},
		{"GET /v1/queue/" + id[:20], "", 200, `{"id":"` + id},
		{"GET /v1/queue/01ZZZZZZZZZZZZZZZZZZZZZZZZ", "", 404, `"error"`},
		{"GET /v1/queue/" + id + "/content", "", 200, "x\r\n"},
		{"GET /v1/summary", "", 200, `[{"domain":"b.example","messages":1`},
		{"POST /v1/queue/hold", `{"ids":["` + id + `"],"reason":"odd"}`, 200, `{"touched":1}`},
		{"POST /v1/queue/release", `{"ids":["01ZZZZZZZZZZZZZZZZZZZZZZZZ"]}`, 200, `{"touched":0,"missing":["01ZZZZZZZZZZZZZZZZZZZZZZZZ"]}`},
		{"POST /v1/queue/retry", `{"all":true,"dry_run":true}`, 400, "not for retry"},
		{"POST /v1/queue/retry", `{}`, 400, "say which messages"},
		{"POST /v1/queue/retry", `all`, 400, "the request is no selection"},
		{"POST /v1/queue/burn", `{"all":true}`, 404, `there is no action`},
		{"POST /v1/queue/bounce", `{"all":true,"dry_run":true}`, 200, `{"touched":1}`},
		{"POST /v1/queue/remove", `{"domain":"B.example"}`, 200, `{"touched":1}`},
		{"GET /v1/trash", "", 200, `[{"id":"` + id},
		{"POST /v1/trash/restore", `{}`, 400, "say which messages"},
		{"POST /v1/trash/restore", `{"all":true}`, 200, `{"ids":["`},
		{"POST /v1/trash/empty", "", 200, `{"touched":0}`},
		{"POST /v1/queue/pause", "", 200, `"until":null`},
		{"POST /v1/queue/pause", `{"domain": "a.example", "for": "2h"}`, 200, `{"domain":"a.example","since":"`},
		{"POST /v1/queue/pause", `{"for": "soon"}`, 400, "is not a time such as 2h"},
		{"POST /v1/queue/pause", `{"domain": "a..example"}`, 400, "a..example"},
		{"POST /v1/queue/resume", `{"domain": "b.example"}`, 200, `{"resumed":false,"pauses":[{"domain":"",`},
		{"POST /v1/queue/resume", `{"domain": "a.example"}`, 200, `{"resumed":true,"pauses":[{"domain":"",`},
		{"POST /v1/queue/resume", `[]`, 400, "cannot unmarshal"},
		{"POST /v1/queue/import", "no export", 422, `"error"`},
		{"GET /v1/policies", "", 200, "[]"},
		{"GET /v1/policies/a.example", "", 409, "MTA-STS is switched off"},
		{"GET /v1/policies/a.example/stored", "", 409, "MTA-STS is switched off"},
		{"POST /v1/policies/a.example/refresh", "", 409, "MTA-STS is switched off"},
		{"DELETE /v1/policies/a.example", "", 409, "MTA-STS is switched off"},
		{"GET /v1/reports", "", 409, "TLS reports are switched off"},
		{"GET /v1/reports/2026-11-23", "", 409, "TLS reports are switched off"},
		{"POST /v1/reports/2026-11-23/send", "", 409, "TLS reports are switched off"},
	} {
		method, path, _ := strings.Cut(row.request, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		kind := "application/json"
		if strings.HasSuffix(path, "/content") {
			kind = "message/rfc822"
		}
		if err != nil || res.StatusCode != row.status || !strings.Contains(string(got), row.want) || res.Header.Get("Content-Type") != kind {
			t.Errorf("%s: %d %s %s, %v; want %d and %q", row.request, res.StatusCode, res.Header.Get("Content-Type"), got, err, row.status, row.want)
		}
	}
}
