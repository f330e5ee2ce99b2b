package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

const publishing = `hostname = "relay.example.com"
[publisher]
host = "mta-sts.provider.example"
addresses = ["198.51.100.7"]
[[publish]]
domains = ["Example.com"]
mode = "enforce"
mx = ["MX1.example.com.", "*.mail.example.com"]
rua = ["mailto:r@example.com"]
[[publish]]
domains = ["provider.example"]
domains_file = "customers"
mx = ["mx.provider.example"]
record = "_mta-sts.provider.example"
`

func TestPublishFromTheCommandLine(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"stsrelay.toml": publishing,
		"customers":     "# those of 2026\ncustomer.example # by telephone\n\nbücher.example\n",
		"none.toml":     "hostname = \"relay.example.com\"\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmx: *.mail.example.com\r\nmax_age: 1209600\r\n"
	id := publish.ID(text)
	for _, tt := range []struct {
		args   string
		status int
		out    []string
		err    string
	}{
		{"publish show example.com", 0, []string{"https://mta-sts.example.com/.well-known/mta-sts.txt, id " + id, "\nmode: enforce\nmx: mx1.example.com\n"}, ""},
		{"publish show other.example", 1, nil, "no [[publish]] has the domain other.example"},
		{"publish show --config none.toml example.com", 1, nil, "has no [[publish]]"},
		{"publish show", 2, nil, "takes one domain"},
		{"publish records example.com --format bind", 0, []string{
			"mta-sts.example.com. IN CNAME mta-sts.provider.example.\n",
			"_mta-sts.example.com. IN TXT \"v=STSv1; id=" + id + ";\"\n",
			"_smtp._tls.example.com. IN TXT \"v=TLSRPTv1; rua=mailto:r@example.com\"\n"}, ""},
		{"publish records --format bind", 0, []string{
			"mta-sts.customer.example. IN CNAME mta-sts.provider.example.\n",
			"_mta-sts.customer.example. IN CNAME _mta-sts.provider.example.\n",
			"_mta-sts.xn--bcher-kva.example. IN CNAME _mta-sts.provider.example.\n",
			"mta-sts.provider.example. IN A 198.51.100.7\n"}, ""},
		{"publish records --format csv customer.example", 0, []string{"name,type,value,why\n", "mta-sts.customer.example,CNAME,mta-sts.provider.example,"}, ""},
		{"publish records --format xml", 2, nil, "must be table, bind or csv"},
		{"publish export web", 0, []string{"4 policy files written below web"}, ""},
	} {
		if !strings.Contains(tt.args, "--config") {
			tt.args += " --config stsrelay.toml"
		}
		got := command(t, "", strings.Fields(tt.args)...)
		if got.status != tt.status || !strings.Contains(got.err, tt.err) {
			t.Errorf("%s: %+v", tt.args, got)
		}
		for _, want := range tt.out {
			if !strings.Contains(got.out, want) {
				t.Errorf("%s: %q lacks %q", tt.args, got.out, want)
			}
		}
	}
	if got := command(t, "", "publish", "records", "--format", "bind", "--config", "stsrelay.toml"); strings.Count(got.out, "_mta-sts.provider.example. IN TXT") != 1 {
		t.Errorf("the record that all share stands there more than once, or never:\n%s", got.out)
	}
	served, err := os.ReadFile("web/mta-sts.example.com/.well-known/mta-sts.txt")
	if err != nil || string(served) != text {
		t.Errorf("%q, %v", served, err)
	}
	if _, _, err := sts.ParsePolicy(served); err != nil {
		t.Error(err)
	}
	var shown shownPolicy
	if err := json.Unmarshal([]byte(command(t, "", "publish", "show", "example.com", "--json", "--config", "stsrelay.toml").out), &shown); err != nil || shown.Text != text || shown.ID != id {
		t.Errorf("%+v, %v", shown, err)
	}
}
