package ingress

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// signer notes for which domains it is asked to sign.
type signer struct {
	mu      sync.Mutex
	domains []string
}

type noSignature struct{ io.Writer }

func (noSignature) Close() ([]byte, error) { return nil, nil }

func (s *signer) sign(domain string) Signing {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.domains = append(s.domains, domain)
	return noSignature{io.Discard}
}

func TestAFromFieldIsAddedWhereThereIsNone(t *testing.T) {
	for _, tt := range []struct{ name, sender, in, want string }{
		{"none", "scanner@example.com", "Subject: x\r\n\r\n", "From: <scanner@example.com>"},
		{"no header", "scanner@example.com", "hello\r\n", "From: <scanner@example.com>"},
		{"an empty one", "scanner@example.com", "From: \r\nSubject: x\r\n\r\n", "From: <scanner@example.com>"},
		{"in the body only", `"a b"@example.com`, "Subject: x\r\n\r\nFrom: y@example.com\r\n", `From: <"a b"@example.com>`},
		{"one without an address", "scanner@example.com", "From: Scanner\r\n\r\n", "From: Scanner"},
		{"one", "scanner@example.com", "fROM: me@example.com\r\n\r\n", "fROM: me@example.com"},
		{"nobody to name", "", "Subject: x\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s signer
			d := newServer(t, func(o *Options) { o.Sign = s.sign })
			c := d.hello()
			c.do("MAIL FROM:<"+tt.sender+">", "250 ")
			c.do("RCPT TO:<b@example.org>", "250 ")
			c.do("DATA", "354 ")
			c.send(tt.in + ".\r\n")
			c.want("250 ")
			head, _, _ := strings.Cut(d.contents()[0], "\r\n\r\n")
			var got []string
			for line := range strings.SplitSeq(head, "\r\n") {
				if strings.HasPrefix(strings.ToLower(line), "from") {
					got = append(got, line)
				}
			}
			if strings.Join(got, "|") != tt.want {
				t.Errorf("From fields %q, want %q", got, tt.want)
			}
			if signs := strings.Join(s.domains, ","); signs != map[bool]string{true: "example.com"}[strings.Contains(tt.want, "@")] {
				t.Errorf("signed for %q", signs)
			}
		})
	}
}

// sender_domains of a listener and of a user bind the From field, whatever the
// envelope's sender is; and nothing is signed for a domain that may not be claimed.
func TestSenderDomainsBindTheFromField(t *testing.T) {
	fields := map[string]bool{
		"From: a@printer.example":                                                true,
		"From: a@PRINTER.example.":                                               true,
		"From: \"boss@boss.example\" <a@printer.example>":                        true, // a name, not an address
		"From: a@printer.example, B <b@printer.example>":                         true,
		"From: Scanner":                                                          true,
		"From: Scan [room 4] <a@printer.example>":                                true,
		"Subject: none":                                                          true,
		"From: undisclosed:;":                                                    true,
		"From: boss@boss.example":                                                false,
		"from :\r\n boss@boss.example":                                           false,
		"From: a@printer.example\r\nFROM: boss@boss.example":                     false,
		"From: a@printer.example, boss@boss.example":                             false,
		"From: Team: a@printer.example, boss@boss.example;":                      false,
		"From: boss@boss.example <a@printer.example>":                            false,
		"From: <boss@boss.example> <a@printer.example>":                          false,
		"From: <@boss.example:a@printer.example>":                                false,
		"From: boss@boss.example a@printer.example":                              false,
		"From: a@sub.printer.example":                                            false,
		"From: a@[192.0.2.1]":                                                    false,
		"From: a@xn--bcher-kva.example":                                          false,
		"From: boss@\r\n\tboss.example":                                          false,
		"From: =?utf-8?b?Ym9zc0Bib3NzLmV4YW1wbGU=?=":                             false,
		"From boss@boss.example Mon Jan 1 00:00:00 2024\r\nFrom: b@boss.example": false,
		"Subject: x\r\nno field\r\nFrom: boss@boss.example":                      false,
	}
	for _, who := range []string{"listener", "user"} {
		var s signer
		d := newServer(t, func(o *Options) {
			o.Sign = s.sign
			if who == "listener" {
				o.Listeners[0].SenderDomains = []string{"printer.example"}
				return
			}
			o.Listeners[0].Auth = true
			o.Users = func(_ context.Context, name, _ string) (User, bool) {
				return User{Name: name, SenderDomains: []string{"printer.example"}}, true
			}
		})
		for field, ok := range fields {
			for _, sender := range []string{"a@printer.example", ""} {
				c := d.hello()
				if who == "user" {
					c.startTLS()
					c.do("AUTH PLAIN "+plain("printer", "x"), "235 ")
				}
				c.do("MAIL FROM:<"+sender+">", "250 ")
				c.do("RCPT TO:<b@example.org>", "250 ")
				c.do("DATA", "354 ")
				c.send(field + "\r\n\r\nbody\r\n.\r\n")
				want := map[bool]string{true: "250 ", false: "550 5.7.1 the From field "}[ok]
				if got := c.reply(); !strings.HasPrefix(got, want) {
					t.Errorf("%s, <%s>, %q: %s", who, sender, field, got)
				}
				c.conn.Close()
			}
		}
		if others := slices.DeleteFunc(s.domains, func(d string) bool { return d == "printer.example" }); len(others) > 0 {
			t.Errorf("%s: signed for %q", who, others)
		}
	}
	d := newServer(t, nil)
	if got := d.hello().message("DATA", "From: boss@boss.example\r\n\r\nx\r\n"); !strings.HasPrefix(got, "250 ") {
		t.Errorf("where nothing is bound: %s", got)
	}
}

func FuzzAuthors(f *testing.F) {
	for _, s := range []string{"a@b.example", "g: a@b, c@d;", `"a@b" <c@d>`, "=?utf-8?q?a=40b?=", "a@b <c@d>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, d := range authors(s) {
			if d == "" || strings.ContainsAny(d, "\r\n\x00") {
				t.Errorf("%q claims %q", s, d)
			}
		}
	})
}
