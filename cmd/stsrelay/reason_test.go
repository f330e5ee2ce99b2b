package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay"
)

// If mail waits, the command line says why, whose matter that is, and the remedy.
func TestTheCommandLineExplainsWhyMailWaits(t *testing.T) {
	n, file := internet(t, "[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n")
	for _, rrtype := range []string{"A", "AAAA"} {
		n.DNS.Fail("mta-sts.one.example", rrtype, testnet.ServFail)
	}
	n.DNS.Fail("_mta-sts.one.example", "TXT", testnet.ServFail)
	r := started(t, file, relay.Options{Version: "1.2.3"})
	sendInClear(t, r.Addrs()[0].String(), "kurt@one.example")
	var list []struct {
		ID  string
		Why struct{ Code, Detail, Owner, Says, Remedy string }
	}
	for end := time.Now().Add(20 * time.Second); ; {
		unmarshal(t, command(t, "", "queue", "list", "--json", "--config", file).out, &list)
		if len(list) == 1 && list[0].Why.Code == "sts-fetch" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", list)
		}
	}
	if w := list[0].Why; w.Owner != "them" || w.Detail == "" || w.Says == "" || !strings.HasPrefix(w.Remedy, "stsrelay check one.example ") {
		t.Errorf("%+v", w)
	}
	sendInClear(t, r.Addrs()[0].String(), "late@one.example") // its domain is not tried now
	unmarshal(t, command(t, "", "queue", "list", "--json", "--config", file).out, &list)
	for args, want := range map[string]string{
		"queue show " + list[1].ID:        "late@one.example  queued, not tried yet\n            next   in ",
		"queue show " + list[1].ID + " ":  "            waits  with its domain since 20",
		" queue show " + list[0].ID:       "  queued, 1 attempt\n            last   ",
		" queue show " + list[0].ID + " ": "gives up  in 4d 23h, at 20",
		"queue list":                      "  sts-fetch  4.",
		"queue show " + list[0].ID:        "why       sts-fetch (theirs)  Whether",
		"queue summary":                   "\nsts-fetch (theirs)  Whether the domain asks for verified TLS (MTA-STS) cannot be told now.\n    stsrelay check one.example ",
	} {
		r := command(t, "", append(strings.Fields(args), "--config", file)...)
		if r.status != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%s: %+v", args, r)
		}
	}
}
