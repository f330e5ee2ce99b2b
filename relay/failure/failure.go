// Package failure is the closed vocabulary of why mail waits or was given up. The
// same words stand in the queue, the log, the metrics, the notices, the API and
// on the command line; docs/reasons.md lists them.
package failure

// Owner is who can mend it.
type Owner string

// The owners.
const (
	Them    Owner = "them"    // who runs the recipient's mail or domain
	Network Owner = "network" // what lies between
	Us      Owner = "us"      // who runs this relay, or sends through it
)

// The codes.
const (
	New       = "new"
	Held      = "held"
	DNS       = "dns"
	NoHost    = "dns-no-host"
	NullMX    = "dns-null"
	Loop      = "loop"
	Connect   = "connect"
	Busy      = "busy"
	Greeting  = "greeting"
	TLSNone   = "tls-none"
	Handshake = "tls-handshake"
	TLSCert   = "tls-cert"
	TLSName   = "tls-name"
	Expired   = "tls-expired"
	STSMX     = "sts-mx"
	STSFetch  = "sts-fetch"
	DANE      = "dane"
	Require   = "requiretls"
	Rule      = "rule"
	RouteAuth = "route-auth"
	Recipient = "rcpt"
	Content   = "content"
	Size      = "size"
	Unknown   = "unknown-result"
	TooOld    = "expired"
	Local     = "local"
)

// Reason explains a code to the operator.
type Reason struct {
	Code  string
	Owner Owner
	// Says is what it means, in one sentence.
	Says string
	// Remedy is what the operator can do. DOMAIN stands for the recipient's domain,
	// ID for the message's.
	Remedy string
}

// All are all reasons, in the order of a message's way.
var All = []Reason{
	{New, Us, "It has not been tried yet.", "Nothing; it goes when its turn comes."},
	{Held, Us, "The operator, or a safety rule of the queue, keeps it from being tried.", "stsrelay queue release ID"},
	{DNS, Them, "The DNS gives no usable answer about the domain or its hosts.",
		"stsrelay check DOMAIN shows which query fails. Where several domains wait for it, look at the resolver of this relay (dns.servers)."},
	{NoHost, Them, "The domain names no host for mail that has an address.", "stsrelay check DOMAIN shows its records. Where the domain should have mail, tell its owner in another way."},
	{NullMX, Them, "The domain says that it takes no mail at all (RFC 7505).", "Nothing; the address is wrong."},
	{Loop, Them, "The domain's MX records lead back to this relay.", "Where this relay is meant to pass the domain's mail on, give it a route: [[domain]] route."},
	{Connect, Network, "No host of the domain can be reached, or the connection broke.",
		"stsrelay check DOMAIN shows who answers. Where most domains wait for it, outgoing port 25 is blocked: ask the network's or the cloud's provider."},
	{Busy, Them, "The host takes no more at the moment (421, or too many connections).", "Nothing; the relay slows down by itself. If it stays so, lower concurrency in [[domain]]."},
	{Greeting, Them, "The host refuses every session before any mail.", "Read its reply: it often refuses this relay's address. Check the PTR record of the address, and block lists."},
	{TLSNone, Them, "The domain asks for TLS, and its host does not offer it; or somebody on the way takes the offer out.",
		"Tell the domain's postmaster; stsrelay check DOMAIN says what to mend. If others see STARTTLS there, look for a firewall with SMTP inspection on the way."},
	{Handshake, Them, "The TLS handshake with the host fails.", "Tell the domain's postmaster; stsrelay check DOMAIN says what to mend."},
	{TLSCert, Them, "The host's certificate leads to no trusted authority.",
		"Tell the domain's postmaster; stsrelay check DOMAIN says what to mend. Where several domains wait for it, look at this machine's roots (delivery.ca_file)."},
	{TLSName, Them, "The host's certificate is for another name.", "Tell the domain's postmaster; stsrelay check DOMAIN says what to mend."},
	{Expired, Them, "The host's certificate has expired, or is not valid yet.",
		"Tell the domain's postmaster. Where several domains wait for it, look at this machine's clock."},
	{STSMX, Them, "The domain's MTA-STS policy names none of its MX hosts.", "Tell the domain's postmaster. If they have mended it, stsrelay policy refresh DOMAIN and stsrelay queue retry --domain DOMAIN."},
	{STSFetch, Them, "Whether the domain asks for verified TLS (MTA-STS) cannot be told now.",
		"stsrelay check DOMAIN shows what fails. Where several domains wait for it, look at the resolver of this relay (dns.servers)."},
	{DANE, Them, "The host's certificate is not the one of its TLSA records (DANE), or they cannot be looked up.", "Tell the host's postmaster; stsrelay check DOMAIN says what to mend."},
	{Require, Them, "The sender asks for TLS all the way (REQUIRETLS), and the host cannot promise it.", "The sender can send it without that demand."},
	{Rule, Us, "A rule of this relay asks for more TLS than the host gives.", "Loosen the rule in [[domain]] tls, or delivery.plaintext; or tell the domain's postmaster."},
	{RouteAuth, Us, "The route's host does not accept this relay's user and password, or offers no AUTH.", "Check user and password_file of the route in [[domain]]."},
	{Recipient, Them, "The host refuses the recipient, or puts it off (greylisting does).", "Nothing if it passes by itself; else read the reply."},
	{Content, Them, "The host refuses the message, or puts it off.", "Read the reply: it is about the content, the sender, or this relay's standing."},
	{Size, Them, "The message is larger than the host takes.", "The sender can share large files in another way."},
	{Unknown, Network, "The host took the whole message and did not confirm it; it may arrive twice.", "Nothing if it passes by itself; else look for a firewall or virus scanner that holds the connection too long."},
	{TooOld, Them, "It could not be delivered within delivery.expire.", "The last error before says why."},
	{Local, Us, "This relay has trouble of its own.", "Look into its log for lines of level ERROR."},
}

// Of is the reason of a code. A code that is none, of a message that an older
// version put off, is what the last attempt's error says.
func Of(code string) Reason {
	for _, r := range All {
		if r.Code == code {
			return r
		}
	}
	return Reason{Code: code, Owner: Them, Says: "The last attempt did not deliver it.", Remedy: "Read the last error; stsrelay check DOMAIN tries the domain's hosts."}
}
