// Package failure is the closed vocabulary of the reasons why mail waits or was
// given up. One table says all that is known of a reason: what it is called in the
// queue, the log, the metrics and the API, whose matter it is, what helps, and how
// notices and TLS reports tell of it. docs/reasons.md is made from it.
package failure

import (
	"cmp"
	"strings"

	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Owner is who can mend it.
type Owner string

// The owners.
const (
	Remote  Owner = "them"    // who runs the recipient's mail or domain
	Network Owner = "network" // what lies between
	Local   Owner = "us"      // who runs this relay, or sends through it
)

// Reason is a line of the table. The zero value stands for a reason that is not
// known.
type Reason uint8

// The reasons, in the order of a message's way.
const (
	_ Reason = iota
	New
	Held
	DNS
	NoHost
	NullMX
	Loop
	Connect
	Busy
	Greeting
	Blocked
	TLSNone
	Handshake
	TLSCert
	TLSName
	CertExpired
	STSMX
	STSFetch
	DANE
	RequireTLS
	Rule
	RouteAuth
	Recipient
	Content
	Size
	Unknown
	Expired
	Internal
)

// Row is all that is known of a reason.
type Row struct {
	Reason Reason
	// Code is its name: one word, which the queue stores.
	Code  string
	Owner Owner
	// Says is what it means, in one sentence.
	Says string
	// Remedy is what the operator can do. It has places that Fill fills in where it is told:
	// DOMAIN is the recipient's domain, ID the message's.
	Remedy string
	// Shared is what the operator can do where most of the domains that mail waits for have
	// this reason: then it is this relay's matter. "": that says nothing about this relay.
	Shared string
	// Answered reports whether a reply of a host is the reason: so DNS and network work.
	Answered bool
	// Status is the enhanced status code without its class (RFC 3463) where nothing
	// more precise is known, "" where only a host's reply can say.
	Status string
	// Result is the result type in TLS reports (RFC 8460, 4.3) that sessions have
	// where they fail for this reason; "" where they are not counted as failed.
	Result tlsrpt.ResultType
	// Text is the key of the text that a notice explains it with to the sender.
	Text string
	// Protection reports whether mail waits for want of a protected connection.
	Protection bool
}

// table has the row of each reason, at its place.
var table = [...]Row{
	{Owner: Remote, Says: "The last attempt did not deliver it.", Remedy: "Read the last error; stsrelay check DOMAIN tries the domain's hosts.", Text: "other"},
	New: {Code: "new", Owner: Local, Says: "It has not been tried yet.", Remedy: "Nothing; it goes when its turn comes.", Text: "other"},
	Held: {Code: "held", Owner: Local, Says: "The operator, or a safety rule of the queue, keeps it from being tried.",
		Remedy: "stsrelay queue release ID", Text: "other"},
	DNS: {Code: "dns", Owner: Remote, Status: "4.3", Says: "The DNS gives no usable answer about the domain or its hosts.",
		Remedy: "stsrelay check DOMAIN shows which query fails.",
		Shared: "Look at the resolver of this relay: stsrelay check --self asks it first. dns.servers names another one.", Text: "dns"},
	NoHost: {Code: "dns-no-host", Owner: Remote, Status: "4.4", Says: "The domain names no host for mail that has an address.",
		Remedy: "stsrelay check DOMAIN shows its records. Where the domain should have mail, tell its owner in another way.",
		Shared: "Look at the resolver of this relay: stsrelay check --self asks it first. dns.servers names another one.", Text: "dns-no-host"},
	NullMX: {Code: "dns-null", Owner: Remote, Status: "1.10", Says: "The domain says that it takes no mail at all (RFC 7505).",
		Remedy: "Nothing; the address is wrong.", Text: "dns-null"},
	Loop: {Code: "loop", Owner: Remote, Status: "4.6", Says: "The domain's MX records lead back to this relay.",
		Remedy: "Where this relay is meant to pass the domain's mail on, give it a route: [[domain]] route.", Text: "loop"},
	Connect: {Code: "connect", Owner: Network, Status: "4.1", Says: "No host of the domain can be reached, or the connection broke.",
		Remedy: "stsrelay check DOMAIN shows who answers.",
		Shared: "Outgoing port 25 is blocked, or the way to the Internet is down: ask the network's or the cloud's provider. stsrelay check --self tries it.", Text: "connect"},
	Busy: {Code: "busy", Owner: Remote, Status: "3.2", Answered: true, Says: "The host takes no more at the moment (421, or too many connections).",
		Remedy: "Nothing; the relay slows down by itself. If it stays so, lower concurrency in [[domain]].", Text: "busy"},
	Greeting: {Code: "greeting", Owner: Remote, Status: "3.2", Answered: true, Says: "The host refuses every session before any mail.",
		Remedy: "Read its reply: it often refuses this relay's address. Check the PTR record of the address, and block lists.",
		Shared: "The hosts refuse this relay's address: check its PTR record, and block lists. stsrelay check --self looks at the name and the way back to it.", Text: "connect"},
	Blocked: {Code: "blocked", Owner: Local, Status: "7.1", Answered: true, Says: "The host refuses this relay's address: for unwanted mail from there, a block list, or its name in the DNS.",
		Remedy: "Read the reply: it often names the list. Look for a machine or an account inside that sends spam (stsrelay history --since 24h), then at the PTR record and block lists; stsrelay check --self looks at the name and the way back to it.", Text: "refused"},
	TLSNone: {Code: "tls-none", Owner: Remote, Status: "7.5", Says: "The domain asks for TLS, and its host does not offer it; or somebody on the way takes the offer out.",
		Remedy: "Tell the domain's postmaster; stsrelay check DOMAIN says what to mend. If others see STARTTLS there, look for a firewall with SMTP inspection on the way.",
		Shared: "Look for a firewall with SMTP inspection on the way out: it takes STARTTLS out of what the hosts say.",
		Result: tlsrpt.StartTLSNotSupported, Text: "tls-none", Protection: true},
	Handshake: {Code: "tls-handshake", Owner: Remote, Status: "7.5", Says: "The TLS handshake with the host fails.",
		Remedy: "Tell the domain's postmaster; stsrelay check DOMAIN says what to mend.",
		Shared: "Look for a firewall with SMTP inspection on the way out, which breaks TLS.",
		Result: tlsrpt.ValidationFailure, Text: "tls-handshake", Protection: true},
	TLSCert: {Code: "tls-cert", Owner: Remote, Status: "7.5", Says: "The host's certificate leads to no trusted authority.",
		Remedy: "Tell the domain's postmaster; stsrelay check DOMAIN says what to mend.",
		Shared: "Look at this machine's trusted authorities (delivery.ca_file, or the system's), and for a firewall that puts its own certificate in the place of the hosts'.",
		Result: tlsrpt.CertificateNotTrusted, Text: "tls-cert", Protection: true},
	TLSName: {Code: "tls-name", Owner: Remote, Status: "7.5", Says: "The host's certificate is for another name.",
		Remedy: "Tell the domain's postmaster; stsrelay check DOMAIN says what to mend.",
		Shared: "Look for a firewall that puts its own certificate in the place of the hosts'.",
		Result: tlsrpt.CertificateHostMismatch, Text: "tls-name", Protection: true},
	CertExpired: {Code: "tls-expired", Owner: Remote, Status: "7.5", Says: "The host's certificate has expired, or is not valid yet.",
		Remedy: "Tell the domain's postmaster.",
		Shared: "Set this machine's clock, and let it be kept right (NTP): stsrelay check --self compares it.",
		Result: tlsrpt.CertificateExpired, Text: "tls-expired", Protection: true},
	STSMX: {Code: "sts-mx", Owner: Remote, Status: "7.5", Says: "The domain's MTA-STS policy names none of its MX hosts.",
		Remedy: "Tell the domain's postmaster. If they have mended it, stsrelay policy refresh DOMAIN and stsrelay queue retry --domain DOMAIN.",
		Result: tlsrpt.ValidationFailure, Text: "sts-mx", Protection: true},
	STSFetch: {Code: "sts-fetch", Owner: Remote, Status: "7.5", Says: "Whether the domain asks for verified TLS (MTA-STS) cannot be told now.",
		Remedy: "stsrelay check DOMAIN shows what fails.",
		Shared: "Look at the resolver of this relay (dns.servers), and at port 443 to the outside: stsrelay check --self asks the resolver first.",
		Result: tlsrpt.STSPolicyFetchError, Text: "sts-fetch", Protection: true},
	DANE: {Code: "dane", Owner: Remote, Status: "7.5", Says: "The host's certificate is not the one of its TLSA records (DANE), or they cannot be looked up.",
		Remedy: "Tell the host's postmaster; stsrelay check DOMAIN says what to mend.",
		Shared: "Look at the resolver of this relay: its answers for TLSA records fail. stsrelay check --self asks it; dns.servers names another one.",
		Result: tlsrpt.ValidationFailure, Text: "dane", Protection: true},
	RequireTLS: {Code: "requiretls", Owner: Remote, Status: "7.10", Says: "The sender asks for TLS all the way (REQUIRETLS), and the host cannot promise it.",
		Remedy: "The sender can send it without that demand.",
		Result: tlsrpt.ValidationFailure, Text: "requiretls"},
	Rule: {Code: "rule", Owner: Local, Status: "7.5", Says: "A rule of this relay asks for more TLS than the host gives.",
		Remedy: "Loosen the rule in [[domain]] tls, or delivery.plaintext; or tell the domain's postmaster.",
		Result: tlsrpt.DANERequired, Text: "rule", Protection: true},
	RouteAuth: {Code: "route-auth", Owner: Local, Status: "7.8", Answered: true, Says: "The route's host does not accept this relay's user and password, or offers no AUTH.",
		Remedy: "Check user and password_file of the route in [[domain]].", Text: "local"},
	Recipient: {Code: "rcpt", Owner: Remote, Status: "0.0", Answered: true, Says: "The host refuses the recipient, or puts it off (greylisting does).",
		Remedy: "Nothing if it passes by itself; else read the reply.", Text: "rcpt"},
	Content: {Code: "content", Owner: Remote, Status: "0.0", Answered: true, Says: "The host refuses the message, or puts it off.",
		Remedy: "Read the reply: it is about the content, the sender, or this relay's standing.", Text: "content"},
	Size: {Code: "size", Owner: Remote, Status: "3.4", Answered: true, Says: "The message is larger than the host takes.",
		Remedy: "The sender can share large files in another way.", Text: "size"},
	Unknown: {Code: "unknown-result", Owner: Network, Status: "4.2", Says: "The host took the whole message and did not confirm it; it may arrive twice.",
		Remedy: "Nothing if it passes by itself; else look for a firewall or virus scanner that holds the connection too long.", Text: "unknown-result"},
	Expired: {Code: "expired", Owner: Remote, Status: "4.7", Says: "It could not be delivered within delivery.expire.",
		Remedy: "The last error before says why.", Text: "other"},
	Internal: {Code: "local", Owner: Local, Status: "3.0", Says: "This relay has trouble of its own.",
		Remedy: "Look into its log for lines of level ERROR.", Text: "local"},
}

// WayOut says how mail that must go now can, and what that costs, where a policy of the domain
// holds it; "" for other reasons. It has places as Remedy has.
func (r *Row) WayOut() string {
	if !r.Protection || r.Reason == Rule {
		return ""
	}
	return `For mail that must go now: [[domain]] name = "DOMAIN", tls = "opportunistic", override_policy = true, then stsrelay reload and stsrelay queue retry --domain DOMAIN. ` +
		"It costs the protection that the domain asks for: whoever is on the way can read and change the mail. Take it out again."
}

// Ours returns the row where most of the domains that mail waits for have the reason.
func (r Row) Ours() Row {
	if r.Shared != "" {
		r.Owner, r.Remedy = Local, r.Shared
	}
	return r
}

// Fill returns a remedy or a way out, in any language, as it is told of a domain and a message.
// The place of one that is "" stays. Translations are looked up before that: they have the
// places too, and the name of a domain can be a word of the text.
func Fill(text, domain, id string) string {
	return strings.NewReplacer("DOMAIN", cmp.Or(domain, "DOMAIN"), "ID", cmp.Or(id, "ID")).Replace(text)
}

// Row returns what is known of r.
func (r Reason) Row() Row {
	row := table[r]
	row.Reason = r
	return row
}

// Code returns the name of r, as the queue stores it; "" for the zero value.
func (r Reason) Code() string { return table[r].Code }

// Status returns an enhanced status code (RFC 3463): that of class 5 where it is
// final, else of class 4. detail is its end, "" for what is usual with r.
func (r Reason) Status(final bool, detail string) string {
	class := "4."
	if final {
		class = "5."
	}
	if detail = cmp.Or(detail, table[r].Status); detail == "" {
		return ""
	}
	return class + detail
}

// All returns all rows, in the order of a message's way.
func All() []Row {
	var all []Row
	for r := range table {
		if r > 0 {
			all = append(all, Reason(r).Row())
		}
	}
	return all
}

// sharedDomains is how many domains must have a reason before it can be shared.
const sharedDomains = 5

// Shared returns the code that more than half of the domains have that mail waits for, and
// of whose row Shared says what to do then; "" where there is none. domains has their number
// by code.
func Shared(domains map[string]int) string {
	all := 0
	for _, n := range domains {
		all += n
	}
	for code, n := range domains {
		if n >= sharedDomains && 2*n > all && Of(code).Shared != "" {
			return code
		}
	}
	return ""
}

// Of returns the row of a code. A code that no row has, of a message that another
// version put off, gets the row of the zero Reason with that code.
func Of(code string) Row {
	for r := range table {
		if table[r].Code == code {
			return Reason(r).Row()
		}
	}
	row := Reason(0).Row()
	row.Code = code
	return row
}
