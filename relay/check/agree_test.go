package check

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
)

// What a check says, a relay does: every scenario is checked, and then gets a
// message by a real relay in the same Internet. One relay has one set of options, and
// none logs in at a fake host.
func TestARelayDoesWhatACheckSays(t *testing.T) {
	w := newWorldAt(t, time.Now)
	defaults := w.options
	groups := make(map[string]*group)
	for _, s := range scenarios {
		w.options = defaults
		d := "d." + s.name + ".example"
		s.setup(w, d)
		rules := w.options.Rules
		if strings.Contains(s.name, "rule-route") && s.name != "rule-route-nowhere" {
			continue
		}
		w.options.Rules = nil
		key := fmt.Sprintf("%+v", bare(w.options))
		if groups[key] == nil {
			groups[key] = &group{options: w.options, rules: make(outbound.Rules), domains: make(map[string]string)}
		}
		groups[key].domains[s.name] = d
		maps.Copy(groups[key].rules, rules)
	}
	for _, g := range groups {
		w.options = g.options
		w.options.Rules = g.rules
		t.Run(g.name(), func(t *testing.T) { w.agree(t, g.domains) })
	}
}

// group are the scenarios, and their domains, of one set of options.
type group struct {
	options Options
	rules   outbound.Rules
	domains map[string]string
}

func (g *group) name() string {
	return fmt.Sprintf("plaintext=%t private=%t family=%s", !g.options.RefusePlaintext, g.options.AllowPrivate, cmp.Or(g.options.Family, outbound.AnyFamily))
}

func (w *world) agree(t *testing.T, domains map[string]string) {
	r := w.relay(t, w.options.Rules, "", nil)
	checked := make(map[string]*Report)
	ids := make(map[string]ulid.ULID)
	for name, d := range domains {
		checked[name] = Run(t.Context(), d, w.options)
		ids[name] = send(t, r.Addrs()[0].String(), "kurt@"+d)
	}
	for name, c := range checked {
		action, why := fate(t, r.Queue(), ids[name])
		if action == "gone" {
			if action = "bounce"; w.receiver(domains[name]) != "" {
				action = "deliver"
			}
		}
		if action != c.Outcome.Action {
			t.Errorf("%s: the check says %q, the relay does %q (%s)", name, c.Outcome.Text, action, why)
		}
		if action == "deliver" && w.receiver(domains[name]) != c.Outcome.Address {
			t.Errorf("%s: the check says %s, the relay sent it to %s", name, c.Outcome.Address, w.receiver(domains[name]))
		}
	}
	t.Logf("%d scenarios", len(domains))
}

// bare leaves out what cannot be compared.
func bare(o Options) Options {
	o.Dial, o.Now, o.IsSelf = nil, nil, nil
	return o
}

// relay starts a relay in the world. keys go into the table [delivery]; now is its
// clock, nil for the real one.
func (w *world) relay(t testing.TB, rules outbound.Rules, keys string, now func() time.Time) Running {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "stsrelay.toml")
	words := map[bool]string{true: "allow", false: "refuse"}
	text := fmt.Sprintf("hostname = %q\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[dns]\nservers = [%q]\n[limits]\nfree_space = \"64MiB\"\n"+
		"[delivery]\nprivate_addresses = %q\nplaintext = %q\nip_family = %q\n",
		w.options.Hostname, dir, w.DNS.Addr(), words[w.options.AllowPrivate], words[!w.options.RefusePlaintext], cmp.Or(w.options.Family, outbound.AnyFamily)) + keys
	for name, r := range rules {
		text += fmt.Sprintf("[[domain]]\nname = %q\noverride_policy = %t\n", name, r.Override)
		if level := levelName(&outbound.Destination{Rule: r}); level != "" {
			text += fmt.Sprintf("tls = %q\n", level)
		}
		if r.Route != nil {
			text += fmt.Sprintf("route = \"%s:%d\"\nmx = %t\nfallback = %q\n", r.Route.Host, r.Route.Port, r.Route.MX, r.Fallback)
		}
	}
	w.ok(os.WriteFile(file, []byte(text), 0o600))
	return StartRelay(t, file, w.DialContext, w.CA.Roots(), now)
}

// Running is a relay, of which a test needs no more than this.
type Running interface {
	Addrs() []net.Addr
	Queue() *queue.Queue
}

// StartRelay starts a relay with a configuration file, in a world that dial and roots lead
// to, until the end of the test. TestMain sets it: a relay imports this package.
var StartRelay func(t testing.TB, file string, dial outbound.DialFunc, roots *x509.CertPool, now func() time.Time) Running

// send hands a message to the relay and returns its queue ID.
func send(t testing.TB, addr, to string) ulid.ULID {
	t.Helper()
	c, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, step := range []struct {
		code int
		line string
	}{{250, "EHLO test"}, {250, "MAIL FROM:<>"}, {250, "RCPT TO:<" + to + ">"}, {354, "DATA"}, {250, "Subject: test\r\n\r\nhello\r\n."}} {
		if _, err := c.Text.Cmd("%s", step.line); err != nil {
			t.Fatal(err)
		}
		_, msg, err := c.Text.ReadResponse(step.code)
		if err != nil {
			t.Fatal(err)
		}
		if _, id, ok := strings.Cut(msg, "queued as "); ok {
			parsed, err := ulid.ParseStrict(id)
			if err != nil {
				t.Fatal(err)
			}
			return parsed
		}
	}
	t.Fatal("no queue ID")
	return ulid.ULID{}
}

// fate waits until a message was tried and tells whether it waits or is gone.
// Nobody is told of a bounce: its sender is null.
func fate(t *testing.T, q *queue.Queue, id ulid.ULID) (action, why string) {
	t.Helper()
	await.Until(t, "an attempt of "+id.String(), func() bool {
		m, err := q.Show(id)
		switch {
		case err != nil:
			action = "gone"
		case m.Attempts == 0 || m.State != queue.Queued:
			return false
		default:
			action, why = "wait", m.States[0].LastError
			if m.States[0].ReasonCode == failure.NoHost.Code() { // it is looked at once more
				action = "bounce"
			}
		}
		return true
	})
	return action, why
}

// receiver is the address of the host that has a message for a domain.
func (w *world) receiver(domain string) string {
	for _, h := range w.hosts {
		for _, m := range h.Messages() {
			if strings.HasSuffix(m.To, "@"+domain) {
				return h.IP
			}
		}
	}
	return ""
}
