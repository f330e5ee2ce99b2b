package check

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/outbound"
)

// patience is after how many attempts a message counts as one that waits: more than
// it takes to try 31 hosts.
const patience = 6

// manyHosts are states of a domain with n hosts, and what becomes of its mail.
var manyHosts = []struct {
	name   string
	action string
	setup  func(w *world, domain string, n int)
}{
	{"all good", "deliver", func(w *world, d string, n int) { w.ok(w.AddDomain(d, testnet.Domain{MX: w.up(d, n)})) }},
	{"all down", "wait", func(w *world, d string, n int) { w.ok(w.AddDomain(d, testnet.Domain{MX: w.down(d, n)})) }},
	{"the last is good", "deliver", func(w *world, d string, n int) {
		w.ok(w.AddDomain(d, testnet.Domain{MX: append(w.down(d, n-1), w.host("good."+d, testnet.Faults{}).Name)}))
	}},
	{"the last is good, and nobody else has an address", "deliver", func(w *world, d string, n int) {
		w.ok(w.AddDomain(d, testnet.Domain{MX: append(names(d, n-1), w.host("good."+d, testnet.Faults{}).Name)}))
	}},
	{"the policy names all", "deliver", func(w *world, d string, n int) { w.enforced(d, w.up(d, n)...) }},
	{"the policy names the last", "deliver", func(w *world, d string, n int) {
		good := w.host("good."+d, testnet.Faults{}).Name
		w.domain(d, "enforce", append(w.down(d, n-1), good), []string{good})
	}},
	{"the policy names the last, which is down", "wait", func(w *world, d string, n int) {
		mx := w.down(d, n)
		w.domain(d, "enforce", mx, mx[n-1:])
	}},
	{"the policy names none", "wait", func(w *world, d string, n int) {
		w.domain(d, "enforce", w.down(d, n), []string{"mx.elsewhere.example"})
	}},
	{"the policy is being tested and names none", "deliver", func(w *world, d string, n int) {
		w.domain(d, "testing", append(w.down(d, n-1), w.host("good."+d, testnet.Faults{}).Name), []string{"mx.elsewhere.example"})
	}},
	{"no STARTTLS but at the last", "deliver", func(w *world, d string, n int) {
		plain := w.host("plain."+d, testnet.Faults{NoStartTLS: true})
		mx := w.at(d, n-1, plain.IP)
		mx = append(mx, w.host("good."+d, testnet.Faults{}).Name)
		w.enforced(d, mx...)
	}},
	{"no host exists", "bounce", func(w *world, d string, n int) { w.ok(w.AddDomain(d, testnet.Domain{MX: names(d, n)})) }},
	{"no host exists, and the policy names none", "bounce", func(w *world, d string, n int) { w.domain(d, "enforce", names(d, n), []string{"mx.elsewhere.example"}) }},
	{"addresses in the place of hosts", "bounce", func(w *world, d string, n int) {
		for i := range n {
			w.ok(w.DNS.Add(fmt.Sprintf("%s. 60 IN MX %d 192.0.2.%d.", d, i, i+1)))
		}
	}},
	{"no host exists, and of one nobody knows", "wait", func(w *world, d string, n int) {
		mx := names(d, n)
		w.ok(w.AddDomain(d, testnet.Domain{MX: mx}))
		w.DNS.Fail(mx[n-1], "A", testnet.ServFail)
		w.DNS.Fail(mx[n-1], "AAAA", testnet.ServFail)
	}},
	{"null MX", "bounce", func(w *world, d string, n int) {
		for i := range n {
			w.ok(w.DNS.Add(fmt.Sprintf("%s. 60 IN MX %d .", d, i)))
		}
	}},
	{"null MX beside the last", "deliver", func(w *world, d string, n int) {
		w.ok(w.AddDomain(d, testnet.Domain{MX: append(w.down(d, n-1), w.host("good."+d, testnet.Faults{}).Name)}))
		w.ok(w.DNS.Add(d + ". 60 IN MX 0 ."))
	}},
	{"this relay is the best", "bounce", func(w *world, d string, n int) {
		w.ok(w.AddDomain(d, testnet.Domain{MX: append([]string{w.options.Hostname}, names(d, n-1)...)}))
	}},
	{"this relay is the last", "", func(w *world, d string, n int) {
		w.ok(w.AddDomain(d, testnet.Domain{MX: append(w.down(d, n-1), w.options.Hostname)}))
	}},
}

// names are names of hosts that do not exist.
func names(domain string, n int) (mx []string) {
	for i := range n {
		mx = append(mx, fmt.Sprintf("mx%d.%s", i, domain))
	}
	return mx
}

// at lets names lead to an address.
func (w *world) at(domain string, n int, ip string) []string {
	w.t.Helper()
	mx := names(domain, n)
	for _, name := range mx {
		w.ok(w.DNS.Add(name + ". 60 IN A " + ip))
	}
	return mx
}

// down are hosts that refuse connections, each at an address of its own.
func (w *world) down(domain string, n int) []string {
	w.t.Helper()
	mx := names(domain, n)
	for i, name := range mx {
		w.ok(w.DNS.Add(fmt.Sprintf("%s. 60 IN A 127.255.255.%d", name, i+1)))
	}
	return mx
}

// up are hosts that take mail.
func (w *world) up(domain string, n int) (mx []string) {
	w.t.Helper()
	for _, name := range names(domain, n) {
		mx = append(mx, w.host(name, testnet.Faults{}).Name)
	}
	return mx
}

// However many hosts a domain has: what a check says of it, becomes of its mail.
func TestManyHostsAreCheckedAsTheyAreTried(t *testing.T) {
	t.Parallel()
	w := newPatientWorld(t)
	w.host(w.options.Hostname, testnet.Faults{})
	var all []*sent
	for i, s := range manyHosts {
		for _, n := range []int{1, 2, 11, 31} {
			d := fmt.Sprintf("d%d-%d.example", i, n)
			s.setup(w, d, n)
			w.DNS.Fail(d, "MX", testnet.Truncate) // so that it is asked over TCP
			all = append(all, &sent{what: fmt.Sprintf("%d hosts: %s", n, s.name), domain: d, action: s.action})
		}
	}
	w.compare(all)
	for _, s := range all {
		if p := s.report.Policy; p != nil && strings.Contains(s.what, "names all") && len(p.Problems) > 0 {
			t.Errorf("%s: %+v", s.what, p.Problems)
		}
	}
}

// Every state of a domain, behind hosts that are down.
func TestEveryStateIsCheckedAsItIsTriedOverManyHosts(t *testing.T) {
	t.Parallel()
	w := newPatientWorld(t)
	defaults := w.options
	var all []*sent
	for _, s := range scenarios {
		for _, n := range []int{2, 11, 31} {
			d := fmt.Sprintf("d%d.%s.example", n, s.name)
			w.options = defaults
			s.setup(w, d)
			if reflect.DeepEqual(bare(w.options), bare(defaults)) && w.addHosts(d, n) {
				w.DNS.Fail(d, "MX", testnet.Truncate)
				all = append(all, &sent{what: fmt.Sprintf("%d hosts: %s", n, s.name), domain: d})
			}
		}
	}
	w.options = defaults
	if len(all) < 100 {
		t.Errorf("only %d states", len(all))
	}
	w.compare(all)
}

// newPatientWorld is a world whose resolver waits for a machine that is busy.
func newPatientWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldAt(t, time.Now)
	resolver, err := dnsclient.New(dnsclient.Options{Servers: []string{w.DNS.Addr()}, Timeout: 20 * time.Second})
	w.ok(err)
	t.Cleanup(func() { _ = resolver.Close() })
	w.options.Resolver = resolver
	return w
}

// addHosts puts hosts that are down before those of a domain, up to n. It reports
// whether that is possible.
func (w *world) addHosts(d string, n int) bool {
	w.t.Helper()
	resolver, err := dnsclient.New(dnsclient.Options{Servers: []string{w.DNS.Addr()}}) // it keeps nothing for later
	w.ok(err)
	defer resolver.Close()
	mx, err := resolver.MX(w.t.Context(), d)
	if err != nil || len(mx.Records) >= n || mx.Records[0].Host == "." {
		return false
	}
	w.DNS.Remove(d, "MX")
	for i, name := range w.down(d+".down.example", n-len(mx.Records)) {
		w.ok(w.DNS.Add(fmt.Sprintf("%s. 60 IN MX %d %s.", d, i, name)))
	}
	for _, r := range mx.Records {
		w.ok(w.DNS.Add(fmt.Sprintf("%s. 60 IN MX %d %s.", d, 1000+r.Preference, r.Host)))
	}
	return true
}

// sent is a message to a domain that was checked.
type sent struct {
	what, domain string
	action       string // what has to become of it; "": what the check says
	report       *Report
	id           ulid.ULID
}

// compare sends a message to each domain, and compares its fate with what a check
// says.
func (w *world) compare(all []*sent) {
	t := w.t
	w.options.Timeout = time.Minute // of a machine that is busy
	var later atomic.Int64
	r := w.relay(t, nil, "retry = [\"1s\"]\n", func() time.Time { return time.Now().Add(time.Duration(later.Load())) })
	for _, s := range all {
		s.id = send(t, r.Addrs()[0].String(), "kurt@"+s.domain)
	}
	var checks sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, s := range all {
		checks.Go(func() {
			slots <- struct{}{}
			s.report = Run(t.Context(), s.domain, w.options)
			<-slots
		})
	}
	checks.Wait()
	// Nothing waits for its schedule, or for the back-off of its domain.
	ctx, stop := context.WithCancel(t.Context())
	var retries sync.WaitGroup
	retries.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, err := r.Queue().Retry(ctx, queue.Filter{}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	defer retries.Wait()
	defer stop()
	for _, s := range all {
		await.Until(t, s.what, func() bool {
			m, err := r.Queue().Show(s.id)
			return err != nil || m.Attempts >= patience || m.Attempts > 0 && m.States[0].ReasonCode == "dns-no-host"
		})
	}
	later.Store(int64(outbound.SecondLook))
	for _, s := range all {
		action, why := "wait", ""
		await.Until(t, s.what, func() bool {
			m, err := r.Queue().Show(s.id)
			if err != nil {
				action = "bounce"
				return true
			}
			why = m.States[0].LastError
			return m.Attempts > patience && m.States[0].ReasonCode != "dns-no-host"
		})
		at := w.receiver(s.domain)
		if at != "" {
			action = "deliver"
		}
		said := s.report.Outcome
		if strings.HasSuffix(said.Text.String(), "; after two attempts mail goes on without") && action == "deliver" {
			continue // it was tried that often
		}
		if said.Action != action || said.Address != at || s.action != "" && s.action != action {
			t.Errorf("%s: the check says %q, the relay does %q at %q (%s)", s.what, said.Text, action, at, why)
		}
	}
}
