package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// A relay is stopped once and killed twice in the middle of orders. All certificates come in
// the end, none is ordered again that was there, and the account stays one.
func TestEndsInTheMiddleOfOrders(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	dir, ports := t.TempDir(), [2]int{}
	for i := range ports {
		_, port, err := net.SplitHostPort(freeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(port, &ports[i]); err != nil {
			t.Fatal(err)
		}
	}
	pebble, err := n.StartPebble(testnet.PebbleOptions{Dir: dir, TLSPort: ports[0], HTTPPort: ports[1]})
	if errors.Is(err, testnet.ErrNoPebble) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pebble.Close)
	const names = 8
	var list []string
	for i := range names {
		name := fmt.Sprintf("d%d.example", i)
		list = append(list, fmt.Sprintf("%q", name))
		if err := n.DNS.Add("mta-sts."+name+". 60 IN A 127.0.0.1", name+". 60 IN MX 10 mx."+name+"."); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "stsrelay.toml")
	text := fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[dns]\nservers = [%q]\n[limits]\nfree_space = \"64MiB\"\n"+
		"[delivery]\nprivate_addresses = \"allow\"\n[publisher]\nhttps = \"127.0.0.1:%d\"\nhttp = \"127.0.0.1:%d\"\naddresses = [\"127.0.0.1\"]\n[acme]\nagree = true\ndirectory = %q\nca_file = %q\n[[publish]]\ndomains = [%s]\nmx = [\"*.d0.example\"]\n",
		filepath.Join(dir, "data"), n.DNS.Addr(), ports[0], ports[1], pebble.Directory, pebble.CAFile, strings.Join(list, ", "))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	defer func() {
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("the relay and the authority said:\n%s\n%s", said, pebble.Log())
		}
	}()
	orders := func() int { return strings.Count(pebble.Log(), "Added order") }
	issued := func() int { return strings.Count(pebble.Log(), "Issued certificate") }
	for i, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGKILL} {
		before, had := orders(), issued()
		cmd := startProgram(t, dir, log, "serve", "--config", file)
		await.Until(t, "an order", func() bool { return orders() > before && (i == 0 || issued() > had) })
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	startProgram(t, dir, log, "serve", "--config", file)
	running(t, adminapi.NewClient(filepath.Join(dir, "data", "stsrelay.sock")))
	root, err := pebble.Root()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	for i := range names {
		name := fmt.Sprintf("mta-sts.d%d.example", i)
		await.Until(t, "the certificate of "+name, func() bool {
			conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0]), &tls.Config{ServerName: name, RootCAs: roots})
			if err != nil {
				return false
			}
			conn.Close()
			return true
		})
	}
	if strings.Contains(pebble.Log(), "There are now 2 accounts") {
		t.Error("a second account was made")
	}
	// One certificate of each end may have been on its way.
	if n := issued(); n > names+2*4 {
		t.Errorf("%d certificates were issued for %d names", n, names)
	}
	t.Logf("%d orders, %d certificates issued for %d names", orders(), issued(), names)
}
