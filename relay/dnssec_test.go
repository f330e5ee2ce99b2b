package relay_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A signed zone served by nsd behind unbound, which validates: DANE as it is in
// the world. It needs both programs.
func TestDANEBehindAValidatingResolver(t *testing.T) {
	for _, program := range []string{"nsd", "unbound"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (apt-get install nsd unbound)", program)
		}
	}
	w := e2e.NewStopped(t)
	hosts := make(map[string]*testnet.Host)
	records := func(zone string) []string {
		h := w.Host("mx1." + zone)
		hosts[zone] = h
		if err := h.Set(testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}); err != nil {
			t.Fatal(err)
		}
		return []string{
			zone + ". 60 IN SOA ns." + zone + ". root." + zone + ". 1 3600 600 86400 60", zone + ". 60 IN NS ns." + zone + ".",
			"ns." + zone + ". 60 IN A 127.0.0.1", zone + ". 60 IN MX 10 mx1." + zone + ".", "mx1." + zone + ". 60 IN A " + h.IP,
		}
	}
	const wrong = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"
	tlsa := func(zone, data string) string { return "_25._tcp.mx1." + zone + ". 60 IN TLSA " + data }

	good := records("good.example")
	good = append(good, tlsa("good.example", w.TLSA(hosts["good.example"], 3, 1, 1)))
	mismatch := append(records("mismatch.example"), tlsa("mismatch.example", wrong))
	none := records("none.example")
	unsigned := append(records("unsigned.example"), tlsa("unsigned.example", wrong))
	forged := records("forged.example")
	forged = append(forged, tlsa("forged.example", w.TLSA(hosts["forged.example"], 3, 1, 1)))

	d := &dnssec{t: t, dir: t.TempDir()}
	d.add("", true, nil, ". 60 IN SOA ns. root. 1 3600 600 86400 60", ". 60 IN NS ns.", "ns. 60 IN A 127.0.0.1",
		"unsigned.example. 60 IN NS ns.unsigned.example.", "ns.unsigned.example. 60 IN A 127.0.0.1")
	d.add("good.example", true, nil, good...)
	d.add("mismatch.example", true, nil, mismatch...)
	d.add("none.example", true, nil, none...)
	d.add("unsigned.example", false, nil, unsigned...)
	d.add("forged.example", true, func(rr dns.RR) { rr.(*dns.TLSA).Certificate = strings.Repeat("00", 32) }, forged...)
	resolver := d.serve()

	// The policies' names are in no zone; unbound is told so by its own.
	w.Resolver = resolver
	w.Start("[sts]\nenabled = false\n")
	for _, tt := range []struct {
		zone string
		want outcome
		why  string
	}{
		{"good.example", verified, ""},
		{"mismatch.example", held, "do not fit"},
		{"none.example", encrypted, ""},
		{"unsigned.example", encrypted, ""},
		{"forged.example", held, "cannot be looked up"},
	} {
		expect(w, hosts[tt.zone], tt.want, tt.why, tt.zone)
	}
}

// dnssec serves zones.
type dnssec struct {
	t       *testing.T
	dir     string
	zones   []string
	anchors []string
}

// add takes a zone in; forge, if not nil, changes its TLSA records behind the signature.
func (d *dnssec) add(name string, signed bool, forge func(dns.RR), records ...string) {
	d.t.Helper()
	z, err := testnet.NewZone(name, records...)
	if err == nil && signed {
		err = z.Sign(time.Now().Add(time.Hour))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	if signed {
		d.anchors = append(d.anchors, z.Key.String())
	}
	if forge != nil {
		z.Forge("TLSA", forge)
	}
	if _, err := z.Write(d.dir); err != nil {
		d.t.Fatal(err)
	}
	d.zones = append(d.zones, name)
}

// serve starts nsd with the zones and unbound with their keys, and returns the
// address of unbound. A port may be taken between the look for it and its use.
func (d *dnssec) serve() string {
	d.t.Helper()
	for range 5 {
		if addr, ok := d.tryToServe(freePort(d.t), freePort(d.t)); ok {
			return addr
		}
	}
	d.t.Fatal("nsd and unbound do not answer")
	return ""
}

func (d *dnssec) tryToServe(authority, resolver int) (addr string, ok bool) {
	d.t.Helper()
	nsd := fmt.Sprintf("server:\n ip-address: 127.0.0.1\n port: %d\n username: \"\"\n chroot: \"\"\n zonesdir: %q\n database: \"\"\n pidfile: \"\"\n zonelistfile: %q\n xfrdfile: %q\n server-count: 1\nremote-control:\n control-enable: no\n",
		authority, d.dir, filepath.Join(d.dir, "zones.list"), filepath.Join(d.dir, "xfrd.state"))
	unbound := fmt.Sprintf("server:\n interface: 127.0.0.1\n port: %d\n username: \"\"\n chroot: \"\"\n directory: %q\n pidfile: \"\"\n use-syslog: no\n do-not-query-localhost: no\n do-ip6: no\n module-config: \"validator iterator\"\n",
		resolver, d.dir)
	for _, a := range d.anchors {
		unbound += fmt.Sprintf(" trust-anchor: %q\n", strings.ReplaceAll(a, "\t", " "))
	}
	unbound += "remote-control:\n control-enable: no\n"
	for _, z := range d.zones {
		nsd += fmt.Sprintf("zone:\n name: %q\n zonefile: %q\n", dns.Fqdn(z), cmp.Or(z, "root"))
		unbound += fmt.Sprintf("stub-zone:\n name: %q\n stub-addr: 127.0.0.1@%d\n", dns.Fqdn(z), authority)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", resolver)
	return addr, d.start("nsd", nsd, fmt.Sprintf("127.0.0.1:%d", authority)) && d.start("unbound", unbound, addr)
}

// start starts a program and asks until it answers; false: it has ended.
func (d *dnssec) start(program, conf, addr string) bool {
	d.t.Helper()
	file := filepath.Join(d.dir, program+".conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-d", "-c", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	d.t.Cleanup(func() {
		cancel()
		<-ended
		if d.t.Failed() {
			d.t.Logf("%s said:\n%s", program, &out)
		}
	})
	q := new(dns.Msg).SetQuestion("good.example.", dns.TypeSOA)
	for range 200 {
		if m, err := dns.Exchange(q, addr); err == nil && len(m.Answer) > 0 {
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(50 * time.Millisecond): // another process: there is nothing else to wait on
		}
	}
	return false
}

// freePort is a port that is free for UDP and TCP.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", c.LocalAddr().String())
		c.Close()
		if err == nil {
			l.Close()
			return c.LocalAddr().(*net.UDPAddr).Port
		}
	}
}
