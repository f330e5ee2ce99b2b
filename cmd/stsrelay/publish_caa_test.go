package main

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A CAA record that allows another authority only is in the way: the one that is missing is
// printed, once for all domains below it.
func TestRecordsForTheAuthority(t *testing.T) {
	t.Chdir(t.TempDir())
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	if err := n.DNS.Add(`strict.example. 60 IN CAA 0 issue "digicert.com"`, `nobody.example. 60 IN CAA 0 issue ";"`, `open.example. 60 IN CAA 0 issue "ca.example"`); err != nil {
		t.Fatal(err)
	}
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"newNonce": "https://x/", "newAccount": "https://x/", "newOrder": "https://x/", "meta": {"caaIdentities": ["ca.example"]}}`)
	}))
	t.Cleanup(authority.Close)
	if err := os.WriteFile("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("hostname = \"relay.example.com\"\n[dns]\nservers = [%q]\n[publisher]\nhttps = \"127.0.0.1:0\"\nTLS\n[acme]\nagree = true\ndirectory = %q\nca_file = \"ca.pem\"\n[[publish]]\ndomains = [\"strict.example\", \"a.strict.example\", \"nobody.example\", \"open.example\", \"none.example\"]\nmx = [\"mx.example\"]\n", n.DNS.Addr(), authority.URL)
	records := func(tls string) string {
		if err := os.WriteFile("stsrelay.toml", []byte(strings.Replace(text, "TLS\n", tls, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		got := command(t, "", "publish", "records", "--format", "bind", "--config", "stsrelay.toml")
		if got.status != 0 {
			t.Fatalf("%+v", got)
		}
		return got.out
	}
	want := "nobody.example. IN CAA 0 issue \"ca.example\"\nstrict.example. IN CAA 0 issue \"ca.example\"\n"
	if got := records(""); !strings.HasPrefix(got, want) || strings.Count(got, "CAA") != 2 {
		t.Errorf("%s\nwant first\n%s", got, want)
	}
	if got := records("tls = \"proxy\"\n"); strings.Contains(got, "CAA") {
		t.Errorf("no certificate is ordered here:\n%s", got)
	}
}
