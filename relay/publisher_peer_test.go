package relay_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// certificateFile writes a certificate of a host and its key, as certificate_dir has them.
func certificateFile(t *testing.T, w *e2e.World, dir, host string) {
	t.Helper()
	cert, err := w.CA.Issue(host, testnet.CertSpec{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{host + ".pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, host + ".key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// findsPublisher has the relay of a world find the policy hosts that another one's serves, or
// its own.
func findsPublisher(w, of *e2e.World) {
	w.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "127.0.0.1:443" {
			return new(net.Dialer).DialContext(ctx, network, of.Relay.PublisherAddr().String())
		}
		return w.DialContext(ctx, network, address)
	}
}

// The published mode changes while the record still has the old id: another relay goes on
// with the policy that it holds, and asks for no other. It follows when the record does.
func TestOthersFollowTheRecord(t *testing.T) {
	w := e2e.NewStopped(t)
	host := w.Host("mx.a.example")
	certificateFile(t, w, w.Dir, "mta-sts.a.example")
	text := func(mode string) string {
		return fmt.Sprintf("[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"files\"\ncertificate_dir = %q\n[[publish]]\ndomains = [\"a.example\"]\nmode = %q\nmx = [%q]\n", w.Dir, mode, host.Name)
	}
	w.Start(text("testing"))
	own := func() operator.Published {
		var served []operator.Published
		if err := w.Admin().Get(t.Context(), "/v1/publish", nil, &served); err != nil || len(served) != 1 {
			t.Fatalf("%v, %+v", err, served)
		}
		return served[0]
	}
	record := func() {
		w.DNS.Remove("_mta-sts.a.example", "TXT")
		w.AddRecords(`_mta-sts.a.example. 0 IN TXT "` + publish.RecordText(own().ID) + `"`)
	}
	w.AddRecords("a.example. 60 IN MX 10 mx.a.example.", "mta-sts.a.example. 60 IN A 127.0.0.1")
	record()

	peer := w.In(t)
	peer.Dir = t.TempDir()
	findsPublisher(peer, w)
	peer.Start("")
	held := func() operator.Policy {
		peer.Deliver("kurt@a.example")
		p, err := peer.Relay.Operator().Policy("a.example")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := held()
	if first.Mode != "testing" || own().FetchesToday != 1 {
		t.Fatalf("%+v, %d fetches", first, own().FetchesToday)
	}
	w.Configure(text("enforce"))
	w.Reload()
	if own().Mode != "enforce" || own().BindsUntil == nil {
		t.Fatalf("%+v", own())
	}
	if p := held(); p.Mode != "testing" || p.ID != first.ID || own().FetchesToday != 1 {
		t.Errorf("the record is the old one: %+v, %d fetches", p, own().FetchesToday)
	}
	record()
	await.Until(t, "the new policy", func() bool { return held().Mode == "enforce" })
	if n := own().FetchesToday; n != 2 {
		t.Errorf("it was fetched %d times", n)
	}
}
