package ingress

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// authority issues client certificates.
func authority(t testing.TB) (*x509.CertPool, func() tls.Certificate) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	ca := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, root, root, key.Public(), key))))
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return pool, func() tls.Certificate {
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ex01"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		leafKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		der := must(x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), key))
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leafKey}
	}
}

// secure makes the TLS handshake with a client certificate, or none.
func (c *raw) secure(certs ...tls.Certificate) {
	c.t.Helper()
	tc := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, Certificates: certs})
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.br = tc, bufio.NewReader(tc)
}

// Every combination of what a listener can be told, tried from outside its
// networks, by a client that comes with nothing, with a certificate of a
// stranger, with a wrong password, and with what the listener asks for.
func TestOpenRelay(t *testing.T) {
	outside := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	pool, issue := authority(t)
	_, stranger := authority(t)
	type options struct {
		mode                                               string
		auth, requireTLS, clientCA, proxy, domains, inside bool
	}
	var table []options
	for bits := range 64 {
		for _, mode := range []string{"none", "starttls", "implicit"} {
			bit := func(n int) bool { return bits>>n&1 == 1 }
			o := options{mode: mode, auth: bit(0), requireTLS: bit(1), clientCA: bit(2), proxy: bit(3), domains: bit(4), inside: bit(5)}
			if mode == "none" && (o.auth || o.requireTLS || o.clientCA) {
				continue // refused by the configuration
			}
			table = append(table, o)
		}
	}
	// All of them are listeners of one server: none may lend its rules to another.
	d := newServer(t, func(o *Options) {
		o.Listeners = nil
		for _, x := range table {
			l := Listener{Address: "127.0.0.1:0", TLS: x.mode, Auth: x.auth, RequireTLS: x.requireTLS, Allow: outside}
			if x.clientCA {
				l.ClientCAs = pool
			}
			if x.proxy {
				l.ProxyFrom = loopback // the header below says who the client is
			}
			if x.domains {
				l.SenderDomains = []string{"example.com"}
			}
			if x.inside {
				l.Allow = loopback
			}
			o.Listeners = append(o.Listeners, l)
		}
		o.Limits.AuthDelay = 1
	})
	addrs := d.server.Addrs()
	tried, allowed := 0, 0
	for i, x := range table {
		for _, client := range []string{"nothing", "stranger", "wrong password", "certificate", "password"} {
			for _, sender := range []string{"", "a@example.com", "a@other.example"} {
				name := fmt.Sprintf("%+v, client with %s, sender <%s>", x, client, sender)
				c := (&testServer{t: t, addr: addrs[i].String()}).dial()
				if x.proxy {
					// A balancer brings a client of the network, or of none.
					from := "198.51.100.7"
					if x.inside {
						from = "127.0.0.9"
					}
					c.send("PROXY TCP4 " + from + " 127.0.0.1 1234 25\r\n")
				}
				var certs []tls.Certificate
				switch client {
				case "stranger":
					certs = append(certs, stranger())
				case "certificate":
					certs = append(certs, issue())
				}
				if client == "stranger" && x.clientCA {
					continue // its handshake fails, see below
				}
				if x.mode == "implicit" {
					c.secure(certs...)
				}
				c.want("220 ")
				c.do("EHLO x", "250 ")
				encrypted := x.mode == "implicit"
				if x.mode == "starttls" {
					c.send("MAIL FROM:<" + sender + ">\r\n")
					may := x.inside && !x.requireTLS && (!x.domains || sender != "a@other.example")
					if got := c.reply(); strings.HasPrefix(got, "250") != may {
						t.Fatalf("%s: in clear: %s", name, got)
					}
					c.do("STARTTLS", "220 ")
					c.secure(certs...)
					c.do("EHLO x", "250 ")
					encrypted = true
				}
				proved := client == "certificate" && x.clientCA && encrypted
				switch client {
				case "password", "wrong password":
					c.send("AUTH PLAIN " + plain("exchange", map[string]string{"password": "secret"}[client]) + "\r\n")
					ok := strings.HasPrefix(c.reply(), "235")
					if want := client == "password" && x.auth && encrypted; ok != want {
						t.Fatalf("%s: AUTH %t", name, ok)
					}
					proved = proved || ok
				}
				may := (x.inside || proved) && (encrypted || !x.requireTLS) && (!x.domains || sender != "a@other.example")
				c.send("MAIL FROM:<" + sender + ">\r\n")
				if got := c.reply(); strings.HasPrefix(got, "250") != may {
					t.Fatalf("%s: %s", name, got)
				}
				// Whatever was said to MAIL, the way on must be closed as well.
				c.send("RCPT TO:<victim@example.org>\r\nDATA\r\n")
				for _, want := range []bool{may, may} {
					if got := c.reply(); strings.HasPrefix(got, "250") != want && !strings.HasPrefix(got, "354") || !may && !strings.HasPrefix(got, "5") {
						t.Fatalf("%s: behind MAIL: %s", name, got)
					}
				}
				tried++
				if may {
					allowed++
				}
				c.conn.Close()
			}
		}
	}
	if allowed == 0 || allowed == tried {
		t.Errorf("%d of %d sessions may send", allowed, tried)
	}
	t.Logf("%d listeners, %d sessions, %d may send", len(table), tried, allowed)
}

// A certificate that the listener's authority did not issue ends the handshake.
func TestACertificateOfAStranger(t *testing.T) {
	pool, _ := authority(t)
	_, stranger := authority(t)
	d := newServer(t, func(o *Options) { o.Listeners[0].ClientCAs = pool })
	c := d.hello()
	c.do("STARTTLS", "220 ")
	tc := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{stranger()}})
	err := tc.Handshake()
	if err == nil {
		_, err = tc.Read(make([]byte, 1)) // TLS 1.3 tells with the first read
	}
	if err == nil {
		t.Error("the handshake succeeded")
	}
}

// A client that is not the balancer cannot claim another address.
func TestAPROXYHeaderOfAnybodyIsNotBelieved(t *testing.T) {
	d := newServer(t, func(o *Options) {
		o.Listeners[0].ProxyFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
		o.Listeners[0].Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	c := d.dial()
	c.send("PROXY TCP4 10.0.0.1 127.0.0.1 1234 25\r\n")
	c.want("220 ")
	c.want("501 ")
	c.do("EHLO x", "250 ")
	c.do("MAIL FROM:<a@example.com>", "550 5.7.1 ")
}

// Listeners that change places in the file keep their rules.
func TestARuleStaysWithItsAddress(t *testing.T) {
	pool, issue := authority(t)
	var o Options
	d := newServer(t, func(p *Options) {
		p.Listeners = []Listener{
			{Address: "127.0.0.1:0", TLS: "starttls", Allow: loopback, ClientCAs: pool},
			{Address: "localhost:0", TLS: "starttls", Auth: true, ClientCAs: pool},
		}
		o = *p
	})
	inner, outer := &testServer{t: t, addr: d.server.Addrs()[0].String()}, &testServer{t: t, addr: d.server.Addrs()[1].String()}
	mail := func(d *testServer, want string, certs ...tls.Certificate) {
		t.Helper()
		c := d.hello()
		if len(certs) > 0 {
			c.do("STARTTLS", "220 ")
			c.secure(certs...)
			c.do("EHLO x", "250 ")
		}
		c.do("MAIL FROM:<a@example.com>", want)
		c.conn.Close()
	}
	mail(inner, "250 ")
	mail(outer, "530 ")
	mail(outer, "250 ", issue())
	o.Listeners = []Listener{o.Listeners[1], o.Listeners[0]}
	d.server.Update(o)
	mail(inner, "250 ")
	mail(outer, "530 ")
	// An authority that is taken away counts no more.
	o.Listeners[0].ClientCAs = nil
	o.Listeners[1].Allow = nil
	d.server.Update(o)
	mail(inner, "550 ")
	mail(outer, "550 ", issue())
	// An address that is not in the file keeps the rules that it had.
	o.Listeners[0].Address, o.Listeners[0].Allow = "192.0.2.1:25", loopback
	d.server.Update(o)
	mail(outer, "530 ")
	// So does a listener more, which comes with the next start; an authority that
	// comes again counts again.
	o.Listeners = append(o.Listeners, Listener{Address: "192.0.2.2:25", TLS: "starttls"})
	o.Listeners[1].ClientCAs = pool
	d.server.Update(o)
	mail(inner, "250 ", issue())
}

// What gives the right to send may be taken away by a reload. It counts no more then, also
// in a session that is open.
func TestARightThatIsTakenAwayEndsInOpenSessions(t *testing.T) {
	hash := func(password string) string {
		return string(must(bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)))
	}
	pool, issue := authority(t)
	other, _ := authority(t)
	for _, tt := range []struct {
		name     string
		now      []Account // from a reload on
		options  func(*Listener)
		password string // from a log-in, of a certificate where it is ""
		want     string
	}{
		{"nothing changes", nil, func(*Listener) {}, "secret", "250 "},
		{"the user is gone", []Account{}, func(*Listener) {}, "secret", "421 4.7.0 "},
		{"another password", []Account{{User{Name: "exchange"}, hash("other")}}, func(*Listener) {}, "secret", "421 4.7.0 "},
		{"no log-ins", nil, func(l *Listener) { l.Auth = false }, "secret", "550 5.7.1 "},
		{"the certificate's authority stays", []Account{}, func(*Listener) {}, "", "250 "},
		{"another authority", []Account{}, func(l *Listener) { l.ClientCAs = other }, "", "550 5.7.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			passwords := NewPasswords([]Account{{User{Name: "exchange"}, hash("secret")}})
			var o Options
			d := newServer(t, func(p *Options) {
				p.Listeners[0].Allow, p.Listeners[0].Auth, p.Listeners[0].ClientCAs = nil, true, pool
				p.Users, p.Current = passwords.Authenticate, passwords.Current
				o = *p
			})
			c := d.hello()
			c.do("STARTTLS", "220 ")
			if tt.password == "" {
				c.secure(issue())
				c.do("EHLO x", "250 ")
			} else {
				c.secure()
				c.do("EHLO x", "250 ")
				c.do("AUTH PLAIN "+plain("exchange", tt.password), "235 ")
			}
			c.do("MAIL FROM:<a@example.com>", "250 ")
			c.do("RSET", "250 ")
			o.Listeners = slices.Clone(o.Listeners)
			tt.options(&o.Listeners[0])
			d.server.Update(o)
			if tt.now != nil {
				passwords.Set(tt.now)
			}
			c.do("MAIL FROM:<a@example.com>", tt.want)
			if strings.HasPrefix(tt.want, "421") {
				c.want("EOF")
			}
		})
	}
}

// The domains that a user may send as are those of the last reload.
func TestAUsersDomainsChangeInOpenSessions(t *testing.T) {
	account := Account{User{Name: "exchange"}, string(must(bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)))}
	passwords := NewPasswords([]Account{account})
	d := newServer(t, func(o *Options) {
		o.Listeners[0].Allow, o.Listeners[0].Auth = nil, true
		o.Users, o.Current = passwords.Authenticate, passwords.Current
	})
	c := d.hello()
	c.startTLS()
	c.do("AUTH PLAIN "+plain("exchange", "secret"), "235 ")
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RSET", "250 ")
	account.SenderDomains = []string{"example.org"}
	passwords.Set([]Account{account})
	c.do("MAIL FROM:<a@example.com>", "550 5.7.1 the user exchange may not send as example.com")
	c.do("MAIL FROM:<a@example.org>", "250 ")
}
