package dnsclient

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestWhetherAResolverAnswers(t *testing.T) {
	reply := func(rcode func(name string) int) string {
		return rude(t, func(q *dns.Msg, _ bool) [][]byte {
			m := goodReply(q)
			if m.Rcode = rcode(q.Question[0].Name); m.Rcode < 0 {
				return nil
			}
			return [][]byte{packed(m)}
		})
	}
	always := func(rcode int) string { return reply(func(string) int { return rcode }) }
	for _, tt := range []struct {
		name    string
		servers []string
		want    string // in the error, "" for none
	}{
		{"it does", []string{always(dns.RcodeSuccess)}, ""},
		{"it knows of no root zone", []string{always(dns.RcodeNameError)}, ""},
		{"it keeps the root zone to itself", []string{reply(func(name string) int {
			if name == "." {
				return dns.RcodeRefused
			}
			return dns.RcodeSuccess
		})}, ""},
		{"it reaches nobody", []string{always(dns.RcodeServerFailure)}, "it answers SERVFAIL"},
		{"it is silent", []string{always(-1)}, "timeout"},
		{"the second one does", []string{always(dns.RcodeServerFailure), always(dns.RcodeSuccess)}, ""},
		{"none of two does", []string{always(dns.RcodeServerFailure), always(dns.RcodeRefused)}, "it answers REFUSED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClient(t, Options{Servers: tt.servers})
			err := c.Answers(t.Context())
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
