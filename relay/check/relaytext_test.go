package check

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// At a terminal the outcome comes first, and once.
func TestTheOutcomeFirst(t *testing.T) {
	w := newWorld(t)
	w.host("mx1.example.org", testnet.Faults{})
	w.enforced("example.org", "mx1.example.org")
	r := Run(t.Context(), "example.org", w.options)
	for _, first := range []bool{true, false} {
		var b bytes.Buffer
		w.ok(r.Text(&b, Style{OutcomeFirst: first}))
		page := b.String()
		outcome, hosts := strings.Index(page, "\nOutcome\n  ok "), strings.Index(page, "\nMail hosts\n")
		if !strings.HasPrefix(page, "example.org  checked ") || outcome < 0 || (outcome < hosts) != first || strings.Count(page, "\nOutcome\n") != 1 {
			t.Errorf("first %t:\n%s", first, page)
		}
	}
}

// The TLSA record that the page names is right: with it, DANE vouches for the host.
func TestTheRecordToPublishMatches(t *testing.T) {
	for name, wrong := range map[string]bool{"none": false, "one of another key": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := w.host("mx1.example.org", testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			w.ok(w.AddDomain("example.org", testnet.Domain{MX: []string{h.Name}}))
			w.sign("example.org", h.Name, "_25._tcp."+h.Name)
			if wrong {
				w.tlsa(h, true)
			}
			publish := Run(t.Context(), "example.org", w.options).Hosts[0].PublishTLSA
			if len(publish) != 1 {
				t.Fatalf("%q", publish)
			}
			w.ok(w.DNS.Add(strings.Replace(publish[0], " IN ", " 60 IN ", 1)))
			w.options.Resolver, _ = dnsclient.New(dnsclient.Options{Servers: []string{w.DNS.Addr()}, Timeout: 2 * time.Second, Attempts: 1}) // with an empty cache
			defer w.options.Resolver.Close()
			r := Run(t.Context(), "example.org", w.options)
			if got := r.Hosts[0]; got.Sessions[0].TLSA == "" || len(got.PublishTLSA) > 0 || !r.Outcome.Deliverable {
				t.Errorf("%+v", got)
			}
		})
	}
}
