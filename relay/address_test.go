package relay_test

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// dualStack is a domain whose host has an address of each family; what they
// lead to may differ.
func dualStack(w *world, domain string, faults6, faults4 testnet.Faults) (over6, over4 *testnet.Host) {
	w.t.Helper()
	over4, over6 = w.host("mx1."+domain), w.host("six."+domain)
	if err := over6.Answer("mx1."+domain, "fd00::6"); err != nil {
		w.t.Fatal(err)
	}
	for h, f := range map[*testnet.Host]testnet.Faults{over6: faults6, over4: faults4} {
		if err := h.Set(f); err != nil {
			w.t.Fatal(err)
		}
	}
	w.domain(domain, testnet.Domain{MX: []string{"mx1." + domain}})
	return over6, over4
}

// Some hosts refuse IPv6 senders without a reverse name that they take over
// IPv4.
func TestARefusalOverOneFamilyIsTriedOverTheOther(t *testing.T) {
	refuses := testnet.Faults{Replies: map[string]string{"rcpt": "550 5.7.1 your address has no reverse name"}}
	refusesMessage := testnet.Faults{Replies: map[string]string{"dot": "550 5.7.1 [fd00::6] has no reverse name"}}
	noUser := testnet.Faults{Replies: map[string]string{"rcpt": "550 5.1.1 no such user"}}
	down := testnet.Faults{Down: true}
	for _, tt := range []struct {
		name         string
		over6, over4 testnet.Faults
		want6, want4 int64 // MAIL commands
		delivered    bool
	}{
		{"refused over IPv6 only", refuses, testnet.Faults{}, 1, 1, true},
		{"the message refused over IPv6 only", refusesMessage, testnet.Faults{}, 1, 1, true},
		{"refused over both", refuses, refuses, 1, 1, false},
		{"refused over IPv6, IPv4 down", refuses, down, 1, 0, false},
		{"no such user", noUser, testnet.Faults{}, 1, 0, false},
		{"IPv6 down", down, testnet.Faults{}, 0, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "")
			over6, over4 := dualStack(w, "dual.example", tt.over6, tt.over4)
			id := w.send("", "kurt@dual.example") // no notice
			if _, gone := w.attempted(id); !gone {
				t.Error("the message is still in the queue")
			}
			if n6, n4 := over6.Counts().Mails, over4.Counts().Mails; n6 != tt.want6 || n4 != tt.want4 {
				t.Errorf("%d MAIL commands over IPv6, %d over IPv4", n6, n4)
			}
			if n := over6.Counts().Messages + over4.Counts().Messages; (n == 1) != tt.delivered {
				t.Errorf("%d messages came in", n)
			}
		})
	}
}

func TestTheFamilyOfAddresses(t *testing.T) {
	for family, want6 := range map[string]bool{"ipv4": false, "ipv6": true} {
		w := newWorld(t, "ip_family = \""+family+"\"\n")
		over6, over4 := dualStack(w, "dual.example", testnet.Faults{}, testnet.Faults{})
		if _, gone := w.attempted(w.send("anna@sender.example", "kurt@dual.example")); !gone {
			t.Fatal("not delivered")
		}
		if got := over6.Counts().Messages == 1; got != want6 || over4.Counts().Messages == 1 == got {
			t.Errorf("%s: delivered over IPv6 %t", family, got)
		}
		only4 := w.host("mx1.four.example")
		w.domain("four.example", testnet.Domain{MX: []string{only4.Name}})
		m, gone := w.attempted(w.send("anna@sender.example", "kurt@four.example"))
		if gone == want6 || want6 && !strings.Contains(m.States[0].LastError, "ip_family") {
			t.Errorf("%s: a host with IPv4 only: gone %t, %+v", family, gone, m.States)
		}
	}
}
