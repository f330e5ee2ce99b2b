package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// open opens a session with a host of the fake Internet.
func open(t *testing.T, n *testnet.Net, o *Opener, h *testnet.Host, asked security.Level) (*Session, *Failure) {
	t.Helper()
	target := Target{Requirement: &security.Requirement{Domain: "d.example", Host: h.Name, Level: asked}, Addr: netip.AddrPortFrom(netip.MustParseAddr(h.IP), 25), ConnectTimeout: time.Minute}
	conn, err := n.DialContext(t.Context(), "tcp", target.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	s, f := o.Open(t.Context(), conn, target)
	if s != nil {
		t.Cleanup(func() { _ = s.Client.Close() })
	}
	return s, f
}

func TestOpenTellsHowFarASessionCame(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	for _, tt := range []struct {
		name   string
		faults testnet.Faults
		stage  Stage             // "": there is a session
		tls    security.StartTLS // then
		small  bool
	}{
		{"good.example", testnet.Faults{}, "", security.Established, false},
		{"clear.example", testnet.Faults{NoStartTLS: true}, "", security.NotOffered, false},
		{"refused.example", testnet.Faults{StartTLSReply: "454 4.7.0 not now"}, "", security.Refused, false},
		{"goodbye.example", testnet.Faults{StartTLSReply: "421 4.7.0 bye"}, StageStartTLS, 0, false},
		{"broken.example", testnet.Faults{InjectAfter220: true}, "", security.Broken, false},
		{"small.example", testnet.Faults{Hello: testnet.HelloDrop}, "", security.Established, true},
		{"greeting.example", testnet.Faults{Replies: map[string]string{"greeting": "554 5.7.1 no"}}, StageGreeting, 0, false},
		{"ehlo.example", testnet.Faults{Replies: map[string]string{"ehlo": "554 5.7.1 no", "helo": "554 5.7.1 no"}}, StageEHLO, 0, false},
		{"within.example", testnet.Faults{Replies: map[string]string{"ehlo-tls": "554 5.7.1 no", "helo": "554 5.7.1 no"}}, StageEHLO, 0, false},
	} {
		h, err := n.AddHost(tt.name)
		if err == nil {
			err = h.Set(tt.faults)
		}
		if err != nil {
			t.Fatal(err)
		}
		o := &Opener{Dialer: NewDialer(n.DialContext, nil), Hostname: "relay.example", Roots: n.CA.Roots(), Hellos: clienthello.NewHosts(time.Now)}
		s, f := open(t, n, o, h, security.NoLevel)
		switch {
		case tt.stage != "":
			if _, refused := errors.AsType[*smtpclient.ReplyError](f); s != nil || f == nil || f.Stage != tt.stage || f.Host != tt.name || !refused {
				t.Errorf("%s: %+v, %v", tt.name, s, f)
			}
		case f != nil:
			t.Errorf("%s: %v", tt.name, f)
		case s.Evidence.StartTLS != tt.tls || (s.Unanswered != "") != tt.small || tt.small != o.Hellos.Small(h.IP+":25"):
			t.Errorf("%s: %+v", tt.name, s)
		case tt.tls == security.Established && s.Evidence.Certificate != security.Trusted:
			t.Errorf("%s: %+v", tt.name, s.Evidence)
		}
	}
}

// A resumed session shows the certificate of an earlier handshake. One that leaves
// something to be desired is made anew, in full.
func TestOpenResumesOnlyWhatIsFlawless(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	o := &Opener{Dialer: NewDialer(n.DialContext, nil), Hostname: "relay.example", Roots: n.CA.Roots(), Cache: tls.NewLRUClientSessionCache(10)}
	h, err := n.AddHost("mx.example")
	if err != nil {
		t.Fatal(err)
	}
	for i, now := range []time.Time{time.Now(), time.Now(), time.Now().AddDate(20, 0, 0), time.Now()} {
		o.Now = func() time.Time { return now }
		s, f := open(t, n, o, h, security.Verify)
		if f != nil {
			t.Fatal(f)
		}
		// The certificate has ended in 20 years; what is not flawless is not resumed next time.
		if want := i == 1; s.Resumed != want {
			t.Errorf("session %d: resumed %t", i+1, s.Resumed)
		}
		if err := s.Client.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// InClear goes on without TLS where the handshake has broken, and keeps what it proved.
func TestInClearKeepsTheEvidence(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	h, err := n.AddHost("mx.example")
	if err == nil {
		err = h.Set(testnet.Faults{InjectAfter220: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	fail := false
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if fail {
			return nil, errors.New("no route")
		}
		return n.DialContext(ctx, network, address)
	}
	o := &Opener{Dialer: NewDialer(dial, nil), Hostname: "relay.example"}
	s, f := open(t, n, o, h, security.NoLevel)
	if f != nil || s.Client.Usable() {
		t.Fatalf("%+v, %v", s, f)
	}
	target := Target{Requirement: &security.Requirement{Host: h.Name}, Addr: netip.AddrPortFrom(netip.MustParseAddr(h.IP), 25), ConnectTimeout: time.Minute}
	if f := o.InClear(t.Context(), target, s); f != nil || !s.Client.Usable() || s.Evidence.StartTLS != security.Broken {
		t.Errorf("%+v, %v", s, f)
	}
	fail = true
	if f := o.InClear(t.Context(), target, s); f == nil || f.Stage != StageReconnect {
		t.Errorf("%v", f)
	}
}
