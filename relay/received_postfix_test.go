package relay_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/received"
)

// A relay's report travels through Debian's Postfix, which stands for Exchange, into the
// drop: the numbers are those that the relay has counted. A person's mail by swaks stays
// there, too. .ci/received starts the Postfix, and names its configuration folder and its
// address.
func TestReportsComeThroughPostfix(t *testing.T) {
	etc, address, ok := strings.Cut(os.Getenv("STSRELAY_TEST_POSTFIX"), " ")
	if !ok {
		t.Skip("STSRELAY_TEST_POSTFIX is not set: .ci/received sets it")
	}
	w := e2e.NewWithClock(t)
	toml := w.PublishKeys(ourdkim.RSA)
	w.Start(toml)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example", Policy: e2e.PolicyFor("testing", mx.Name)})
	w.Deliver("b@a.example", "c@a.example")
	w.Stop() // idle sessions end
	w.SetFaults(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.Start("[reports]\naddress = \"drop@own.example\"\n" + toml)
	w.Deliver("d@a.example")
	good, failed := w.Sessions("a.example")
	w.Clock.Tomorrow()
	m := w.Received(box, 1)[0]

	_, port, err := net.SplitHostPort(w.Addr)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "postconf", "-c", etc, "-e", "relayhost=[127.0.0.1]:"+port)
	run(t, "postfix", "-c", etc, "reload")
	if _, err := e2e.SendMail(address, m.From, string(m.Data), "drop@own.example"); err != nil {
		t.Fatal(err)
	}
	run(t, "swaks", "--server", address, "--from", "person@own.example", "--to", "drop@own.example", "--header", "Subject: Re: your report", "--body", "What is this?")
	var list []received.Record
	var mails []received.Mail
	w.WaitFor("the report and the mail to come through Postfix", func(*queue.Queue) bool {
		list, mails = nil, nil
		if err := w.Admin().Get(t.Context(), "/v1/received", nil, &list); err != nil {
			t.Fatal(err)
		}
		if err := w.Admin().Get(t.Context(), "/v1/received-mails", nil, &mails); err != nil {
			t.Fatal(err)
		}
		return len(list) > 0 && len(mails) > 0
	})
	if len(list) != 1 || list[0].Successful != good || list[0].Failed != failed || good == 0 || failed == 0 || list[0].Proof() != "signed by test.example" {
		t.Errorf("%+v, counted were %d and %d", list, good, failed)
	}
	if len(mails) != 1 || mails[0].Subject != "Re: your report" {
		t.Errorf("%+v", mails)
	}
	w.WaitUntilEmpty() // nothing is relayed, and nobody gets a notice
	t.Logf("%d sessions went well, %d failed", good, failed)
}

// run runs a program to its end.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
