package dnsclient

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// rude is a server with a hand-written answer to each exchange. reply may send
// what it likes; it returns the octets, nil for none.
func rude(t testing.TB, reply func(q *dns.Msg, udp bool) [][]byte) (addr string) {
	t.Helper()
	z := &zone{raw: reply}
	z.start(t, nil)
	return z.addr
}

func packed(m *dns.Msg) []byte { return must(m.Pack()) }

// goodReply answers every question for MX records, and the root zone's.
func goodReply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.AuthenticatedData, m.RecursionAvailable = true, true
	if name := q.Question[0].Name; q.Question[0].Qtype == dns.TypeMX {
		m.Answer = []dns.RR{must(dns.NewRR(name + " 60 IN MX 10 mx.example."))}
	} else if name == "." {
		m.Answer = []dns.RR{must(dns.NewRR(". 60 IN NS a.root-servers.net."))}
	}
	return m
}

// A server that cannot take an OPT record is asked without, its AD bit does not
// count, and the operator is told once.
func TestAServerWithoutEDNS(t *testing.T) {
	withRcode := func(rcode int) func(*dns.Msg) []byte {
		return func(q *dns.Msg) []byte {
			m := new(dns.Msg).SetRcode(q, rcode)
			return packed(m)
		}
	}
	for name, toOPT := range map[string]func(q *dns.Msg) []byte{
		"FORMERR":  withRcode(dns.RcodeFormatError),
		"NOTIMP":   withRcode(dns.RcodeNotImplemented),
		"SERVFAIL": withRcode(dns.RcodeServerFailure),
		"REFUSED":  withRcode(dns.RcodeRefused),
		"BADVERS": func(q *dns.Msg) []byte {
			m := new(dns.Msg).SetRcode(q, dns.RcodeBadVers)
			m.SetEdns0(512, false)
			return packed(m)
		},
		"silence":       func(*dns.Msg) []byte { return nil },
		"only a header": func(q *dns.Msg) []byte { return []byte{byte(q.Id >> 8), byte(q.Id), 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0} },
		"FORMERR, no QD": func(q *dns.Msg) []byte {
			return packed(&dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Rcode: dns.RcodeFormatError}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var withOPT, withoutOPT atomic.Int64
			addr := rude(t, func(q *dns.Msg, _ bool) [][]byte {
				if q.IsEdns0() != nil {
					withOPT.Add(1)
					return [][]byte{toOPT(q)}
				}
				withoutOPT.Add(1)
				return [][]byte{packed(goodReply(q))}
			})
			var log bytes.Buffer
			c := newTestClient(t, Options{Servers: []string{addr}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			for i := range 5 {
				mx, err := c.MX(t.Context(), fmt.Sprintf("d%d.example", i))
				if err != nil || mx.Records[0].Host != "mx.example" || mx.Secure {
					t.Fatalf("%+v, %v", mx, err)
				}
			}
			if n := withOPT.Load(); n > 3 {
				t.Errorf("asked with OPT %d times", n)
			}
			if n := withoutOPT.Load(); n != 6 { // the root zone too
				t.Errorf("asked without OPT %d times", n)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), addr) {
				t.Errorf("%d warnings: %s", n, &log)
			}
			if s := c.Servers()[0]; s.Believed || s.Validation != ValidatesNothing {
				t.Errorf("%+v", s)
			}
		})
	}
}

// That is found out at start, before mail waits for it.
func TestTheProbeFindsAServerThatIsSilentToEDNS(t *testing.T) {
	addr := rude(t, func(q *dns.Msg, _ bool) [][]byte {
		if q.IsEdns0() != nil {
			return nil
		}
		return [][]byte{packed(goodReply(q))}
	})
	c := newTestClient(t, Options{Servers: []string{addr}, Timeout: 5 * time.Second})
	began := time.Now()
	c.Probe(t.Context())
	if s := c.Servers()[0]; s.Believed || s.Validation != ValidatesNothing || time.Since(began) > 2*probeTimeout {
		t.Errorf("%+v after %s", s, time.Since(began))
	}
}

// One question that goes unanswered says nothing about the server: its AD bit goes
// on to count, and a failure stays one.
func TestOneFailureIsNoLackOfEDNS(t *testing.T) {
	var failures atomic.Int64
	addr := rude(t, func(q *dns.Msg, _ bool) [][]byte {
		m := goodReply(q)
		switch {
		case q.Question[0].Name == "bogus.example.":
			m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		case q.Question[0].Name == "once.example." && q.IsEdns0() != nil && failures.Add(1) == 1:
			return nil // lost; what comes without OPT is not to be taken for it
		}
		return [][]byte{packed(m)}
	})
	c := newTestClient(t, Options{Servers: []string{addr}, Attempts: 1})
	s := c.servers[0]
	s.learn(func(k *state) { k.probed, k.validation = time.Now(), Validates }) // but EDNS was never seen
	if _, err := c.MX(t.Context(), "bogus.example"); !errors.Is(err, ErrTemporary) {
		t.Errorf("bogus: %v", err)
	}
	s.learn(func(k *state) { k.edns = time.Time{} })
	if mx, err := c.MX(t.Context(), "once.example"); err != nil || !mx.Secure {
		t.Errorf("an answer that was lost once: %+v, %v", mx, err)
	}
	if mx, err := c.MX(t.Context(), "good.example"); err != nil || !mx.Secure {
		t.Errorf("%+v, %v", mx, err)
	}
}

// A server without EDNS is tried again after a while: it may be another now.
func TestTheLackOfEDNSIsForgotten(t *testing.T) {
	var modern atomic.Bool
	addr := rude(t, func(q *dns.Msg, _ bool) [][]byte {
		if q.IsEdns0() != nil && !modern.Load() {
			return [][]byte{packed(new(dns.Msg).SetRcode(q, dns.RcodeFormatError))}
		}
		return [][]byte{packed(goodReply(q))}
	})
	now := time.Now()
	c := newTestClient(t, Options{Servers: []string{addr}, Now: func() time.Time { return now }})
	if mx, err := c.MX(t.Context(), "a.example"); err != nil || mx.Secure {
		t.Errorf("%+v, %v", mx, err)
	}
	modern.Store(true)
	now = now.Add(ednsMemory)
	if mx, err := c.MX(t.Context(), "b.example"); err != nil || !mx.Secure {
		t.Errorf("%+v, %v", mx, err)
	}
}

// What is larger than was asked for is read, or asked for over TCP.
func TestLargeAnswers(t *testing.T) {
	for _, tt := range []struct {
		records, octets int
		tcp             bool
	}{{20, 300, false}, {60, 1000, true}} {
		var overTCP atomic.Bool
		addr := rude(t, func(q *dns.Msg, udp bool) [][]byte {
			m := goodReply(q)
			if q.Question[0].Qtype == dns.TypeTXT {
				for i := range tt.records {
					parts := []string{fmt.Sprintf("v=%04d", i)}
					for range tt.octets / 250 {
						parts = append(parts, strings.Repeat("x", 250))
					}
					m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: "a.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: parts})
				}
				overTCP.Store(!udp)
			}
			return [][]byte{packed(m)}
		})
		c := newTestClient(t, Options{Servers: []string{addr}})
		txt, err := c.TXT(t.Context(), "a.example", false)
		if err != nil || len(txt.Records) != tt.records || !txt.Secure || overTCP.Load() != tt.tcp {
			t.Errorf("%+v: %d records, %v, over TCP %t", tt, len(txt.Records), err, overTCP.Load())
		}
	}
}

// Anybody can send something to the port: the wait goes on (RFC 5452, 9.1).
func TestAnswersToOtherQuestionsAreDropped(t *testing.T) {
	other := func(change func(m *dns.Msg)) func(q *dns.Msg) []byte {
		return func(q *dns.Msg) []byte {
			m := goodReply(q)
			m.Answer = []dns.RR{must(dns.NewRR(q.Question[0].Name + " 60 IN MX 10 forged.example."))}
			change(m)
			return packed(m)
		}
	}
	for name, forged := range map[string]func(q *dns.Msg) []byte{
		"another name":  other(func(m *dns.Msg) { m.Question[0].Name = "evil.example." }),
		"another type":  other(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }),
		"another class": other(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		"another ID":    other(func(m *dns.Msg) { m.Id++ }),
		"no question":   other(func(m *dns.Msg) { m.Question = nil }),
		"a question":    other(func(m *dns.Msg) { m.Response = false }),
		"a few octets":  func(*dns.Msg) []byte { return []byte("junk") },
		"a name of loops": func(q *dns.Msg) []byte {
			return []byte{byte(q.Id >> 8), byte(q.Id), 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 15, 0, 1}
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := rude(t, func(q *dns.Msg, _ bool) [][]byte {
				if q.Question[0].Qtype != dns.TypeMX {
					return [][]byte{packed(goodReply(q))}
				}
				return [][]byte{forged(q), forged(q), packed(goodReply(q))}
			})
			c := newTestClient(t, Options{Servers: []string{addr}, Attempts: 1})
			if mx, err := c.MX(t.Context(), "a.example"); err != nil || mx.Records[0].Host != "mx.example" {
				t.Errorf("%+v, %v", mx, err)
			}
		})
	}
}

// A record counts only in an answer whose code is NOERROR, and an AD bit in one
// that says something of the name.
func TestWhatComesWithAFailureDoesNotCount(t *testing.T) {
	for _, tt := range []struct {
		rcode int
		want  error
	}{{dns.RcodeServerFailure, ErrTemporary}, {dns.RcodeRefused, ErrTemporary}, {dns.RcodeNameError, ErrNXDomain}, {dns.RcodeNotAuth, ErrTemporary}, {dns.RcodeYXDomain, ErrTemporary}} {
		addr := rude(t, func(q *dns.Msg, _ bool) [][]byte {
			m := goodReply(q)
			if q.Question[0].Name != "." {
				m.Rcode = tt.rcode
				m.Answer = append(m.Answer,
					must(dns.NewRR(q.Question[0].Name+" 60 IN A 192.0.2.1")), must(dns.NewRR(q.Question[0].Name+` 60 IN TXT "v=STSv1; id=1"`)),
					must(dns.NewRR(q.Question[0].Name+" 60 IN TLSA 3 1 1 0102")))
			}
			return [][]byte{packed(m)}
		})
		c := newTestClient(t, Options{Servers: []string{addr}})
		_, mxErr := c.MX(t.Context(), "a.example")
		_, addrErr := c.Addrs(t.Context(), "a.example")
		_, txtErr := c.TXT(t.Context(), "a.example", false)
		_, tlsaErr := c.TLSA(t.Context(), "a.example")
		for _, err := range []error{mxErr, addrErr, txtErr, tlsaErr} {
			e, ok := errors.AsType[*Error](err)
			if !ok || !errors.Is(err, tt.want) || e.Secure != errors.Is(tt.want, ErrNXDomain) {
				t.Errorf("%s: %+v, %v", dns.RcodeToString[tt.rcode], e, err)
			}
		}
	}
}

// A server that only refers to others says nothing about the name.
func TestAReferralIsNoAnswer(t *testing.T) {
	addr := rude(t, func(q *dns.Msg, _ bool) [][]byte {
		m := new(dns.Msg).SetReply(q)
		m.Ns = []dns.RR{must(dns.NewRR("example. 60 IN NS ns.example."))}
		return [][]byte{packed(m)}
	})
	if _, err := newTestClient(t, Options{Servers: []string{addr}}).MX(t.Context(), "a.example"); !errors.Is(err, ErrTemporary) || !strings.Contains(err.Error(), "referral") {
		t.Errorf("%v", err)
	}
}
