package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// homelessStates are domains whose records lead to no host that has an address, and
// the beginning of what is said of them; and domains that are no such case.
var homelessStates = []struct {
	name    string
	records []string
	fails   string // "name type" of a lookup without an answer
	says    string // "" where it is no such case
}{
	{"neither MX nor address", []string{`d.example. 60 IN TXT "x"`}, "", "d.example has no mail host: there is neither an MX record nor an address"},
	{"an address", []string{"d.example. 60 IN MX 10 192.0.2.1."}, "", "d.example has no mail host: the MX record holds the address 192.0.2.1 instead of the name of a host"},
	{"an address of the other family", []string{"d.example. 60 IN MX 10 2001:db8::1."}, "", "d.example has no mail host: the MX record holds the address 2001:db8::1 instead"},
	{"an address in brackets", []string{"d.example. 60 IN MX 10 [192.0.2.1]."}, "", "d.example has no mail host: the MX record holds the address [192.0.2.1] instead"},
	{"an address in one label", []string{`d.example. 60 IN MX 10 192\.0\.2\.1.`}, "", "d.example has no mail host: the MX record holds the address"},
	{"no such name", []string{"d.example. 60 IN MX 10 mx.d.example."}, "", "d.example has no mail host: mx.d.example does not exist"},
	{"a name without address", []string{"d.example. 60 IN MX 10 mx.d.example.", `mx.d.example. 60 IN TXT "x"`}, "", "d.example has no mail host: mx.d.example has no address"},
	{"an alias of nothing", []string{"d.example. 60 IN MX 10 mx.d.example.", "mx.d.example. 60 IN CNAME gone.d.example."}, "", "d.example has no mail host: mx.d.example does not exist"},
	{"several", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 10 192.0.2.1.", "d.example. 60 IN MX 0 ."}, "", "d.example has no mail host: the MX record holds the address 192.0.2.1 instead of the name of a host, mx.d.example does not exist"},
	{"this relay behind no host", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 relay.test.example.", "relay.test.example. 60 IN A 127.0.0.1"}, "", "d.example has no mail host: mx.d.example does not exist"},
	{"one host has an address", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 down.d.example.", "down.d.example. 60 IN A 127.255.255.254"}, "", ""},
	{"one host is not known of", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 other.d.example."}, "other.d.example A", ""},
	{"the address is not known of", []string{`d.example. 60 IN TXT "x"`}, "d.example AAAA", ""},
	{"a private address", []string{"d.example. 60 IN MX 10 mx.d.example.", "mx.d.example. 60 IN A 10.0.0.1"}, "", ""},
}

// A domain that has no host at all is looked at twice, a quarter of an hour apart;
// then its mail is given up.
func TestADomainWithoutAHostIsGivenUpAfterASecondLook(t *testing.T) {
	for _, tt := range homelessStates {
		for _, mode := range []string{"", "enforce"} {
			t.Run(tt.name+mode, func(t *testing.T) {
				t.Parallel()
				w, back := newHomelessWorld(t)
				w.records(tt.records)
				if mode != "" && tt.name != "one host is not known of" {
					if err := w.SetPolicy("d.example", policyFor(mode, "mx.elsewhere.example")); err != nil {
						t.Fatal(err)
					}
				}
				if name, qtype, ok := strings.Cut(tt.fails, " "); ok {
					w.DNS.Fail(name, qtype, testnet.ServFail)
				}
				id := w.send("anna@sender.example", "kurt@d.example")
				s := w.waits(id)
				if (s.ReasonCode == "dns-no-host") != (tt.says != "") || !strings.HasPrefix(s.LastError, "4.4.4 "+tt.says) && tt.says != "" {
					t.Fatalf("first: %+v", s)
				}
				m, _ := w.attempted(id)
				if left := time.Until(m.NextAttemptAt); tt.says != "" && (left < 14*time.Minute || left > 15*time.Minute) {
					t.Errorf("the next attempt is in %s", left)
				}
				w.again(10 * time.Minute)
				if s := w.waitsFor(id, 2); tt.says != "" && !strings.Contains(s.LastError, "in 5m0s") {
					t.Errorf("after ten minutes: %+v", s)
				}
				w.again(5 * time.Minute)
				if tt.says == "" {
					w.waitsFor(id, 3)
					return
				}
				w.gone(id)
				if got := string(w.wait(back, 1)[0].Data); !strings.Contains(got, "Status: 5.4.4") || !strings.Contains(got, "has no mail server") {
					t.Errorf("%s", got)
				}
				// Another message within the hour needs no third look.
				w.again(10 * time.Minute)
				w.gone(w.send("anna@sender.example", "olga@d.example"))
			})
		}
	}
}

// The second look goes past the cache, and a host that it finds gets the mail at
// once.
func TestTheSecondLookFindsAHost(t *testing.T) {
	for _, records := range [][]string{
		{"d.example. 86400 IN MX 10 192.0.2.1."},
		{"d.example. 86400 IN MX 10 mx.other.example.", "mx.other.example. 86400 IN CNAME gone.example."},
	} {
		w, _ := newHomelessWorld(t)
		w.records(records)
		id := w.send("anna@sender.example", "kurt@d.example")
		w.waits(id)
		h := w.host("mx.d.example")
		w.domain("d.example", testnet.Domain{MX: []string{h.Name}})
		w.again(15 * time.Minute)
		w.wait(h, 1)
		w.gone(id)
	}
}

// newHomelessWorld is a world with a clock, and the host that gets the notices.
func newHomelessWorld(t *testing.T) (w *world, back *testnet.Host) {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w = &world{Net: n, t: t, dir: t.TempDir(), clock: newClock()}
	back = w.host("mx.sender.example")
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.start("retry = [\"1h\"]\n")
	return w, back
}

func (w *world) records(records []string) {
	w.t.Helper()
	if err := w.DNS.Add(records...); err != nil {
		w.t.Fatal(err)
	}
}

// again moves the clock and makes all mail due.
func (w *world) again(d time.Duration) {
	w.t.Helper()
	w.clock.set(w.clock.Now().Add(d))
	if _, err := w.relay.Queue().Retry(w.t.Context(), queue.Filter{}); err != nil {
		w.t.Fatal(err)
	}
}

// waitsFor waits until a message was put off for the n-th time.
func (w *world) waitsFor(id string, n int) (s queue.RecipientState) {
	w.t.Helper()
	w.waitFor("attempt", func(q *queue.Queue) bool {
		m, err := q.Show(ulid.MustParse(id))
		if err != nil {
			w.t.Fatalf("it has left the queue: %v", err)
		}
		s = m.States[0]
		return m.Attempts >= n
	})
	return s
}
