package relay

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/webfetch"
)

// webhookTimeout bounds one post to the operator's web server.
const webhookTimeout = 20 * time.Second

// knownAddrs looks up hosts, and remembers the last addresses of each: when the resolver
// does not answer, that is what the operator must be told of.
type knownAddrs struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu    sync.Mutex
	addrs map[string][]netip.Addr
}

func (k *knownAddrs) find(ctx context.Context, host string) ([]netip.Addr, error) {
	asked, cancel := context.WithTimeout(ctx, webhookTimeout/2) // it leaves time to post
	defer cancel()
	addrs, err := k.lookup(asked, host)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && len(addrs) > 0 {
		k.addrs = map[string][]netip.Addr{host: addrs}
		return addrs, nil
	}
	if known := k.addrs[host]; len(known) > 0 {
		return known, nil
	}
	return addrs, err
}

// openWebhook makes the client of the webhook. Its server is the operator's own choice, and
// may have a private address.
func (r *Relay) openWebhook() {
	r.webhookAddrs = &knownAddrs{lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		found, err := r.resolver.Addrs(ctx, host)
		return found.Addrs, err
	}}
	r.webhookClient = webfetch.New(webfetch.Options{
		LookupAddrs: r.webhookAddrs.find, DialContext: r.o.Dial, AllowPrivate: func() bool { return true }, Roots: r.roots, Hellos: r.hellos, Now: r.o.Now,
	})
}

// webhook returns what posts to the URL of the configuration, nil where none is set.
func (r *Relay) webhook() func(ctx context.Context, body []byte) error {
	n := &r.config.Load().Notices
	if n.Webhook == "" {
		return nil
	}
	url, file := n.Webhook, n.WebhookSecretFile
	return func(ctx context.Context, body []byte) error { return r.postWebhook(ctx, url, file, body) }
}

// postWebhook makes one POST of JSON.
func (r *Relay) postWebhook(ctx context.Context, url, secretFile string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("notices.webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "stsrelay")
	if secretFile != "" {
		secret, err := config.ReadSecret(secretFile)
		if err != nil {
			return fmt.Errorf("notices.webhook_secret_file: %s %w", secretFile, err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	exchange, err := r.webhookClient.Do(req)
	if err != nil {
		return fmt.Errorf("notices.webhook: %w", err)
	}
	defer exchange.Answer.Body.Close()
	if code := exchange.Answer.StatusCode; code/100 != 2 {
		return fmt.Errorf("notices.webhook: the server answers %d %s", code, http.StatusText(code))
	}
	return nil
}

// learnWebhook looks the server of the webhook up while the resolver answers.
func (r *Relay) learnWebhook(ctx context.Context) {
	n := &r.config.Load().Notices
	if n.Webhook == "" {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.Webhook, nil)
	if err != nil {
		return // the configuration was checked
	}
	if _, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		return
	}
	if _, err := r.webhookAddrs.find(ctx, req.URL.Hostname()); err != nil && ctx.Err() == nil {
		r.log.Warn("the host of notices.webhook cannot be looked up", "host", req.URL.Hostname(), "error", err)
	}
}
