package operator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/sts"
)

// Policy is an entry of the policy cache.
type Policy struct {
	Domain        string     `json:"domain"`
	ID            string     `json:"id"`
	Mode          string     `json:"mode"`
	MX            []string   `json:"mx"`
	MaxAge        int64      `json:"max_age"` // seconds
	FetchedAt     *time.Time `json:"fetched_at"`
	ExpiresAt     *time.Time `json:"expires_at"`
	LastUsedAt    *time.Time `json:"last_used_at"`
	NextRefreshAt *time.Time `json:"next_refresh_at"`
	LastError     string     `json:"last_error"`
	LastErrorAt   *time.Time `json:"last_error_at,omitempty"`
}

// PoliciesOff returns the error of the methods about policies where MTA-STS is
// switched off, nil where it is on.
func (o *Operator) PoliciesOff() error {
	if o.o.Policies == nil {
		return failed(conflict, phrase.Errorf("MTA-STS is switched off (sts.enabled)"))
	}
	return nil
}

// Policies returns the whole policy cache by domain. It is empty where MTA-STS is
// switched off.
func (o *Operator) Policies() []Policy {
	out := []Policy{}
	if o.o.Policies != nil {
		for _, e := range o.o.Policies.List() {
			out = append(out, newPolicy(e))
		}
	}
	return out
}

// Policy returns the entry of the policy cache for a domain.
func (o *Operator) Policy(name string) (Policy, error) {
	domain, err := o.policyDomain(name)
	if err != nil {
		return Policy{}, err
	}
	e, ok := o.o.Policies.Show(domain)
	if !ok {
		return Policy{}, errNotCached(domain)
	}
	return newPolicy(e), nil
}

// StoredPolicy returns the entry of a domain in the form of the store, nil where
// there is none.
func (o *Operator) StoredPolicy(name string) ([]byte, error) {
	domain, err := o.policyDomain(name)
	if err != nil {
		return nil, err
	}
	value, _ := o.o.Policies.Stored(domain)
	return value, nil
}

// RefreshPolicy fetches the policy of a domain now. If that fails the old one
// stays.
func (o *Operator) RefreshPolicy(ctx context.Context, actor Actor, name string) (Policy, error) {
	domain, err := o.policyDomain(name)
	if err != nil {
		return Policy{}, err
	}
	o.log(ctx, actor, "policy refresh requested by the operator", slog.String("domain", domain))
	e, err := o.o.Policies.Refresh(ctx, domain)
	if errors.Is(err, sts.ErrNoRecord) && o.o.NoHost != nil {
		if why := o.o.NoHost(ctx, domain); why != nil { // a typing error, mostly
			err = phrase.Errorf("%w: %w", err, why)
		}
	}
	if err != nil {
		return Policy{}, failed(upstream, err)
	}
	return newPolicy(e), nil
}

// RemovePolicy removes a domain from the policy cache.
func (o *Operator) RemovePolicy(ctx context.Context, actor Actor, name string) (Affected, error) {
	domain, err := o.policyDomain(name)
	if err != nil {
		return Affected{}, err
	}
	found, err := o.o.Policies.Remove(ctx, domain)
	switch {
	case err != nil:
		return Affected{}, err
	case !found:
		return Affected{}, errNotCached(domain)
	}
	o.log(ctx, actor, "policy removed by the operator", slog.String("domain", domain))
	return Affected{Affected: 1}, nil
}

// policyDomain returns a domain in the form of the policy cache.
func (o *Operator) policyDomain(name string) (string, error) {
	if err := o.PoliciesOff(); err != nil {
		return "", err
	}
	domain, err := mailbox.ParseName(name)
	if err != nil {
		return "", failed(invalid, err)
	}
	return domain, nil
}

func errNotCached(domain string) error {
	return failed(notFound, phrase.Errorf("no policy of %s is cached", domain))
}

func newPolicy(e sts.Entry) Policy {
	p := Policy{
		Domain: e.Domain, ID: e.ID, MX: []string{}, FetchedAt: timePointer(e.FetchedAt), ExpiresAt: timePointer(e.ExpiresAt),
		LastUsedAt: timePointer(e.LastUsed), NextRefreshAt: timePointer(e.NextRefresh),
		LastError: e.LastError, LastErrorAt: timePointer(e.LastErrorAt),
	}
	if e.Policy != nil {
		p.Mode, p.MaxAge = string(e.Policy.Mode), int64(e.Policy.MaxAge/time.Second)
		p.MX = append(p.MX, e.Policy.MX...)
	}
	return p
}
