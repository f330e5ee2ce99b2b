package delivery

import (
	"context"
	"fmt"

	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// addTLSA asks for the TLSA records of a candidate and puts them into req. A
// lookup that fails makes the host unusable, unless nothing that is published
// may hold this message.
func (a *attempt) addTLSA(ctx context.Context, c candidate, req *security.Requirement) *attemptError {
	if !a.settings.DANE || c.addr.IsValid() || !a.asksDomain() {
		return nil
	}
	addrs, err := a.lookup(ctx, c)
	if err != nil && req.Admits() != nil {
		return nil //nolint:nilerr // the other tells more
	} else if err != nil {
		// Whether DANE applies cannot be told; and there may be a session to the host
		// that was opened for mail that asks for nothing.
		return noAddresses(c, err)
	}
	req.TLSA, err = outbound.LookupTLSA(ctx, a.d.resolver, c.host, c.port, addrs)
	if err == nil {
		return nil
	}
	s := security.TLSALookupFailed(err)
	failed := *req
	failed.TLSA = dane.NewRRset(c.host, nil)
	a.noteSkipped(&failed, s)
	if !req.PublishedBinding() {
		return nil
	}
	f := policyFailure(s, req)
	f.text = fmt.Sprintf("the TLSA records of %s cannot be looked up (%v); they might ask for verified TLS, so nothing was sent", c.host, err)
	return f
}
