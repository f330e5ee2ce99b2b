package dnsclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

const (
	// maxAliases is the longest chain of CNAMEs that is followed.
	maxAliases = 8
	// maxTTL bounds how long an answer is kept, failureTTL how long the lack
	// of one is (RFC 9520, 3.2).
	maxTTL     = 24 * time.Hour
	failureTTL = 5 * time.Second
)

// resolve asks the servers, following CNAMEs that they did not follow.
func (c *Client) resolve(ctx context.Context, q question) *answer {
	result := &answer{secure: true, ttl: maxTTL}
	began := time.Now()
	first := dns.Fqdn(q.name)
	name := first
	for range maxAliases + 1 {
		r, err := c.exchange(ctx, name, q.qtype)
		result.took = time.Since(began)
		if err != nil {
			return c.failed(q, result, &Error{Kind: ErrTemporary, Err: err, Server: r.server})
		}
		msg := r.msg
		if !answered(msg, nil) {
			// Nothing that comes with such a code counts, whatever is in it (RFC 7672, 2.1.1).
			return c.failed(q, result, &Error{Kind: ErrTemporary, Rcode: msg.Rcode, EDE: extendedError(msg), Server: r.server, bogus: isBogus(msg)})
		}
		result.secure = result.secure && r.secure
		end, more := result.read(msg, name, q.qtype)
		if end != "" && end != first {
			result.alias = canonical(end)
		}
		switch {
		case msg.Rcode == dns.RcodeNameError:
			return c.failed(q, result, &Error{Kind: ErrNXDomain, Rcode: msg.Rcode, Server: r.server}).deniedBy(msg, result.ttl)
		case result.records.n > 0:
			result.records.finish()
			return result
		case isReferral(msg):
			return c.failed(q, result, &Error{Kind: ErrTemporary, Err: phrase.Errorf("a referral to other servers instead of an answer: this server does not resolve"), Server: r.server})
		case !more:
			return c.failed(q, result, &Error{Kind: ErrNoData, Server: r.server}).deniedBy(msg, result.ttl)
		}
		name = end
	}
	return c.failed(q, result, &Error{Kind: ErrTemporary, Err: phrase.Errorf("more than %d aliases", maxAliases)})
}

func (c *Client) failed(q question, result *answer, e *Error) *answer {
	e.Name, e.Type = q.name, dns.TypeToString[q.qtype]
	temporary := errors.Is(e.Kind, ErrTemporary)
	e.Secure = result.secure && !temporary
	ttl := time.Duration(0)
	if temporary {
		ttl = failureTTL
	}
	return &answer{err: e, ttl: ttl, secure: e.Secure, took: result.took}
}

// deniedBy sets how long a denial is kept: by the SOA record that came with it, not at
// all without one (RFC 2308, 5), and no longer than the aliases that lead to the name.
func (a *answer) deniedBy(msg *dns.Msg, aliases time.Duration) *answer {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			a.ttl = min(time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second, aliases)
		}
	}
	return a
}

// read reads the records of msg: the aliases from name on, then the records at their end.
// more reports whether an alias leads to a name about which msg has nothing. Of the answer
// that a name does not exist, only the aliases count.
func (a *answer) read(msg *dns.Msg, name string, qtype uint16) (end string, more bool) {
	end = name
	for range maxAliases {
		next := ""
		for _, rr := range msg.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, end) || h.Class != dns.ClassINET {
				continue
			}
			switch {
			case h.Rrtype == qtype && msg.Rcode == dns.RcodeSuccess:
				a.records.add(rr)
				a.ttl = min(a.ttl, time.Duration(h.Ttl)*time.Second)
			case h.Rrtype == dns.TypeCNAME:
				next = strings.ToLower(rr.(*dns.CNAME).Target)
				a.ttl = min(a.ttl, time.Duration(h.Ttl)*time.Second)
			}
		}
		if a.records.n > 0 || next == "" {
			return end, more
		}
		end, more = next, true
	}
	return end, more
}

// isReferral reports whether msg is the answer of a server that does not resolve for
// others (RFC 2308, 2.2). It names other servers; that does not mean that there is no
// record.
func isReferral(msg *dns.Msg) bool {
	ns := false
	for _, rr := range msg.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			ns = true
		}
	}
	return ns && !msg.RecursionAvailable && !msg.Authoritative && len(msg.Answer) == 0
}

// reply is the answer of a server, or the server that was asked last.
type reply struct {
	msg    *dns.Msg
	server string
	secure bool // it was validated, by a server that is believed
}

// exchange asks one server after the other until one has an answer, Options.Attempts
// times. Where a server that is believed works and has no answer to this question, no
// server that is not believed is asked: it would accept records that the first one has
// found to be forged. After a
// SERVFAIL, no server that is silent is asked.
func (c *Client) exchange(ctx context.Context, name string, qtype uint16) (last reply, err error) {
	servers := inOrder(ctx, c.current())
	if len(servers) == 0 {
		return last, phrase.Errorf("no DNS server is configured")
	}
	guarded, failed := false, false
	for range c.o.Attempts {
		spoken := true
		for _, s := range servers {
			if ctx.Err() != nil {
				return last, ctx.Err()
			}
			if failed && s.known().silent {
				continue
			}
			if guarded {
				if s.refresh(ctx); !s.believed() {
					continue
				}
			}
			r, qerr := s.query(ctx, name, qtype)
			last, err = reply{msg: r, server: s.Address.String()}, qerr
			switch {
			case answered(r, err):
				if s.known().silent {
					s.setSilent(nil)
				}
				s.refresh(ctx)
				last.secure = r.AuthenticatedData && s.believed()
				return last, nil
			case errors.Is(err, errTooManyRecords):
				return last, err
			}
			failed, spoken = failed || err == nil && r.Rcode == dns.RcodeServerFailure, spoken && err == nil
			if err != nil && len(servers) > 1 {
				s.look(ctx)
			}
			guarded = guarded || len(servers) > 1 && s.believed() && s.stillValidates(ctx)
		}
		if spoken {
			break
		}
	}
	return last, err
}

func extendedError(msg *dns.Msg) string {
	opt := msg.IsEdns0()
	if opt == nil {
		return ""
	}
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			s := fmt.Sprintf("%d (%s)", e.InfoCode, dns.ExtendedErrorCodeToString[e.InfoCode])
			if e.ExtraText != "" {
				s += fmt.Sprintf(": %q", e.ExtraText)
			}
			return s
		}
	}
	return ""
}

// isBogus reports whether msg says that validation failed: by an extended error, or as
// systemd-resolved does, by a failure that brings the records along.
func isBogus(msg *dns.Msg) bool {
	if msg.Rcode == dns.RcodeServerFailure && len(msg.Answer) > 0 {
		return true
	}
	opt := msg.IsEdns0()
	if opt == nil {
		return false
	}
	for _, o := range opt.Option {
		e, ok := o.(*dns.EDNS0_EDE)
		if !ok {
			continue
		}
		switch e.InfoCode {
		case dns.ExtendedErrorCodeDNSBogus, dns.ExtendedErrorCodeSignatureExpired, dns.ExtendedErrorCodeSignatureNotYetValid, dns.ExtendedErrorCodeDNSKEYMissing,
			dns.ExtendedErrorCodeRRSIGsMissing, dns.ExtendedErrorCodeNoZoneKeyBitSet, dns.ExtendedErrorCodeNSECMissing, dns.ExtendedErrorCodeSignatureExpiredBeforeValid:
			return true
		}
	}
	return false
}
