package ingress

import (
	"net/mail"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/queue"
)

// This file evaluates the From field, which names the author of a message.
// sender_domains restricts it like the envelope's sender, and DKIM signs for its domain.

// longAddress is the longest address, in octets, that fits into one line of a header
// with some room for the rest of the line.
const longAddress = 900

// unreadable is used as the domain of an author whose address cannot be parsed.
const unreadable = "an author that cannot be read"

// authors returns the domains that the value of a From field claims, in A-labels. If the
// value is not a valid list of addresses, these are all domains in it that another
// parser might find.
func authors(value string) (domains []string) {
	list, err := mail.ParseAddressList(value)
	if err == nil {
		for _, a := range list {
			domains = append(domains, domainOf(a.Address))
		}
		return domains
	}
	rest := value
	for {
		_, after, ok := strings.Cut(rest, "@")
		if !ok {
			break
		}
		rest = after
		end := strings.IndexAny(after, " \t<>()[],;:\"\\@")
		if end < 0 {
			end = len(after)
		}
		domains = append(domains, domainOf("x@"+after[:end]))
	}
	if len(domains) == 0 && strings.Contains(value, "=?") {
		domains = append(domains, unreadable) // an address may be encoded
	}
	return domains
}

func domainOf(address string) string {
	m, err := mailbox.FromUnquoted(address)
	if err != nil {
		return unreadable
	}
	return m.Domain
}

// checkAuthors returns the reply that refuses a message whose From fields claim a domain
// that the listener or the user may not use (sender_domains); nil if all are allowed.
func (s *session) checkAuthors(from [][]byte) *smtp.SMTPError {
	rule := s.listener.rule()
	if len(rule.SenderDomains) == 0 && len(s.user.SenderDomains) == 0 {
		return nil
	}
	for _, field := range from {
		for _, domain := range authors(mailheader.Value(field)) {
			if !mayClaim(rule.SenderDomains, domain) {
				return reply(550, 5, 7, 1, "the From field is of %s, and senders of that may not use this listener (sender_domains)", domain)
			}
			if !mayClaim(s.user.SenderDomains, domain) {
				return reply(550, 5, 7, 1, "the From field is of %s, and the user %s may not send as that (sender_domains)", domain, clean(s.user.Name))
			}
		}
	}
	return nil
}

// author returns the From field to add to a message that has none (RFC 5322, 3.6),
// because large providers refuse mail without it. It is "" if the message has one, or if
// the envelope has no sender or one that is too long.
func author(h *header, env *queue.Envelope) string {
	if len(h.from) > 0 || env.From == "" || len(env.From) > longAddress {
		return ""
	}
	return "From: <" + env.From + ">\r\n"
}

// signingDomain returns the domain that a message is signed for: the domain of its only
// From field, or of the one that is added. It is "" if there is no such domain.
func signingDomain(h *header, env *queue.Envelope) string {
	value := env.From
	switch len(h.from) {
	case 0:
	case 1:
		value = mailheader.Value(h.from[0])
	default:
		return ""
	}
	list, err := mail.ParseAddressList(value)
	if err != nil || len(list) == 0 {
		return ""
	}
	if d := domainOf(list[0].Address); d != unreadable {
		return d
	}
	return ""
}
