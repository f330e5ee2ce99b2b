package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

func TestPlaintextCanBeRefusedAltogether(t *testing.T) {
	w := e2e.New(t, "plaintext = \"refuse\"\n")
	h := w.Host("mx.a.example")
	w.SetFaults(h, testnet.Faults{NoStartTLS: true})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	if gone || h.Counts().Mails > 0 || m.States[0].ReasonCode != "rule" || !strings.Contains(m.States[0].LastError, "delivery.plaintext") {
		t.Errorf("gone %t, %+v", gone, m.States)
	}
}

func TestPrivateAddressesAreRefusedByDefault(t *testing.T) {
	w := e2e.New(t, "")
	w.Stop()
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	for i, ip := range []string{"10.0.0.1", "169.254.169.254", "192.168.0.1"} {
		if err := w.DNS.Add(fmt.Sprintf("p%d.example. 60 IN A %s", i, ip)); err != nil {
			t.Fatal(err)
		}
	}
	w.RefusePrivate = true
	w.Start("")
	for _, d := range []string{"a.example", "p0.example", "p1.example", "p2.example", "[127.0.0.1]", "[10.0.0.1]"} {
		m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@"+d))
		if gone || !strings.Contains(m.States[0].LastError, "private addresses") {
			t.Errorf("%s: gone %t, %+v", d, gone, m.States)
		}
	}
	if c := h.Counts(); c.Connections > 0 {
		t.Errorf("the host was contacted: %+v", c)
	}
}

// The operator's rules meet what a domain publishes: the stricter one holds,
// unless the rule overrides it.
func TestRulesMeetPolicies(t *testing.T) {
	selfSigned := testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}
	clearOnly := testnet.Faults{NoStartTLS: true}
	for _, tt := range []struct {
		rule   string
		mode   string // of the policy; "" for none
		faults testnet.Faults
		dane   string // "": no TLSA records; "host": they are signed, the MX records are not; "domain": both
		want   outcome
		why    string
	}{
		{`tls = "verify"`, "", testnet.Faults{}, "", verified, ""},
		{`tls = "verify"`, "", selfSigned, "", held, "this relay asks for"},
		{`tls = "verify"`, "testing", selfSigned, "", held, "this relay asks for"},
		{`tls = "verify"`, "", clearOnly, "", held, "does not offer STARTTLS"},
		{`tls = "encrypt"`, "", selfSigned, "", encrypted, ""},
		{`tls = "encrypt"`, "", clearOnly, "", held, "does not offer STARTTLS"},
		{`tls = "encrypt"`, "enforce", selfSigned, "", held, "MTA-STS"},
		{`tls = "dane"`, "", selfSigned, "domain", verified, ""},
		{`tls = "dane"`, "", selfSigned, "host", held, "vouches that mx1.rule.example"}, // RFC 7672, 2.2.1
		{`tls = "dane"`, "testing", selfSigned, "host", held, "vouches that mx1.rule.example"},
		{`tls = "dane"`, "enforce", selfSigned, "host", verified, ""}, // the policy vouches for the host
		{`tls = "secure"`, "", testnet.Faults{}, "", verified, ""},
		{`tls = "secure"`, "", testnet.Faults{Cert: testnet.CertSpec{Names: []string{"rule.example"}}}, "", verified, ""},
		{`tls = "secure"`, "", testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mx.attacker.example"}}}, "", held, "is for mx.attacker.example, not for rule.example or .rule.example"},
		{`tls = "secure"`, "", selfSigned, "", held, "self-signed"},
		{`tls = "secure"`, "enforce", testnet.Faults{Cert: testnet.CertSpec{Names: []string{"rule.example"}}}, "", held, "MTA-STS"}, // the policy asks for the host's name
		{`tls = "secure"`, "", clearOnly, "", held, "does not offer STARTTLS"},
		{"tls = \"secure\"\nmatch = [\"*.rule.example\"]", "", testnet.Faults{}, "", verified, ""},
		{"tls = \"secure\"\nmatch = [\"mx2.rule.example\", \".other.example\"]", "", testnet.Faults{}, "", held, "not for mx2.rule.example or .other.example"},
		{`tls = "dane"`, "", testnet.Faults{}, "", held, "no usable TLSA records"},
		{`tls = "dane"`, "enforce", testnet.Faults{}, "", held, "dane-required"},
		{`tls = "opportunistic"`, "", clearOnly, "", clear, ""},
		{`tls = "opportunistic"`, "enforce", clearOnly, "", held, "MTA-STS"},
		{"tls = \"opportunistic\"\noverride_policy = true", "enforce", clearOnly, "", clear, ""},
		{"tls = \"encrypt\"\noverride_policy = true", "enforce", selfSigned, "", encrypted, ""},
		{"tls = \"encrypt\"\noverride_policy = true", "enforce", clearOnly, "", held, "this relay asks for"},
	} {
		name := fmt.Sprintf("%s/%s/%+v", strings.ReplaceAll(tt.rule, "\n", " "), tt.mode, tt.faults)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "[[domain]]\nname = \".example\"\ntls = \"dane\"\n[[domain]]\nname = \"rule.example\"\n"+tt.rule+"\n")
			h := w.Host("mx1.rule.example")
			if err := h.Set(tt.faults); err != nil {
				t.Fatal(err)
			}
			if tt.dane != "" {
				w.SecureHost(h, w.TLSA(h, 3, 1, 1))
				w.DNS.Secure("rule.example", tt.dane == "domain")
			}
			d := testnet.Domain{MX: []string{h.Name}}
			if tt.mode != "" {
				d.Policy = e2e.PolicyFor(tt.mode, h.Name)
			}
			w.Domain("rule.example", d)
			expect(w, h, tt.want, tt.why, "rule.example")
		})
	}
}

// plaintext = "refuse" is for all domains but those whose rule says otherwise.
func TestPlaintextRefusedButForARule(t *testing.T) {
	w := e2e.New(t, "plaintext = \"refuse\"\n[[domain]]\nname = \"old.example\"\ntls = \"opportunistic\"\n")
	for domain, want := range map[string]outcome{"old.example": clear, "new.example": held} {
		h := w.Host("mx." + domain)
		if err := h.Set(testnet.Faults{NoStartTLS: true}); err != nil {
			t.Fatal(err)
		}
		w.Domain(domain, testnet.Domain{MX: []string{h.Name}})
		expect(w, h, want, "", domain)
	}
}

// A route leads elsewhere, logs in there, and never in clear.
func TestRoutes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rule   string
		faults testnet.Faults
		want   outcome
		why    string
		user   string
	}{
		{"host and port", `route = "next.hop.example:587"`, testnet.Faults{}, verified, "", ""},
		{"address", `route = "IP:587"`, testnet.Faults{NoStartTLS: true}, clear, "", ""},
		{"MX hosts of another domain", "route = \"hop.example\"\nmx = true", testnet.Faults{}, verified, "", ""},
		{"PLAIN", "route = \"next.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"", testnet.Faults{Login: "anna:secret", AuthMechanism: "PLAIN"}, verified, "", "anna"},
		{"LOGIN", "route = \"next.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"", testnet.Faults{Login: "anna:secret", AuthMechanism: "LOGIN"}, verified, "", "anna"},
		{"wrong password", "route = \"next.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"", testnet.Faults{Login: "anna:other", AuthMechanism: "PLAIN"}, held, "535", ""},
		{"no AUTH there", "route = \"next.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"", testnet.Faults{}, held, "neither AUTH PLAIN nor AUTH LOGIN", ""},
		{
			"a stranger's certificate", "route = \"next.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"",
			testnet.Faults{Login: "anna:secret", AuthMechanism: "PLAIN", Cert: testnet.CertSpec{SelfSigned: true}}, held, "self-signed", "",
		},
		{
			"a certificate of another host", "route = \"next.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"",
			testnet.Faults{Login: "anna:secret", AuthMechanism: "PLAIN", Cert: testnet.CertSpec{Names: []string{"other.example"}}}, held, "is for other.example", "",
		},
		{
			"MX hosts that nobody vouches for", "route = \"hop.example\"\nmx = true\nuser = \"anna\"\npassword_file = \"password\"",
			testnet.Faults{Login: "anna:secret", AuthMechanism: "PLAIN"}, held, "the password for next.hop.example is not sent", "",
		},
		{
			"MX hosts with a pinned name", "route = \"hop.example\"\nmx = true\ntls = \"secure\"\nuser = \"anna\"\npassword_file = \"password\"",
			testnet.Faults{Login: "anna:secret", AuthMechanism: "PLAIN"}, verified, "", "anna",
		},
		{
			"MX hosts with another name than the pinned one", "route = \"hop.example\"\nmx = true\ntls = \"secure\"\nmatch = [\"mx.hop.example\"]\nuser = \"anna\"\npassword_file = \"password\"",
			testnet.Faults{Login: "anna:secret", AuthMechanism: "PLAIN"}, held, "not for mx.hop.example", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "paused = true\n")
			w.Stop()
			if err := os.WriteFile(filepath.Join(w.Dir, "password"), []byte("secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			h := w.Host("next.hop.example")
			h.Alias("587")
			if err := h.Set(tt.faults); err != nil {
				t.Fatal(err)
			}
			w.Domain("hop.example", testnet.Domain{MX: []string{h.Name}})
			// The recipients' own policy and hosts are not asked.
			w.Domain("routed.example", testnet.Domain{MX: []string{"mx.elsewhere.example"}, Policy: e2e.PolicyFor("enforce", "mx.elsewhere.example")})
			w.RefusePrivate = true // a route may lead to a private address
			w.Start("[[domain]]\nname = \"routed.example\"\n" + strings.ReplaceAll(tt.rule, "IP", h.IP) + "\n")
			expect(w, h, tt.want, tt.why, "routed.example")
			if got := h.Messages(); tt.want != held && got[0].User != tt.user {
				t.Errorf("logged in as %q, want %q", got[0].User, tt.user)
			}
		})
	}
}

// REQUIRETLS (RFC 8689): the message goes to a host that is authenticated and
// offers it, with the parameter; else it comes back without its body.
func TestRequireTLS(t *testing.T) {
	offers := []string{"REQUIRETLS"}
	for _, tt := range []struct {
		name   string
		policy string
		faults testnet.Faults
		goes   bool
		why    string
	}{
		{"authenticated by MTA-STS and offered", "enforce", testnet.Faults{With: offers}, true, ""},
		{"not offered", "enforce", testnet.Faults{}, false, "5.7.30"},
		{"MX not authenticated", "", testnet.Faults{With: offers}, false, "5.7.10"},
		{"a testing policy authenticates nothing", "testing", testnet.Faults{With: offers}, false, "5.7.10"},
		{"certificate not trusted", "enforce", testnet.Faults{With: offers, Cert: testnet.CertSpec{SelfSigned: true}}, false, "5.7.10"},
		{"no TLS", "", testnet.Faults{With: offers, NoStartTLS: true}, false, "5.7.10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "")
			h := w.Host("mx1.require.example")
			if err := h.Set(tt.faults); err != nil {
				t.Fatal(err)
			}
			back := w.Host("mx1.sender.example")
			w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
			d := testnet.Domain{MX: []string{h.Name}}
			if tt.policy != "" {
				d.Policy = e2e.PolicyFor(tt.policy, h.Name)
			}
			w.Domain("require.example", d)
			if err := w.SendRequireTLS("anna@sender.example", "kurt@require.example", "Subject: secret\r\n\r\nthe plan\r\n"); err != nil {
				t.Fatal(err)
			}
			if tt.goes {
				got, err := h.Wait(w.Context(), 1)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(got[0].Params, "REQUIRETLS") || !got[0].TLS {
					t.Errorf("it went out with %q", got[0].Params)
				}
				return
			}
			got, err := back.Wait(w.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			notice := string(got[0].Data)
			if !strings.Contains(notice, "Status: "+tt.why) || strings.Contains(notice, "the plan") {
				t.Errorf("the notice is:\n%s", notice)
			}
			if h.Counts().Mails != 0 {
				t.Error("MAIL was sent")
			}
		})
	}
}

// A sender's "TLS-Required: No" lifts a policy, where the operator lets it.
func TestTLSRequiredNo(t *testing.T) {
	for _, honor := range []bool{true, false} {
		w := e2e.New(t, fmt.Sprintf("honor_tls_required_no = %t\n", honor))
		h := w.Host("mx1.no.example")
		if err := h.Set(testnet.Faults{NoStartTLS: true}); err != nil {
			t.Fatal(err)
		}
		w.Domain("no.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
		id, err := e2e.SendMail(w.Addr, "anna@sender.example", "TLS-Required: No\r\nSubject: never mind\r\n\r\nHello\r\n", "kurt@no.example")
		if err != nil {
			t.Fatal(err)
		}
		if _, gone := w.Attempted(id); gone != honor {
			t.Errorf("honor_tls_required_no = %t: delivered %t", honor, gone)
		}
	}
}

// Nothing that a stranger publishes leads the relay to a private address.
func TestPrivateAddressesAreNotContacted(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "fe80::1", "::ffff:10.0.0.1", "fd00::1", "0.0.0.0"} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			w := e2e.NewStopped(t)
			w.RefusePrivate = true
			record := "A"
			if strings.Contains(addr, ":") {
				record = "AAAA"
			}
			if err := w.DNS.Add("mx1.inside.example. 60 IN "+record+" "+addr, "mta-sts.inside.example. 60 IN "+record+" "+addr,
				`_mta-sts.inside.example. 60 IN TXT "v=STSv1; id=1"`); err != nil {
				t.Fatal(err)
			}
			w.Domain("inside.example", testnet.Domain{MX: []string{"mx1.inside.example"}})
			dials := startCounting(w)
			m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@inside.example"))
			if gone || !strings.Contains(m.States[0].LastError, "private") {
				t.Errorf("gone %t: %+v", gone, m.States)
			}
			if got := dials(); len(got) > 0 {
				t.Errorf("the relay dialled %v", got)
			}
		})
	}
}

// startCounting starts the relay with a dialler that only takes notes.
func startCounting(w *e2e.World) (dials func() []string) {
	w.T.Helper()
	var mu sync.Mutex
	var seen []string
	w.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, address)
		return nil, errors.New("refused")
	}
	w.Start("")
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// Where the operator's own configuration holds mail that has no TLS, the reason
// is its rule, not a fault of the other side.
func TestWhatTheOperatorAsksForIsNoFaultOfTheHost(t *testing.T) {
	for says, toml := range map[string]string{
		"(delivery.plaintext = \"refuse\")":    "plaintext = \"refuse\"\n",
		"this relay asks for TLS to a.example": "[[domain]]\nname = \"a.example\"\ntls = \"encrypt\"\n",
	} {
		w := e2e.New(t, toml)
		h := w.Host("mx.a.example")
		w.SetFaults(h, testnet.Faults{NoStartTLS: true})
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
		if gone || m.States[0].ReasonCode != "rule" || !strings.Contains(m.States[0].LastError, says) {
			t.Errorf("%s: gone %t, %+v", says, gone, m.States)
		}
	}
}
