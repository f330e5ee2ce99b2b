package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// publishCommandIn runs a command whose connections stay in the fake Internet.
func publishCommandIn(n *testnet.Net, file string, args ...string) result {
	var out, errOut bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &errOut, nil)
	a.dial = n.DialContext
	status := a.run(append(append([]string{"publish"}, args...), "--config", file))
	return result{status, out.String(), errOut.String()}
}

// The way of a postmaster who knows nothing of MTA-STS: setup says what to add and to set,
// and status what is missing until all is right.
func TestFromADomainToAPublishedPolicy(t *testing.T) {
	n, file := internet(t, "")
	add := func(records ...string) {
		t.Helper()
		if err := n.DNS.Add(records...); err != nil {
			t.Fatal(err)
		}
	}
	h, err := n.AddHost("mx1.own.example")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := n.AddHost("mx2.own.example")
	if err == nil {
		err = bad.Set(testnet.Faults{NoStartTLS: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	add("own.example. 60 IN MX 10 "+h.Name+".", "relay.example.com. 60 IN A 198.51.100.7")
	good := publishCommandIn(n, file, "setup", "own.example")
	for _, want := range []string{"mx1.own.example: its certificate is good", "[[publish]]\ndomains = [\"own.example\"]", "mx = [\"mx1.own.example\"]", "CNAME  relay.example.com", "_smtp._tls.own.example"} {
		if good.status != 0 || !strings.Contains(good.out, want) {
			t.Errorf("setup lacks %q: %+v", want, good)
		}
	}
	if r := publishCommandIn(n, file, "setup", "nowhere.example"); r.status != 1 || !strings.Contains(r.err, "has no MX host") {
		t.Errorf("%+v", r)
	}
	// The record with the id comes in a step of its own, the last of them.
	if rest := good.out[strings.Index(good.out, "can be read in a browser"):]; !strings.Contains(rest, "_mta-sts.own.example\n    TXT") || strings.Contains(rest, "_smtp._tls") {
		t.Errorf("the record with the id is not the last:\n%s", good.out)
	}
	if !strings.Contains(good.out, "[publisher]\nhttps = \"0.0.0.0:443\"\nhttp = \"0.0.0.0:80\"\n\n[acme]\nagree = true\n") {
		t.Errorf("setup does not say how the policy is served:\n%s", good.out)
	}
	// The lines that setup prints are good ones.
	_, toml, _ := strings.Cut(good.out, "where you read reports:\n\n")
	toml, _, _ = strings.Cut(toml, "\n\n")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	configure := func(lines string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(string(data)+"[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"files\"\ncertificate_dir = \".\"\n"+lines+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure(toml)
	id := publish.ID(publish.Text(&sts.Policy{Mode: sts.ModeTesting, MaxAge: 14 * 24 * 3600e9, MX: []string{"mx1.own.example"}}))
	status := func(code int, says string) {
		t.Helper()
		r := publishCommandIn(n, file, "status", "own.example")
		if r.status != code || !strings.Contains(r.out, says) {
			t.Errorf("status %d, want %d and %q\n%s%s", r.status, code, says, r.out, r.err)
		}
	}
	status(0, "mta-sts.own.example does not exist: no certificate is ordered; set mta-sts.own.example CNAME relay.example.com")
	add("mta-sts.own.example. 60 IN A 203.0.113.9")
	status(1, "has the address 203.0.113.9, which is none of this relay's (198.51.100.7)")
	n.DNS.Remove("mta-sts.own.example", "A")
	add("mta-sts.own.example. 60 IN CNAME relay.example.com.")
	status(0, "_mta-sts.own.example does not exist")
	add("_mta-sts.own.example. 60 IN TXT \"v=STSv1; id=OLD\"")
	status(1, "says id=OLD, what is served is "+id)
	n.DNS.Remove("_mta-sts.own.example", "TXT")
	add(fmt.Sprintf("_mta-sts.own.example. 60 IN TXT \"v=STSv1; id=%s;\"", id), "_smtp._tls.own.example. 60 IN TXT \"v=TLSRPTv1; rua=mailto:tls-reports@own.example\"")
	status(0, "next: own.example: it is in mode testing")
	add("own.example. 60 IN MX 20 " + bad.Name + ".")
	status(1, "mail host mx2.own.example is in the DNS and not in the policy")
	if r := publishCommandIn(n, file, "setup", "own.example"); r.status != 1 || !strings.Contains(r.out, "mx2.own.example: STARTTLS is not offered") || strings.Contains(r.out, "[[publish]]") {
		t.Errorf("%+v", r)
	}
	// The check of the domain says the same.
	page := strings.Join(strings.Fields(checkCommand(t, n, "own.example", "--config", file).out), " ")
	for _, want := range []string{"Published by this relay note mode testing, id " + id + "; no running relay serves it", "FAIL mail host mx2.own.example is in the DNS and not in the policy"} {
		if !strings.Contains(page, want) {
			t.Errorf("check lacks %q:\n%s", want, page)
		}
	}
	if r := publishCommandIn(n, file, "renew", "own.example"); r.status != exitNotRunning {
		t.Errorf("%+v", r)
	}
}
