package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/relay/acme"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// caaTime bounds the look at the CAA records of all domains. What is not known by then is left
// out: the relay itself says so before it orders.
const caaTime = 10 * time.Second

// missingCAA returns the CAA records that domains need so that the authority of [acme] may
// issue for their policy hosts: where there are such records, and none names it.
func missingCAA(ctx context.Context, c *config.Config, ask *dnsclient.Client, domains []publish.Domain) (out []publish.Record, err error) {
	if c.Publisher.HTTPS == "" || c.Publisher.TLS != "acme" {
		return nil, nil
	}
	var roots *x509.CertPool
	if c.ACME.CAFile != "" {
		if roots, err = config.ReadAuthorities(c.ACME.CAFile); err != nil {
			return nil, fmt.Errorf("acme.ca_file: %s %w", c.ACME.CAFile, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, caaTime)
	defer cancel()
	authority, lookup := acme.NewAuthority(c.ACME.Directory, roots), acme.LookupCAA(ask)
	var mu sync.Mutex
	var all sync.WaitGroup
	places := make(chan struct{}, checksAtOnce)
	for _, d := range domains {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			obstacle, found := errors.AsType[*acme.ObstacleError](authority.Allowed(ctx, lookup, publish.PolicyHost(d.Name)))
			if !found {
				return
			}
			r := publish.Record{Name: obstacle.Name, Type: "CAA", Value: fmt.Sprintf("0 issue %q", obstacle.Authority), Why: "lets the authority issue the certificate of the policy host: the CAA records that are there allow " + obstacle.Allows + ". They stay, this one comes beside them"}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		})
	}
	all.Wait()
	slices.SortFunc(out, func(a, b publish.Record) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
