package ingress

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

var addressMap = AddressMap{
	"root@host.localdomain": "ops@example.com",
	"host.localdomain":      "example.com",
	".old.example":          "new.example",
	"all.example":           "one@example.com",
}

func TestAddressesInFieldsAreReplaced(t *testing.T) {
	for in, want := range map[string]string{
		"From: root@host.localdomain (Cron Daemon)":                            "From: ops@example.com (Cron Daemon)",
		"From: ROOT@Host.LocalDomain":                                          "From: ops@example.com",
		"To: \"root@host.localdomain\" <backup@host.localdomain>, x@y.example": "To: \"root@host.localdomain\" <backup@example.com>, x@y.example",
		"Cc: a@sub.old.example,\r\n\tb@old.example, c@all.example":             "Cc: a@new.example,\r\n\tb@old.example, one@example.com",
		"Reply-To: (root@host.localdomain (inside)) a@host.localdomain":        "Reply-To: (root@host.localdomain (inside)) a@example.com",
		"From: \"a \\\" b\" <root@host.localdomain>":                           "From: \"a \\\" b\" <ops@example.com>",
		"Subject: root@host.localdomain":                                       "Subject: root@host.localdomain",
		"To: undisclosed-recipients:;":                                         "To: undisclosed-recipients:;",
		"From: \"not closed root@host.localdomain":                             "From: \"not closed root@host.localdomain",
		"From: @host.localdomain, x@, @@":                                      "From: @host.localdomain, x@, @@",
	} {
		if got := string(addressMap.field([]byte(in + "\r\n"))); got != want+"\r\n" {
			t.Errorf("%q\nbecomes %q,\nwant    %q", in, got, want)
		}
	}
}

// A field stays one field, whatever is in it, and without a match it stays as it is.
func FuzzRewriteField(f *testing.F) {
	f.Add("From: root@host.localdomain (x) \"y\" <a@old.example>")
	f.Add("To: ((\"\\")
	f.Fuzz(func(t *testing.T, s string) {
		for field := range mailheader.Fields([]byte(s)) {
			if got := (AddressMap{"x@y.z.example": "a@b.example"}).field(field); !bytes.Equal(got, field) && !bytes.Contains(bytes.ToLower(field), []byte("y.z.example")) {
				t.Fatalf("%q becomes %q", field, got)
			}
			got := addressMap.field(field)
			if strings.Count(string(got), "\n") != strings.Count(string(field), "\n") || mailheader.Name(got) != mailheader.Name(field) {
				t.Fatalf("%q becomes %q", field, got)
			}
		}
	})
}

func TestEnvelopesAreRewrittenAndRecipientsBlocked(t *testing.T) {
	d := newServer(t, func(o *Options) {
		o.Rewrite = addressMap
		o.Blocked = AddressMap{"noreply@example.com": "", "closed.example": "", ".closed.example": ""}
		o.Listeners[0].SenderDomains = []string{"example.com"}
	})
	c := d.hello()
	c.do("MAIL FROM:<root@host.localdomain>", "250 ")
	c.do("RCPT TO:<Root@host.localdomain>", "250 ")
	c.do("RCPT TO:<kurt@sub.old.example>", "250 ")
	for _, to := range []string{"NoReply@example.com", "noreply@host.localdomain", "x@closed.example", "x@sub.closed.example"} {
		c.do("RCPT TO:<"+to+">", "550 5.7.1 nobody may write to <")
	}
	c.do("DATA", "354 ")
	c.do("From: Cron <root@host.localdomain>\r\nSubject: x\r\n\r\nroot@host.localdomain\r\n.", "250 ")
	env := must(d.queue.Show(d.messages()[0].ID)).Envelope
	if env.From != "ops@example.com" || env.Recipients[0].Address != "ops@example.com" || env.Recipients[0].ORcpt != "rfc822;Root@host.localdomain" ||
		env.Recipients[1].Address != "kurt@new.example" || env.Recipients[1].Domain != "new.example" {
		t.Errorf("%+v", env)
	}
	if got := d.contents()[0]; !strings.Contains(got, "From: Cron <ops@example.com>\r\n") || !strings.HasSuffix(got, "\r\n\r\nroot@host.localdomain\r\n") {
		t.Errorf("the message is\n%s", got)
	}
}
