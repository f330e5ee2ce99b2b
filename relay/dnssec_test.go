package relay_test

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay"
)

// A signed zone served by nsd behind unbound, which validates: DANE as it is in
// the world. It needs both programs.
func TestDANEBehindAValidatingResolver(t *testing.T) {
	for _, program := range []string{"nsd", "unbound"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (apt-get install nsd unbound)", program)
		}
	}
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir()}
	hosts := make(map[string]*testnet.Host)
	records := func(zone string) []string {
		h := w.host("mx1." + zone)
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
	good = append(good, tlsa("good.example", w.tlsa(hosts["good.example"], 3, 1, 1)))
	mismatch := append(records("mismatch.example"), tlsa("mismatch.example", wrong))
	none := records("none.example")
	unsigned := append(records("unsigned.example"), tlsa("unsigned.example", wrong))
	forged := records("forged.example")
	forged = append(forged, tlsa("forged.example", w.tlsa(hosts["forged.example"], 3, 1, 1)))

	d := &dnssec{t: t, dir: t.TempDir()}
	d.sign("good.example", good)
	d.sign("mismatch.example", mismatch)
	d.sign("none.example", none)
	d.plain("unsigned.example", unsigned)
	d.sign("forged.example", forged)
	d.forge("forged.example", "TLSA") // its TLSA records are changed behind the signature
	resolver := d.serve()

	// The policies' names are in no zone; unbound is told so by its own.
	c, _, err := config.Load(w.configure(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.DNS.Servers = []string{resolver}
	c.STS.Enabled = false
	r, err := relay.New(relay.Options{Config: c, Dial: w.DialContext, Roots: w.CA.Roots(), Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	w.run(r)
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
		w.expect(hosts[tt.zone], tt.want, tt.why, tt.zone)
	}
}

// dnssec signs zones and serves them.
type dnssec struct {
	t       *testing.T
	dir     string
	zones   []string
	anchors []string
}

func (d *dnssec) write(zone string, rrs []dns.RR) {
	d.t.Helper()
	var b bytes.Buffer
	for _, rr := range rrs {
		fmt.Fprintln(&b, rr)
	}
	if err := os.WriteFile(filepath.Join(d.dir, zone), b.Bytes(), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.zones = append(d.zones, zone)
}

func (d *dnssec) parse(records []string) []dns.RR {
	d.t.Helper()
	rrs := make([]dns.RR, len(records))
	for i, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			d.t.Fatal(err)
		}
		rrs[i] = rr
	}
	return rrs
}

func (d *dnssec) plain(zone string, records []string) { d.write(zone, d.parse(records)) }

// sign signs every RRset, with NSEC for what is not there (RFC 4034).
func (d *dnssec) sign(zone string, records []string) {
	d.t.Helper()
	key := &dns.DNSKEY{
		Hdr: dns.RR_Header{Name: zone + ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60}, Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		d.t.Fatal(err)
	}
	d.anchors = append(d.anchors, key.String())
	rrs := append(d.parse(records), key)

	types := make(map[string][]uint16)
	for _, rr := range rrs {
		name, typ := rr.Header().Name, rr.Header().Rrtype
		if !slices.Contains(types[name], typ) {
			types[name] = append(types[name], typ)
		}
	}
	var names []string
	for name := range types {
		names = append(names, name)
	}
	slices.SortFunc(names, canonicalOrder)
	for i, name := range names {
		bitmap := append(types[name], dns.TypeNSEC, dns.TypeRRSIG)
		slices.Sort(bitmap)
		rrs = append(rrs, &dns.NSEC{
			Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 60},
			NextDomain: names[(i+1)%len(names)], TypeBitMap: bitmap,
		})
	}
	sets := make(map[string][]dns.RR)
	for _, rr := range rrs {
		k := rr.Header().Name + dns.TypeToString[rr.Header().Rrtype]
		sets[k] = append(sets[k], rr)
	}
	for _, set := range sets {
		sig := &dns.RRSIG{
			Hdr:       dns.RR_Header{Ttl: 60},
			Algorithm: key.Algorithm, SignerName: key.Hdr.Name, KeyTag: key.KeyTag(),
			Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(time.Hour).Unix()),
		}
		if err := sig.Sign(private.(crypto.Signer), set); err != nil {
			d.t.Fatal(err)
		}
		rrs = append(rrs, sig)
	}
	d.write(zone, rrs)
}

// canonicalOrder is RFC 4034, 6.1: label by label from the right.
func canonicalOrder(a, b string) int {
	x, y := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(x)
	slices.Reverse(y)
	return slices.Compare(x, y)
}

// forge changes a record behind its signature.
func (d *dnssec) forge(zone, rrtype string) {
	d.t.Helper()
	file := filepath.Join(d.dir, zone)
	text, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		if strings.Contains(l, "\tIN\t"+rrtype+"\t") {
			lines[i] = l[:len(l)-2] + "00"
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		d.t.Fatal(err)
	}
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
		nsd += fmt.Sprintf("zone:\n name: %q\n zonefile: %q\n", z, z)
		unbound += fmt.Sprintf("stub-zone:\n name: %q\n stub-addr: 127.0.0.1@%d\n", z, authority)
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
