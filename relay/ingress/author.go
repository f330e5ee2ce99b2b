package ingress

import (
	"net/mail"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/queue"
)

// This file judges the From field: whom a message says it is of. sender_domains
// binds it like the envelope's sender, and DKIM signs for its domain.

// longAddress is what is too long for one line of a header, in octets, with some
// room for the rest of the line.
const longAddress = 900

// unreadable stands for the domain of an author that cannot be read.
const unreadable = "an author that cannot be read"

// authors are the domains that the value of a From field claims, in A-labels. A
// value that is no list of addresses claims every domain in it that somebody else
// could read.
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

// checkAuthors refuses a message whose From fields claim what the listener or the
// user may not (sender_domains).
func (s *session) checkAuthors(from []string) *smtp.SMTPError {
	rule := s.listener.rule()
	if len(rule.SenderDomains) == 0 && len(s.user.SenderDomains) == 0 {
		return nil
	}
	for _, value := range from {
		for _, domain := range authors(value) {
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

// author is the From field that is added to a message without one, where there is
// somebody to name (RFC 5322, 3.6): large providers refuse such mail.
func author(h *header, env *queue.Envelope) string {
	if len(h.from) > 0 || env.From == "" || len(env.From) > longAddress {
		return ""
	}
	return "From: <" + env.From + ">\r\n"
}

// signingDomain is the domain that a message is signed for, "" for none: that of
// its only From field, or of the one that is added.
func signingDomain(h *header, env *queue.Envelope) string {
	value := env.From
	switch len(h.from) {
	case 0:
	case 1:
		value = h.from[0]
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
