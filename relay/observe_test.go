package relay_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

func TestHealthAndMetrics(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(w.dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start("[admin]\nhttp = \"" + addr + "\"\ntoken_file = \"token\"\n")
	h := w.host("mx1.metrics.example")
	w.domain("metrics.example", testnet.Domain{MX: []string{h.Name}})
	if _, gone := w.attempted(w.send("anna@sender.example", "kurt@metrics.example")); !gone {
		t.Fatal("not delivered")
	}
	if _, err := sendMail(w.addr, "no address", "x", "kurt@metrics.example"); err == nil {
		t.Fatal("a wrong sender was accepted")
	}
	get := func(path, token string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 401, "/v1/queue": 404} {
		if code, _ := get(path, ""); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
	code, text := get("/metrics", "secret")
	if code != http.StatusOK {
		t.Fatalf("/metrics with the token: %d", code)
	}
	for _, want := range []string{
		"stsrelay_accepted_messages_total 1\n", `stsrelay_recipients_total{verdict="delivered",why=""} 1`, `stsrelay_sessions_out_total{tls="TLS 1.3"} 1`,
		`stsrelay_refused_total{code="501",status="5.5.2"} 1`, "stsrelay_queue_messages 0\n", "stsrelay_accepting 1\n", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
