package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// cacheTime is how long the running relay may take to answer what is in its cache, or in
// its queue.
const cacheTime = time.Second

// askCache asks the running relay for the entry of a domain in its policy cache. If a
// relay runs and does not answer, a warning says so once: the result of the check may
// differ from that of a delivery.
func (a *app) askCache(client *adminapi.Client) func(ctx context.Context, domain string) []byte {
	var once sync.Once
	return func(ctx context.Context, domain string) []byte {
		ctx, cancel := context.WithTimeout(ctx, cacheTime)
		defer cancel()
		var value []byte
		body, err := client.Open(ctx, http.MethodGet, "/v1/policies/"+url.PathEscape(domain)+"/stored", nil, nil)
		if err == nil {
			value, err = io.ReadAll(body)
			body.Close()
		}
		if err != nil && !errors.Is(err, adminapi.ErrNotRunning) {
			once.Do(func() {
				fmt.Fprintf(a.err, "stsrelay: the running relay does not say what is in its policy cache; only what is published counts here: %v\n", err)
			})
		}
		return value
	}
}

// askQueue asks the running relay once for what waits, and returns what tells it by domain.
func askQueue(client *adminapi.Client) func(ctx context.Context, domain string) *check.Waiting {
	var once sync.Once
	waiting := make(map[string]*check.Waiting)
	return func(ctx context.Context, domain string) *check.Waiting {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(ctx, cacheTime)
			defer cancel()
			var list []operator.DomainSummary
			_ = client.Get(ctx, "/v1/summary", nil, &list) // it may not run
			for i := range list {
				waiting[list[i].Domain] = list[i].Waiting()
			}
		})
		return waiting[domain]
	}
}

// publishedHere returns what tells of the domains of [[publish]] what the running relay
// serves, and how that differs from what the world sees.
func publishedHere(client *adminapi.Client, c *config.Config, resolver *dnsclient.Client) (func(ctx context.Context, domain string, seen *sts.Policy) *check.Published, error) {
	domains, err := c.Published()
	if err != nil || len(domains) == 0 {
		return nil, err
	}
	view := viewOf(c, resolver)
	var once sync.Once
	var served []operator.Published
	var running error
	return func(ctx context.Context, domain string, seen *sts.Policy) *check.Published {
		i := slices.IndexFunc(domains, func(d publish.Domain) bool { return d.Name == domain })
		if i < 0 {
			return nil
		}
		once.Do(func() {
			ctx, cancel := context.WithTimeout(ctx, cacheTime)
			defer cancel()
			running = client.Get(ctx, "/v1/publish", nil, &served)
		})
		v := *view
		if seen != nil {
			v.Fetch = func(context.Context, string) (string, error) { return publish.Text(seen), nil }
		}
		s := lookAt(ctx, v, domains[i], served, running == nil)
		return relay.PublishedHere(domain, s.Mode, s.ID, s.Served != nil && s.Served.ID == s.ID, s.Findings)
	}, nil
}
