package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
)

// site is a domain whose policy is in the cache of the running relay. No resolver
// caches its record.
type site struct {
	t      *testing.T
	n      *testnet.Net
	domain string
	host   *testnet.Host
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// publish publishes a policy for the host mx1.
func (s *site) publish(id, mode, mx string) {
	s.t.Helper()
	s.ok(s.n.SetPolicy(s.domain, testnet.Policy{ID: id, Mode: mode, MX: []string{mx}, MaxAge: 604800}))
	s.n.DNS.Remove("_mta-sts."+s.domain, "TXT")
	s.ok(s.n.DNS.Add(fmt.Sprintf("_mta-sts.%s. 0 IN TXT \"v=STSv1; id=%s\"", s.domain, id)))
}

func (s *site) policyHost(f testnet.PolicyFaults) {
	s.t.Helper()
	p, err := s.n.PolicyHost(s.domain)
	s.ok(err)
	s.ok(p.Set(f))
}

// While a relay runs, a check goes by the policy in its cache, as the relay does. Without
// a running relay the result may differ.
func TestACheckGoesByTheRunningRelaysCache(t *testing.T) {
	n, file := internet(t, "[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n")
	stripped := testnet.Faults{NoStartTLS: true}
	for _, tt := range []struct {
		name      string
		before    string // mode of the policy that is cached
		change    func(s *site)
		goes      bool   // beside the running relay
		published bool   // by what is published alone
		says      string // in the page
	}{
		{"attack", "enforce", func(s *site) {
			n.DNS.Remove("_mta-sts."+s.domain, "TXT")
			s.policyHost(testnet.PolicyFaults{Down: true})
			s.ok(s.host.Set(stripped))
		}, false, true, "goes by the policy in its cache, whatever is published now"},
		{"record-removed", "enforce", func(s *site) {
			n.DNS.Remove("_mta-sts."+s.domain, "TXT")
			s.ok(s.host.Set(stripped))
		}, false, true, "whatever is published now"},
		{"newer-cannot-be-had", "enforce", func(s *site) {
			s.publish("2", "none", "*."+s.domain)
			s.policyHost(testnet.PolicyFaults{Down: true})
			s.ok(s.host.Set(stripped))
		}, false, true, "whatever is published now"},
		{"same", "enforce", func(s *site) { s.ok(s.host.Set(stripped)) }, false, false, "it is in force until then"},
		{"still-good", "enforce", func(s *site) { s.policyHost(testnet.PolicyFaults{Down: true}) }, true, true, "whatever is published now"},
		{"newer", "enforce", func(s *site) {
			s.publish("2", "none", "*."+s.domain)
			s.ok(s.host.Set(stripped))
		}, true, true, "the next delivery takes over what is published now"},
		{"same-id", "enforce", func(s *site) {
			h, err := n.AddHost("new." + s.domain)
			s.ok(err)
			s.ok(n.AddDomain(s.domain, testnet.Domain{MX: []string{h.Name}}))
			s.publish("1", "enforce", h.Name)
		}, true, true, "the next delivery takes over what is published now"},
		{"testing", "testing", func(s *site) {
			s.policyHost(testnet.PolicyFaults{Down: true})
			s.ok(s.host.Set(stripped))
		}, true, true, "mode testing, id 1"},
		{"was-none", "none", func(s *site) { s.publish("1", "enforce", "*."+s.domain); s.ok(s.host.Set(stripped)) }, true, false, "whatever is published now"},
	} {
		s := &site{t: t, n: n, domain: tt.name + ".example"}
		h, err := n.AddHost("mx1." + s.domain)
		s.ok(err)
		s.host = h
		s.ok(n.AddDomain(s.domain, testnet.Domain{MX: []string{h.Name}}))
		s.publish("1", tt.before, h.Name)
		t.Run(tt.name, func(t *testing.T) {
			running := started(t, file, relay.Options{Dial: n.DialContext, Roots: n.CA.Roots()})
			if r := command(t, "", "policy", "refresh", s.domain, "--config", file); r.status != 0 {
				t.Fatal(r.err)
			}
			tt.change(s)
			want := map[bool]int{true: 0, false: 1}
			for _, how := range []string{s.domain, s.domain + " --json"} {
				r := checkCommand(t, n, append(strings.Fields(how), "--config", file)...)
				if r.status != want[tt.goes] || r.err != "" || !strings.Contains(how, "--json") && !strings.Contains(strings.Join(strings.Fields(r.out), " "), tt.says) {
					t.Errorf("check %s: status %d, without %q:\n%s%s", how, r.status, tt.says, r.out, r.err)
				}
				if strings.Contains(how, "--json") && !strings.Contains(r.out, fmt.Sprintf(`"goes": %t`, tt.goes)) {
					t.Error(r.out)
				}
			}
			running.Queue().SetPaused(true)
			sendInClear(t, running.Addrs()[0].String(), "kurt@"+s.domain)
			if r := checkCommand(t, n, "--all-queued", "--config", file); r.status != want[tt.goes] {
				t.Errorf("check --all-queued: status %d\n%s", r.status, r.out)
			}
			running.Queue().SetPaused(false)
			if goes := left(t, running.Queue()); goes != tt.goes {
				t.Errorf("the relay has sent it: %t", goes)
			}
			if _, err := running.Queue().Remove(context.Background(), queue.Filter{}); err != nil {
				t.Error(err)
			}
		})
		if r := checkCommand(t, n, s.domain, "--config", file); r.status != map[bool]int{true: 0, false: 1}[tt.published] || strings.Contains(r.out, "In the cache") {
			t.Errorf("%s, without a relay: status %d\n%s", tt.name, r.status, r.out)
		}
	}
}

// left waits for an attempt and reports whether the message has left the queue.
func left(t *testing.T, q *queue.Queue) (gone bool) {
	t.Helper()
	await.Until(t, "an attempt", func() bool {
		tried := false
		gone = true
		err := q.List(t.Context(), queue.Filter{}, func(m queue.Message) bool {
			gone = false
			tried = tried || m.Attempts > 0 && m.State == queue.Queued
			return true
		})
		return err == nil && (gone || tried)
	})
	return gone
}
