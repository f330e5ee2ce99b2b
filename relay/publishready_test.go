package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// goodReport is a report of a sender, about a day on which ten sessions went well.
func goodReport(sender, day string) string {
	return fmt.Sprintf(`{"organization-name":%q,"date-range":{"start-datetime":"%sT00:00:00Z","end-datetime":"%[2]sT23:59:59Z"},"contact-info":"x@%[1]s","report-id":"%[1]s-%[2]s",
"policies":[{"policy":{"policy-type":"sts","policy-domain":"a.example"},"summary":{"total-successful-session-count":10,"total-failure-session-count":0}}]}`, sender, day)
}

// The operator is told once that the reports of others show that a domain is ready for
// enforce, also over a restart; again only where the domain comes back to mode testing.
func TestTheOperatorIsToldOnceThatADomainIsReady(t *testing.T) {
	w := e2e.NewWithClock(t)
	back := w.Host("mx1.operator.example")
	w.Domain("operator.example", testnet.Domain{MX: []string{back.Name}})
	certificateFile(t, w, w.Dir, "mta-sts.a.example")
	findsPublisher(w, w)
	text := func(mode string) string {
		return fmt.Sprintf("[notices]\noperator = \"root@operator.example\"\n[publisher]\nhttps = \"127.0.0.1:0\"\naddresses = [\"127.0.0.1\"]\ntls = \"files\"\ncertificate_dir = %q\n[[publish]]\ndomains = [\"a.example\"]\nmode = %q\nmx = [\"mx.a.example\"]\n", w.Dir, mode)
	}
	w.Start(text("testing"))
	var served []operator.Published
	if err := w.Admin().Get(t.Context(), "/v1/publish", nil, &served); err != nil {
		t.Fatal(err)
	}
	w.AddRecords("a.example. 60 IN MX 10 mx.a.example.", "mta-sts.a.example. 60 IN A 127.0.0.1", `_mta-sts.a.example. 0 IN TXT "`+publish.RecordText(served[0].ID)+`"`)
	for day := range 15 {
		for _, sender := range []string{"one.example", "two.example"} {
			text := goodReport(sender, w.Clock.Now().AddDate(0, 0, -1-day).Format(time.DateOnly))
			if _, err := w.Relay.Operator().ImportReports(t.Context(), operator.Actor{Via: "test"}, strings.NewReader(text), "r.json"); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := func() (n int) {
		for _, m := range back.Messages() {
			if strings.Contains(string(m.Data), "a.example is ready for mode enforce") {
				n++
			}
		}
		return n
	}
	looks := func() int { return w.DNS.Asked("_mta-sts.a.example", "TXT") }
	looked := func(n int) { // n looks at the domain, and what followed all but the last
		t.Helper()
		for range n {
			for before := looks(); looks() == before; {
				w.Clock.Set(w.Clock.Now().Add(time.Hour))
				for i := 0; i < 200 && looks() == before; i++ {
					time.Sleep(time.Millisecond)
				}
			}
		}
		w.WaitUntilEmpty()
	}
	await.Until(t, "the mail", func() bool { looked(1); return told() == 1 })
	enforce := "version: STSv1\r\nmode: enforce\r\nmx: mx.a.example\r\nmax_age: 1209600\r\n"
	if mail := strings.ReplaceAll(string(back.Messages()[0].Data), "=\r\n", ""); !strings.Contains(mail, "15 days, 300 sessions of 2 senders") || !strings.Contains(mail, publish.ID(enforce)) {
		t.Errorf("the mail is\n%s", mail)
	}
	looked(6)
	w.Stop()
	w.Start(text("testing"))
	looked(6)
	if n := told(); n != 1 {
		t.Errorf("the operator was told %d times", n)
	}
	w.Configure(text("enforce"))
	w.Reload()
	looked(6)
	w.Configure(text("testing"))
	w.Reload()
	await.Until(t, "another mail", func() bool { looked(1); return told() == 2 })
}
