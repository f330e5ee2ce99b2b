package delivery

import (
	"context"
	"fmt"

	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// addTLSA looks up the TLSA records of a host and adds them to req. A lookup that fails
// makes the host unusable, unless no published policy may hold this message.
func (a *attempt) addTLSA(ctx context.Context, h outbound.Host, req *security.Requirement) *attemptError {
	if !a.settings.DANE || h.Addr.IsValid() || !a.asksDomain() {
		return nil
	}
	a.trace.WaitsFor(trace.TLSARecords, h.Name)
	addrs, err := a.d.finder.Lookup(ctx, h.Name, a.reach().Private)
	if err != nil && req.Admits() != nil {
		return nil //nolint:nilerr // that the host is not admitted tells more
	} else if err != nil {
		// It is not known whether DANE applies, and the pool may have a session with the
		// host that was opened for mail that asks for nothing.
		return noAddresses(h, err)
	}
	req.TLSA, err = a.d.finder.TLSA(ctx, h, addrs)
	if err == nil {
		return nil
	}
	s := security.TLSALookupFailed(err)
	failed := *req
	failed.TLSA = dane.NewRRset(h.Name, nil)
	a.noteSkipped(&failed, s)
	if !req.PublishedBinding() {
		return nil
	}
	f := policyFailure(s, req)
	f.text = fmt.Sprintf("the TLSA records of %s cannot be looked up (%v); they might ask for verified TLS, so nothing was sent", h.Name, err)
	return f
}
