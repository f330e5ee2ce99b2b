//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// world has mail hosts, and zones for them.
type world struct {
	*testnet.Net
	domains []domain
	root    []string
	zones   []*testnet.Zone
}

// domain is a domain that mail is sent to, and the expected end of the mail.
type domain struct {
	name string
	host *testnet.Host
	// behind a resolver that validates, and behind one that does not
	validated, plain fate
	// mxSigned reports whether its MX records pass DNSSEC.
	mxSigned bool
}

// fate is the end of a message.
type fate string

const (
	byDANE     fate = "delivered, verified by DANE"
	unverified fate = "delivered, not verified by DANE"
	held       fate = "held, nothing sent"
)

const wrongTLSA = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"

func newWorld(dir string) (*world, error) {
	n, err := testnet.New(testnet.Options{RealPorts: true})
	if err != nil {
		return nil, err
	}
	w := &world{Net: n, root: []string{". 60 IN SOA a.root. hostmaster.root. 1 3600 600 86400 60", ". 60 IN NS a.root.", "a.root. 60 IN A " + rootServer}}
	if err := w.build(); err != nil {
		n.Close()
		return nil, err
	}
	if err := w.write(dir); err != nil {
		n.Close()
		return nil, err
	}
	return w, nil
}

// zoneSpec is a domain of the world.
type zoneSpec struct {
	name   string
	signed bool
	until  time.Duration // of the signatures, from now; 0: a day
	// mx is the name in the MX record; "": mx.NAME, a host of the zone's own.
	mx string
	// tlsa makes the TLSA record from the fitting one; nil: there is none.
	tlsa func(fits string) string
	// forge is the type of the records that are changed behind their signature.
	forge            string
	more             []string
	validated, plain fate
}

func (w *world) build() error {
	fits := func(s string) string { return s }
	wrong := func(string) string { return wrongTLSA }
	large := []string{}
	for i := range 60 {
		large = append(large, fmt.Sprintf("large.example. 60 IN MX 100 a-long-name-of-a-host-that-is-not-there-%d.large.example.", i))
	}
	for _, s := range []zoneSpec{
		{name: "good.example", signed: true, tlsa: fits, validated: byDANE, plain: unverified},
		{name: "mismatch.example", signed: true, tlsa: wrong, validated: held, plain: unverified},
		{name: "none.example", signed: true, validated: unverified, plain: unverified},
		{name: "unsigned.example", tlsa: wrong, validated: unverified, plain: unverified},
		{name: "hosted.example", mx: "mx.good.example", validated: unverified, plain: unverified},
		{name: "forgedmx.example", signed: true, tlsa: fits, forge: "MX", validated: held, plain: unverified},
		{name: "forgedtlsa.example", signed: true, tlsa: wrong, forge: "TLSA", validated: held, plain: unverified},
		{name: "forgedaddr.example", signed: true, tlsa: fits, forge: "A", validated: held, plain: unverified},
		{name: "expired.example", signed: true, until: -10 * 24 * time.Hour, tlsa: fits, validated: held, plain: unverified},
		{name: "large.example", signed: true, tlsa: fits, more: large, validated: byDANE, plain: unverified},
	} {
		if err := w.add(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return w.addAlias()
}

// add makes the zone and its host.
func (w *world) add(s zoneSpec) error {
	h, err := w.AddHost("mx." + s.name)
	if err != nil {
		return err
	}
	if err := h.Set(testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}); err != nil {
		return err
	}
	mx, host := h.Name, h
	if s.mx != "" {
		mx = s.mx
		for _, d := range w.domains {
			if d.host.Name == mx {
				host = d.host
			}
		}
	}
	records := append([]string{fmt.Sprintf("%s. 60 IN MX 10 %s.", s.name, mx), fmt.Sprintf("%s. 60 IN A %s", h.Name, h.IP)}, s.more...)
	if s.tlsa != nil {
		tlsa, err := h.TLSA(3, 1, 1)
		if err != nil {
			return err
		}
		records = append(records, fmt.Sprintf("_25._tcp.%s. 60 IN TLSA %s", h.Name, s.tlsa(tlsa)))
	}
	if s.until == 0 {
		s.until = 24 * time.Hour
	}
	w.domains = append(w.domains, domain{name: s.name, host: host, validated: s.validated, plain: s.plain, mxSigned: s.signed && s.forge != "MX" && s.until > 0})
	return w.zone(s.name, s.signed, time.Now().Add(s.until), s.forge, records)
}

// addAlias makes a domain whose MX host is a signed alias that leads into a zone
// which is not signed: its TLSA records are those at the alias.
func (w *world) addAlias() error {
	h, err := w.AddHost("host.plain.example")
	if err != nil {
		return err
	}
	if err := h.Set(testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}); err != nil {
		return err
	}
	tlsa, err := h.TLSA(3, 1, 1)
	if err != nil {
		return err
	}
	w.domains = append(w.domains, domain{name: "alias.example", host: h, validated: byDANE, plain: unverified, mxSigned: true})
	if err := w.zone("plain.example", false, time.Time{}, "", []string{"host.plain.example. 60 IN A " + h.IP}); err != nil {
		return err
	}
	return w.zone("alias.example", true, time.Now().Add(24*time.Hour), "", []string{
		"alias.example. 60 IN MX 10 mx.alias.example.", "mx.alias.example. 60 IN CNAME host.plain.example.", "_25._tcp.mx.alias.example. 60 IN TLSA " + tlsa,
	})
}

// zone makes a zone and its delegation from the root zone.
func (w *world) zone(name string, signed bool, until time.Time, forge string, records []string) error {
	records = append(records,
		fmt.Sprintf("%[1]s. 60 IN SOA ns.%[1]s. hostmaster.%[1]s. 1 3600 600 86400 60", name),
		fmt.Sprintf("%[1]s. 60 IN NS ns.%[1]s.", name), fmt.Sprintf("ns.%s. 60 IN A %s", name, zones))
	z, err := testnet.NewZone(name, records...)
	if err != nil {
		return err
	}
	w.root = append(w.root, fmt.Sprintf("%[1]s. 60 IN NS ns.%[1]s.", name), fmt.Sprintf("ns.%s. 60 IN A %s", name, zones))
	if signed {
		if err := z.Sign(until); err != nil {
			return err
		}
		w.root = append(w.root, z.DS())
	}
	// The mail host of a forged address or MX record is there, and takes mail: only
	// DNSSEC says that it is not the right one.
	z.Forge(forge, func(rr dns.RR) {
		switch rr := rr.(type) {
		case *dns.TLSA:
			rr.Certificate = strings.Repeat("11", 32)
		case *dns.MX:
			rr.Preference++
		case *dns.A:
			if rr.Hdr.Name == "mx."+name+"." {
				rr.Hdr.Ttl--
				rr.A = net.ParseIP(w.forgedAddr(rr.A.String())).To4()
			}
		}
	})
	w.zones = append(w.zones, z)
	return nil
}

// forgedAddr is the address of another host that is there.
func (w *world) forgedAddr(addr string) string {
	for _, d := range w.domains {
		if d.host.IP != addr {
			return d.host.IP
		}
	}
	return addr
}

// write writes the zones, and what the servers are told: who serves the root zone,
// and how it is signed.
func (w *world) write(dir string) error {
	root, err := testnet.NewZone("", w.root...)
	if err != nil {
		return err
	}
	if err := root.Sign(time.Now().Add(24 * time.Hour)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "zones"), 0o755); err != nil {
		return err
	}
	nsd := map[string]string{rootServer: nsdServer(rootServer), zones: nsdServer(zones)}
	for _, z := range append(w.zones, root) {
		file, err := z.Write(filepath.Join(dir, "zones"))
		if err != nil {
			return err
		}
		addr := zones
		if z == root {
			addr = rootServer
		}
		nsd[addr] += fmt.Sprintf("zone:\n name: %q\n zonefile: %q\n", dns.Fqdn(z.Name), filepath.Base(file))
	}
	ds := root.Key.ToDS(dns.SHA256)
	for name, text := range map[string]string{
		"nsd-root":    nsd[rootServer],
		"nsd-zones":   nsd[zones],
		"root.hints":  fmt.Sprintf(". 3600 IN NS a.root.\na.root. 3600 IN A %s\n", rootServer),
		"root.dnskey": root.Key.String() + "\n",
		"root.ds":     fmt.Sprintf(". IN DS %d %d %d %s\n", ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// nsdServer begins the configuration of an nsd.
func nsdServer(addr string) string {
	return fmt.Sprintf("server:\n ip-address: %s\n port: 53\n username: \"\"\n chroot: \"\"\n zonesdir: \"/lab/zones\"\n database: \"\"\n pidfile: \"\"\n"+
		" zonelistfile: \"/lab/%[1]s.list\"\n xfrdfile: \"\"\n server-count: 1\nremote-control:\n control-enable: no\n", addr)
}
