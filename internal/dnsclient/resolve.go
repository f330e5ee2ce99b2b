package dnsclient

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxAliases is the longest chain of CNAMEs that is followed.
	maxAliases = 8
	// maxTTL bounds how long an answer is kept, failureTTL how long the lack
	// of one is (RFC 9520, 3.2).
	maxTTL     = 24 * time.Hour
	failureTTL = 5 * time.Second
	// udpSize is what fits through everywhere (RFC 9715).
	udpSize = 1232
)

// answer is what is known about a question: records, or an error.
type answer struct {
	records []dns.RR
	secure  bool
	ttl     time.Duration // 0: not to be kept
	alias   string
	err     *Error
}

func (a *answer) result() (*answer, error) {
	if a.err != nil {
		return nil, a.err
	}
	return a, nil
}

// resolve asks the servers, following CNAMEs that they did not follow.
func (c *Client) resolve(ctx context.Context, q question) *answer {
	result := &answer{secure: true, ttl: maxTTL}
	name := q.name
	for range maxAliases + 1 {
		msg, s, err := c.exchange(ctx, name, q.qtype)
		if err != nil {
			e := &Error{Kind: ErrTemporary, Err: err}
			if s != nil {
				e.Server = s.Address.String()
			}
			return c.failed(q, result, e)
		}
		result.secure = result.secure && s.believed && msg.AuthenticatedData
		end, more := result.take(msg, name, q.qtype)
		if end != "" && end != q.name {
			result.alias = canonical(end)
		}
		switch {
		case len(result.records) > 0:
			return result
		case msg.Rcode == dns.RcodeNameError:
			return c.failed(q, result, &Error{Kind: ErrNXDomain, Rcode: msg.Rcode, Server: s.Address.String()}).deniedBy(msg)
		case msg.Rcode != dns.RcodeSuccess:
			return c.failed(q, result, &Error{Kind: ErrTemporary, Rcode: msg.Rcode, EDE: extendedError(msg), Server: s.Address.String()})
		case !more:
			return c.failed(q, result, &Error{Kind: ErrNoData, Server: s.Address.String()}).deniedBy(msg)
		}
		name = end
	}
	return c.failed(q, result, &Error{Kind: ErrTemporary, Err: fmt.Errorf("more than %d aliases", maxAliases)})
}

func (c *Client) failed(q question, result *answer, e *Error) *answer {
	e.Name, e.Type = canonical(q.name), dns.TypeToString[q.qtype]
	temporary := errors.Is(e.Kind, ErrTemporary)
	e.Secure = result.secure && !temporary
	ttl := time.Duration(0)
	if temporary {
		ttl = failureTTL
	}
	return &answer{err: e, ttl: ttl, secure: e.Secure}
}

// deniedBy sets how long a denial is kept: by the SOA record that came with
// it, not at all without one (RFC 2308, 5).
func (a *answer) deniedBy(msg *dns.Msg) *answer {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			a.ttl = min(time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second, maxTTL)
		}
	}
	return a
}

// take reads the records of msg: the aliases from name on, then what stands at
// their end. more says that an alias leads to a name that msg says nothing of.
func (a *answer) take(msg *dns.Msg, name string, qtype uint16) (end string, more bool) {
	end = name
	for range maxAliases {
		next := ""
		for _, rr := range msg.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, end) || h.Class != dns.ClassINET {
				continue
			}
			switch {
			case h.Rrtype == qtype:
				a.records = append(a.records, rr)
				a.ttl = min(a.ttl, time.Duration(h.Ttl)*time.Second)
			case h.Rrtype == dns.TypeCNAME:
				next = strings.ToLower(rr.(*dns.CNAME).Target)
				a.ttl = min(a.ttl, time.Duration(h.Ttl)*time.Second)
			}
		}
		if len(a.records) > 0 || next == "" {
			return end, more
		}
		end, more = next, true
	}
	return end, more
}

// exchange asks one server after the other until one has an answer, as often
// as Options.Attempts says.
func (c *Client) exchange(ctx context.Context, name string, qtype uint16) (*dns.Msg, *server, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(udpSize, false)
	m.AuthenticatedData = true // asks for the AD bit (RFC 6840, 5.7)
	servers := c.current()
	if len(servers) == 0 {
		return nil, nil, errors.New("no DNS server is configured")
	}
	var (
		last       *server
		lastAnswer *dns.Msg
		lastErr    error
	)
	for range c.o.Attempts {
		for _, s := range servers {
			if ctx.Err() != nil {
				return nil, s, ctx.Err()
			}
			m.Id = dns.Id()
			r, err := s.ask(ctx, m)
			last = s
			switch {
			case err != nil:
				lastErr = err
			case r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNameError:
				return r, s, nil
			default:
				lastAnswer, lastErr = r, nil
			}
		}
		if lastAnswer != nil && lastErr == nil {
			break // every server has spoken
		}
	}
	if lastErr == nil {
		return lastAnswer, last, nil
	}
	return nil, last, lastErr
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

// unescape turns the presentation form of a TXT string into its bytes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+s[i+3]-'0')
			i += 3
			continue
		}
		i++
		b = append(b, s[i])
	}
	return string(b)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func hexBytes(s string) ([]byte, error) { return hex.DecodeString(s) }
