package config

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestWrongValuesOfThePublisher(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"no domain", "[[publish]]\nmx = [\"mx.example.com\"]\n", "publish[0].domains: is missing"},
		{"a bad domain", "[[publish]]\ndomains = [\"a b\"]\nmx = [\"mx.example.com\"]\n", `stsrelay.toml:2: publish[0].domains = "a b": must be a list of domains`},
		{"an address", "[[publish]]\ndomains = [\"[192.0.2.1]\"]\nmx = [\"mx.example.com\"]\n", "must be a list of domains"},
		{"a bad mode", "[[publish]]\ndomains = [\"example.com\"]\nmode = \"report\"\nmx = [\"mx.example.com\"]\n", `stsrelay.toml:3: publish[0].mode: must be "testing", "enforce" or "none"`},
		{"a short max_age in enforce", "[[publish]]\ndomains = [\"example.com\"]\nmode = \"enforce\"\nmx = [\"mx.example.com\"]\nmax_age = \"1h\"\n", "publish[0].max_age: must be at least 24h"},
		{"no mx", "[[publish]]\ndomains = [\"example.com\"]\n", "publish[0].mx: is missing"},
		{"a domain twice", "[[publish]]\ndomains = [\"example.com\"]\nmx = [\"a.example.com\"]\n[[publish]]\ndomains = [\"EXAMPLE.com\"]\nmx = [\"b.example.com\"]\n", "publish[1]: example.com stands twice: it is in publish[0], too"},
		{"one record for two policies", "[[publish]]\ndomains = [\"a.example\"]\nmx = [\"a.example.com\"]\nrecord = \"_mta-sts.p.example\"\n[[publish]]\ndomains = [\"b.example\"]\nmx = [\"b.example.com\"]\nrecord = \"_mta-sts.p.example\"\n", "is that of publish[0], too"},
		{"a missing file of domains", "[[publish]]\ndomains_file = \"nosuch\"\nmx = [\"a.example.com\"]\n", "domains_file"},
		{"a rua that is none", "[[publish]]\ndomains = [\"a.example\"]\nmx = [\"a.example.com\"]\nrua = [\"r@a.example\"]\n", "publish[0].rua"},
		{"the address of a listener", "[publisher]\nhttps = \"127.0.0.1:2525\"\ntls = \"proxy\"\n", "publisher.https = \"127.0.0.1:2525\": is the same as 127.0.0.1:2525 of listen[0]"},
		{"http without https", "[publisher]\nhttp = \"127.0.0.1:80\"\n", "publisher.https: is missing"},
		{"no folder of certificates", "[publisher]\nhttps = \":443\"\ntls = \"files\"\n", "publisher.certificate_dir"},
		{"a challenge that cannot be met", "[publisher]\nhttps = \":443\"\n[acme]\nchallenge = \"http-01\"\n", "acme.challenge = \"http-01\": cannot be met"},
		{"dns-01 without a server", "[publisher]\nhttps = \":443\"\n[acme]\nchallenge = \"dns-01\"\n", "acme.dns.server: is missing"},
		{"a plain directory", "[acme]\ndirectory = \"http://ca.example/\"\n", "acme.directory"},
		{"half an external account", "[acme]\neab_key_id = \"k\"\n", "acme.eab_key_id: and eab_key_file must both be set"},
		{"two ways to a certificate", "[tls]\nacme = true\ncertificate = \"a\"\nkey = \"b\"\n", "tls.acme"},
		{"a certificate without a challenge", "[tls]\nacme = true\n", "acme.challenge = \"auto\": cannot be met"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := loadText(t, tt.file)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestWhatIsPublished(t *testing.T) {
	text := "hostname = \"relay.example.com\"\n[publisher]\nhttps = \":443\"\n[acme]\nagree = true\n" +
		"[[publish]]\ndomains = [\"Example.com.\"]\nmx = [\"*.Mail.Example.com\", \"MX.example.com.\"]\n"
	c, warnings, err := loadText(t, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		if strings.Contains(string(w), "publish[") || strings.Contains(string(w), "acme.") {
			t.Error(w)
		}
	}
	domains, err := c.Published()
	if err != nil || len(domains) != 1 {
		t.Fatal(domains, err)
	}
	d := domains[0]
	if d.Name != "example.com" || d.Policy.Mode != "testing" || d.Policy.MaxAge != 336*time.Hour || strings.Join(d.Policy.MX, " ") != "*.mail.example.com mx.example.com" || c.PublisherHost() != "relay.example.com" {
		t.Errorf("%+v, %+v, host %s", d, d.Policy, c.PublisherHost())
	}
	// A file is read at each call, and its domains count for duplicates.
	c.Publish[0].DomainsFile = "more"
	for _, tt := range []struct {
		file, fault string
		n           int
	}{
		{"a.example\nb.example\n", "", 3}, {"a.example\nexample.com\n", "stands twice", 0}, {"a b\n", "line 1", 0}, {"", "", 1},
	} {
		if err := os.WriteFile("more", []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		domains, err := c.Published()
		if len(domains) != tt.n || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%q: %v, %v", tt.file, domains, err)
		}
	}
	// Warnings: a short age, an agreement that is missing.
	_, warnings, err = loadText(t, strings.Replace(text, "agree = true", "agree = false", 1)+"max_age = \"48h\"\n")
	all := ""
	for _, w := range warnings {
		all += string(w) + "\n"
	}
	if err != nil || !strings.Contains(all, "acme.agree is not true") || !strings.Contains(all, "publish[0]: max_age is 48h") {
		t.Errorf("%s, %v", all, err)
	}
	c, _, err = loadText(t, "", "STSRELAY_PUBLISH_0_DOMAINS=example.com", "STSRELAY_PUBLISH_0_MX=mx.example.com", "STSRELAY_HOSTNAME=a.example")
	if err != nil || len(c.Publish) != 1 || c.Publish[0].Mode != "testing" {
		t.Errorf("%+v, %v", c, err)
	}
}
