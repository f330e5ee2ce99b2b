package testnet

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Zone is a zone for a name server that nobody here wrote: DNSSEC as it is in the
// world, behind a resolver that validates.
type Zone struct {
	Name string // without final dot; "" is the root zone
	// Key signs the zone; nil: it is not signed.
	Key     *dns.DNSKEY
	records []dns.RR
	private crypto.Signer
}

// NewZone makes a zone of records with full names, in the syntax of a zone file.
func NewZone(name string, records ...string) (*Zone, error) {
	z := &Zone{Name: name}
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			return nil, fmt.Errorf("record %q: %w", r, err)
		}
		z.records = append(z.records, rr)
	}
	return z, nil
}

// Sign signs every RRset that is the zone's own, with NSEC for what is not there
// (RFC 4034). The signatures are good until the time until.
func (z *Zone) Sign(until time.Time) error {
	z.Key = &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: dns.Fqdn(z.Name), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := z.Key.Generate(256)
	if err != nil {
		return err
	}
	z.private = private.(crypto.Signer)
	z.records = append(z.records, z.Key)
	z.addNSEC()
	for _, set := range z.sets() {
		sig := &dns.RRSIG{
			Hdr: dns.RR_Header{Ttl: 60}, Algorithm: z.Key.Algorithm, SignerName: z.Key.Hdr.Name, KeyTag: z.Key.KeyTag(),
			Inception: uint32(until.Add(-60 * 24 * time.Hour).Unix()), Expiration: uint32(until.Unix()),
		}
		if err := sig.Sign(z.private, set); err != nil {
			return err
		}
		z.records = append(z.records, sig)
	}
	return nil
}

// DS is the record for the parent zone that says how the zone is signed.
func (z *Zone) DS() string { return z.Key.ToDS(dns.SHA256).String() }

// Forge changes the records of a type behind their signature.
func (z *Zone) Forge(rrtype string, change func(rr dns.RR)) {
	for _, rr := range z.records {
		if dns.TypeToString[rr.Header().Rrtype] == rrtype {
			change(rr)
		}
	}
}

// Write writes the zone into a file of its name in dir, "root" for the root zone.
func (z *Zone) Write(dir string) (file string, err error) {
	var b strings.Builder
	for _, rr := range z.records {
		fmt.Fprintln(&b, rr)
	}
	file = filepath.Join(dir, z.Name)
	if z.Name == "" {
		file = filepath.Join(dir, "root")
	}
	return file, os.WriteFile(file, []byte(b.String()), 0o644)
}

// cuts are the names where other zones begin.
func (z *Zone) cuts() (names []string) {
	for _, rr := range z.records {
		if h := rr.Header(); h.Rrtype == dns.TypeNS && h.Name != dns.Fqdn(z.Name) {
			names = append(names, h.Name)
		}
	}
	return names
}

// own reports whether a record is one that the zone signs: not an address of
// another zone's name server, nor the NS records of that zone (RFC 4035, 2.2).
func (z *Zone) own(h *dns.RR_Header, cuts []string) bool {
	for _, cut := range cuts {
		if h.Name == cut && h.Rrtype != dns.TypeDS && h.Rrtype != dns.TypeNSEC || strings.HasSuffix(h.Name, "."+cut) {
			return false
		}
	}
	return true
}

func (z *Zone) addNSEC() {
	cuts := z.cuts()
	types := make(map[string][]uint16)
	for _, rr := range z.records {
		h := rr.Header()
		if (z.own(h, cuts) || slices.Contains(cuts, h.Name)) && !slices.Contains(types[h.Name], h.Rrtype) {
			types[h.Name] = append(types[h.Name], h.Rrtype)
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
		z.records = append(z.records, &dns.NSEC{
			Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 60},
			NextDomain: names[(i+1)%len(names)], TypeBitMap: bitmap,
		})
	}
}

// sets are the RRsets that the zone signs.
func (z *Zone) sets() map[string][]dns.RR {
	cuts := z.cuts()
	sets := make(map[string][]dns.RR)
	for _, rr := range z.records {
		if h := rr.Header(); z.own(h, cuts) {
			k := h.Name + dns.TypeToString[h.Rrtype]
			sets[k] = append(sets[k], rr)
		}
	}
	return sets
}

// canonicalOrder is RFC 4034, 6.1: label by label from the right.
func canonicalOrder(a, b string) int {
	x, y := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(x)
	slices.Reverse(y)
	return slices.Compare(x, y)
}
