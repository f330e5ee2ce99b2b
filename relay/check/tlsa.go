package check

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// findTLSA finds the TLSA records that apply to a host, as a delivery does, and those that
// are published and do not apply.
func (c *checker) findTLSA(ctx context.Context, h *host, planned outbound.Host, a dnsclient.Addrs) {
	if c.NoDANE {
		c.unusedTLSA(ctx, h, a)
		return
	}
	set, err := c.finder.TLSA(ctx, planned, a)
	switch {
	case err != nil:
		if !c.to.Overridden() {
			h.failed = &hostFailure{outbound.Held, phrase.New("its TLSA records could not be looked up: %v", err)}
		}
		p := c.lookupFault(ctx, phrase.New("the TLSA records could not be looked up, and a host of which they are not known gets no mail: %v", err), err, security.CodeTLSALookup.Row().Rule, ownerOfHost)
		h.Problems = append(h.Problems, p)
	case set == nil:
		c.unusedTLSA(ctx, h, a)
	default:
		h.set = set
		h.TLSA = &TLSA{Name: tlsaName(h, set.Base), Base: set.Base, Secure: true, Applies: true, Usable: len(set.Usable)}
		for _, r := range set.Records {
			h.TLSA.Records = append(h.TLSA.Records, r.String())
		}
		if n := len(set.Records) - len(set.Usable); n > 0 && len(set.Usable) > 0 {
			h.Problems = append(h.Problems, Problem{Note, phrase.New("%d of the %d TLSA records are not used: weaker digests beside stronger ones, or a usage that mail cannot use", n, len(set.Records)),
				"RFC 7671, 9; RFC 7672, 3.1.3", phrase.New("nothing, if one that is used matches")})
		}
	}
}

func tlsaName(h *host, base string) string { return fmt.Sprintf("_%d._tcp.%s", h.Port, base) }

// unusedTLSA notes records that are not used, for want of DNSSEC or because DANE is
// switched off.
func (c *checker) unusedTLSA(ctx context.Context, h *host, a dnsclient.Addrs) {
	t, err := c.Resolver.TLSA(ctx, tlsaName(h, h.Name))
	if err != nil || len(t.Records) == 0 {
		return // the relay does not ask either
	}
	var records []dane.Record
	h.TLSA = &TLSA{Name: tlsaName(h, h.Name), Base: h.Name, Secure: t.Secure}
	for _, r := range t.Records {
		records = append(records, dane.Record(r))
		h.TLSA.Records = append(h.TLSA.Records, dane.Record(r).String())
	}
	h.TLSA.Usable = len(dane.NewRRset(h.Name, records).Usable)
	switch {
	case c.NoDANE:
		h.Problems = append(h.Problems, Problem{Note, phrase.New("DANE is switched off: the TLSA records are not used"), "dane.enabled", phrase.New("switch it on")})
	case t.Secure && !a.Secure:
		h.tlsaProblem(adviceAddressInsecure, phrase.New("the host has TLSA records, and its addresses are not validated by DNSSEC: the records are not used"))
	default:
		h.tlsaProblem(adviceTLSAInsecure, phrase.New("the TLSA records are not validated by DNSSEC, and are not used"))
	}
}

func (h *host) tlsaProblem(a advice, text phrase.Phrase) {
	h.Problems = append(h.Problems, Problem{Warning, text, a.rule, a.remedy})
}

// suggestTLSA names the records that would let DANE vouch for the certificates that the host
// showed: where its zone is signed, and it has none, or one of them is not matched.
func (c *checker) suggestTLSA(h *host) {
	if c.NoDANE || !h.Secure || c.plan.From != outbound.FromMX && c.plan.From != outbound.FromAddress || h.TLSA != nil && !h.TLSA.Applies || h.failed != nil {
		return
	}
	for _, v := range h.sessions {
		if len(v.evidence.Chain) == 0 || v.TLSA != "" {
			continue
		}
		sum := sha256.Sum256(v.evidence.Chain[0].RawSubjectPublicKeyInfo)
		record := fmt.Sprintf("%s. IN TLSA 3 1 1 %x", tlsaName(h, h.Name), sum)
		if !slices.Contains(h.PublishTLSA, record) {
			h.PublishTLSA = append(h.PublishTLSA, record)
		}
	}
	if len(h.PublishTLSA) > 0 && h.TLSA == nil {
		h.Problems = append(h.Problems, Problem{Note, phrase.New("the zone of the host is signed, and it has no TLSA record: DANE could vouch for it"), "RFC 7672, 3.1.1",
			phrase.New("the host's owner: publish what is shown below, if that certificate is the host's own; before each change of the key publish the new key's record beside it, and take the old one away afterwards (RFC 7671, 8.1)")})
	}
}
