package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/store/postgres/postgrestest"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// ordered waits until a relay shows a certificate of an authority for a name.
func ordered(t *testing.T, address, name string, roots *x509.CertPool) {
	t.Helper()
	await.Until(t, "a certificate for "+name, func() bool {
		conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, RootCAs: roots})
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return int(at.Port())
}

// A relay that is restored on an empty machine has the account at the authority that the lost one had: it
// orders another certificate by it. So it is also where the queue is in PostgreSQL: that has
// neither accounts nor policies.
func TestARestoredRelayHasTheSameAccountAtTheAuthority(t *testing.T) {
	t.Run("badger", func(t *testing.T) { restoredAccount(t, "") })
	t.Run("postgres", func(t *testing.T) {
		url := postgrestest.URLFile(t, postgrestest.Start(t, 0))
		restoredAccount(t, fmt.Sprintf("[queue]\nengine = \"postgres\"\nurl_file = %q\nreplication = \"none\"\n[fleet]\nname = \"one\"\n", url))
	})
}

func restoredAccount(t *testing.T, shared string) {
	w := e2e.NewStopped(t)
	https, http := freeAddress(t), freeAddress(t)
	pebble, err := w.StartPebble(testnet.PebbleOptions{Dir: t.TempDir(), HTTPPort: portOf(t, http), TLSPort: portOf(t, https)})
	if errors.Is(err, testnet.ErrNoPebble) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pebble.Close)
	root, err := pebble.Root()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	configuration := func(domains ...string) string {
		return shared + fmt.Sprintf("[publisher]\nhttps = %q\nhttp = %q\naddresses = [\"127.0.0.1\"]\n[acme]\ndirectory = %q\nagree = true\nca_file = %q\n[[publish]]\ndomains = [\"%s\"]\nmode = \"testing\"\nmx = [\"mx.a.example\"]\n",
			https, http, pebble.Directory, pebble.CAFile, strings.Join(domains, `", "`))
	}
	w.AddRecords("mta-sts.a.example. 60 IN A 127.0.0.1", "a.example. 60 IN MX 10 mx.a.example.", "mta-sts.b.example. 60 IN A 127.0.0.1", "b.example. 60 IN MX 10 mx.a.example.")
	mx := w.Host("mx1.c.example")
	w.Domain("c.example", testnet.Domain{MX: []string{mx.Name}, Policy: e2e.PolicyFor("enforce", mx.Name)})
	w.Start(configuration("a.example"))
	ordered(t, https, "mta-sts.a.example", roots)
	w.Deliver("kurt@c.example")

	file := filepath.Join(t.TempDir(), "relay.backup")
	config := filepath.Join(w.Dir, "stsrelay.toml")
	if shared != "" {
		if r := command(t, "", "--config", config, "backup", "--queue", file+".queue"); r.status != 1 || !strings.Contains(r.err, "the mail is in PostgreSQL") {
			t.Errorf("with the mail: %+v", r)
		}
	}
	if r := command(t, "", "--config", config, "backup", file); r.status != 0 {
		t.Fatalf("backup: %+v", r)
	}
	w.Stop()
	data := filepath.Join(t.TempDir(), "data")
	if r := command(t, "", "restore", "--data-dir", data, "--keep-files", file); r.status != 0 {
		t.Fatalf("restore: %+v", r)
	}
	w.Dir = data
	w.Start(configuration("a.example", "b.example"))
	if policies := w.Relay.Operator().Policies(); len(policies) != 1 || policies[0].Domain != "c.example" {
		t.Errorf("policies: %+v", policies)
	}
	ordered(t, https, "mta-sts.b.example", roots)
	if log := pebble.Log(); !strings.Contains(log, "There are now 1 accounts") || strings.Contains(log, "There are now 2 accounts") {
		t.Errorf("the authority has not one account: %s", log)
	}
}
