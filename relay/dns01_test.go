package relay_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// Certificates by dns-01: the relay changes a zone of Knot with a TSIG key (RFC 2136), and
// pebble asks that Knot. Nothing listens where the other challenges would be answered, but
// for the policies. A key that Knot does not accept is told to the operator.
func TestCertificatesByDynamicUpdates(t *testing.T) {
	w := e2e.NewStopped(t)
	const zone = "$TTL 60\n@ IN SOA ns h 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\nmta-sts IN A 127.0.0.1\n"
	knot, err := testnet.StartKnot(t.TempDir(), map[string]string{"a.example": zone, "b.example": zone + "_acme-challenge.mta-sts IN CNAME b.acme\n"})
	if errors.Is(err, testnet.ErrNoKnot) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(knot.Close)
	a := withPebble(t, w, testnet.PebbleOptions{DNS: knot.Addr, TLSPort: freeTCPPort(t)})
	secret := func(text string) {
		if err := os.WriteFile(filepath.Join(w.Dir, "tsig.secret"), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("[publisher]\nhttps = \"127.0.0.1:%d\"\naddresses = [\"127.0.0.1\"]\n[acme]\ndirectory = %q\nagree = true\nca_file = %q\nchallenge = \"dns-01\"\n[acme.dns]\nserver = %q\ntsig_name = %q\ntsig_secret_file = \"tsig.secret\"\n%s",
		a.https, a.Directory, a.CAFile, knot.Addr, testnet.KnotKey, domains(t, w, "enforce", "a.example", "b.example"))
	secret(testnet.KnotReadSecret)
	w.Start(text)
	await.Until(t, "the reason", func() bool {
		var served []operator.Published
		if err := w.Admin().Get(t.Context(), "/v1/publish", nil, &served); err != nil {
			t.Fatal(err)
		}
		return len(served) == 2 && strings.HasPrefix(served[0].Certificate.Problem, "dns-01: ask "+knot.Addr) && strings.Contains(served[0].Certificate.Problem, "does not accept the TSIG key "+testnet.KnotKey) && served[0].Certificate.NextTry != nil
	})
	w.Stop()
	secret(testnet.KnotSecret)
	w.Start(text)
	for _, name := range []string{"a.example", "b.example"} {
		await.Until(t, name, func() bool {
			_, err := a.fetch(t.Context(), name)
			return err == nil
		})
	}
	if log := a.Log(); strings.Contains(log, "http-01") || strings.Contains(log, "tls-alpn-01 challenge") || strings.Contains(log, "There are now 2 accounts") {
		t.Error("another challenge was tried, or another account made")
	}
}
