package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
)

// CAA is a record that says which authorities may issue certificates for a name (RFC 8659).
type CAA struct {
	// Tag is "issue", "issuewild", "iodef" or another one, in lower case.
	Tag, Value string
}

// LookupCAA returns a function that asks for the CAA records of a name.
func LookupCAA(ask *dnsclient.Client) func(ctx context.Context, name string) ([]CAA, error) {
	return func(ctx context.Context, name string) ([]CAA, error) {
		found, err := ask.CAA(ctx, name)
		if err != nil {
			return nil, err
		}
		out := make([]CAA, len(found))
		for i, f := range found {
			out[i] = CAA(f)
		}
		return out, nil
	}
}

// Authority is a certificate authority, as CAA records know it.
type Authority struct {
	url   string
	roots *x509.CertPool

	mu         sync.Mutex
	identities []string // nil: not known yet
}

// NewAuthority returns the authority with a directory. Roots are trusted for the directory's
// own certificate; nil: the system's.
func NewAuthority(directory string, roots *x509.CertPool) *Authority {
	return &Authority{url: directory, roots: roots}
}

// names returns the names of the authority in CAA records; none where it does not say
// them, or cannot be reached: then the order itself shows what is allowed.
func (d *Authority) names(ctx context.Context) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.identities != nil {
		return d.identities
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: d.roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	client := acme.Client{Directory: d.url, HTTPClient: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
	found, err := client.GetDirectory(ctx)
	if err != nil {
		return nil
	}
	d.identities = []string{}
	if found.Meta != nil {
		d.identities = append(d.identities, found.Meta.CAAIdentities...)
	}
	return d.identities
}

// Allowed looks whether the CAA records allow the authority. The nearest that there are, at
// the name or above it, count (RFC 8659, 3); the lookup follows aliases. The error is an
// *ObstacleError where they do not.
func (d *Authority) Allowed(ctx context.Context, lookup func(ctx context.Context, name string) ([]CAA, error), of string) error {
	ours := d.names(ctx)
	if len(ours) == 0 {
		return nil
	}
	for at := of; strings.Contains(at, "."); _, at, _ = strings.Cut(at, ".") {
		records, err := lookup(ctx, at)
		if err != nil {
			return fmt.Errorf("the CAA records of %s cannot be looked up now, and the authority would refuse: %w", at, err)
		}
		if len(records) > 0 {
			return judgeCAA(at, records, ours)
		}
	}
	return nil
}

// ObstacleError is that the CAA records of a name do not allow the authority.
type ObstacleError struct {
	// Name is where the records are, and Allows says whom they allow.
	Name, Allows string
	// Authority is the name in CAA records of the authority that is not allowed.
	Authority string
}

func (e *ObstacleError) Error() string {
	return fmt.Sprintf("CAA of %s allows %s: no certificate is ordered; add %s CAA 0 issue %q", e.Name, e.Allows, e.Name, e.Authority)
}

// judgeCAA decides by the records of one name. Without a record "issue" all may.
func judgeCAA(at string, records []CAA, ours []string) error {
	var others []string
	restricted := false
	for _, r := range records {
		if r.Tag != "issue" {
			continue
		}
		restricted = true
		issuer, _, _ := strings.Cut(r.Value, ";")
		issuer = strings.ToLower(strings.TrimSpace(issuer))
		if slices.Contains(ours, issuer) {
			return nil
		}
		if issuer != "" {
			others = append(others, issuer)
		}
	}
	if !restricted {
		return nil
	}
	who := "nobody"
	if len(others) > 0 {
		who = strings.Join(others, ", ") + " only"
	}
	return &ObstacleError{Name: at, Allows: who, Authority: ours[0]}
}
