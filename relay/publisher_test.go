package relay_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// served asks the relay for the policy of a domain as a proxy before it does.
func served(t *testing.T, w *e2e.World, domain string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+w.Relay.PublisherAddr().String()+publish.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = publish.PolicyHost(domain)
	r, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func TestARelayPublishesPolicies(t *testing.T) {
	w := e2e.NewStopped(t)
	file := filepath.Join(w.Dir, "customers")
	if err := os.WriteFile(file, []byte("b.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := func(mode, domains string) string {
		return fmt.Sprintf("[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\n[[publish]]\ndomains = [%s]\ndomains_file = %q\nmode = %q\nmx = [\"mx.a.example\"]\n", domains, file, mode)
	}
	w.Start(text("enforce", `"a.example"`))
	for _, domain := range []string{"a.example", "b.example"} {
		if status, got := served(t, w, domain); status != 200 || !strings.Contains(got, "mode: enforce\r\n") {
			t.Errorf("%s: %d %q", domain, status, got)
		}
	}
	// What a file says wrong changes nothing.
	w.Configure(text("enforce", `"b.example"`))
	if err := w.Relay.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "b.example stands twice") {
		t.Error(err)
	}
	if status, _ := served(t, w, "a.example"); status != 200 {
		t.Error(status)
	}
	w.Configure(text("testing", `"c.example"`))
	w.Reload()
	for domain, want := range map[string]string{"a.example": "mode: none\r\n", "b.example": "mode: testing\r\n", "c.example": "mode: testing\r\n"} {
		if status, got := served(t, w, domain); status != 200 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %q, want %q", domain, status, got, want)
		}
	}
	w.Stop()
	w.Start(text("testing", `"c.example"`))
	if status, got := served(t, w, "a.example"); status != 200 || !strings.Contains(got, "mode: none\r\n") {
		t.Errorf("after a start: %d %q", status, got)
	}
}
