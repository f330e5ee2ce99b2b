package check

import (
	"fmt"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// textScenarios are records and replies that people have to read: TLS-RPT, many records, control characters.
var textScenarios = []scenario{
	{name: "tls-rpt-faults", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}, TLSRPT: "mailto:tls@" + d + ",http://reports." + d + "/v1"}))
	}},
	{name: "records-many", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		for i := range 8 {
			w.ok(w.DNS.Add(fmt.Sprintf("_mta-sts.%s. 60 IN TXT %q", d, fmt.Sprintf("V=STSv1; id=%d", i)), fmt.Sprintf("_smtp._tls.%s. 60 IN TXT %q", d, fmt.Sprintf("v=TLSRPT1; rua=mailto:a%d@%s", i, d))))
		}
	}},
	{name: "tls-rpt-misspelt", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.ok(w.DNS.Add(fmt.Sprintf("_smtp._tls.%s. 60 IN TXT %q", d, "v=TLSRPT1; rua=mailto:tls@"+d)))
	}},
	{name: "control-characters", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Replies: map[string]string{"greeting": "220 mx1 \x1b]0;owned\x07 \u202eEVIL"}})
		w.enforced(d, "mx1."+d)
		w.ok(w.DNS.Add("_mta-sts." + d + `. 60 IN TXT "x\027[31mred\007"`))
		w.site(d, testnet.PolicyFaults{Body: "version: STSv1\nmode: testing\nmx: mx1." + d + "\nmax_age: 1209600\n\x1b[2Jfoo: \x1b[31m\u009b31m\n"})
	}},
}
