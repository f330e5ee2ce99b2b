package config

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// loadText reads text as a file named stsrelay.toml in the present folder.
func loadText(t *testing.T, text string, environ ...string) (*Config, []Warning, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("stsrelay.toml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load("stsrelay.toml", environ)
}

func TestWrongValuesAreToldWithFileLineAndKey(t *testing.T) {
	const hash = "$2a$10$x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e"
	for _, tt := range []struct{ name, file, want string }{
		{"unknown key", "hostnam = \"a.example\"\n", `stsrelay.toml:1: hostnam: there is no such key; did you mean "hostname"?`},
		{"unknown key in a table", "\n[delivery]\nretrys = [\"1m\"]\n", `stsrelay.toml:3: delivery.retrys: there is no such key; did you mean "retry"?`},
		{"unknown table", "[quue]\nx = 1\n", `stsrelay.toml:1: quue`},
		{"closed set", "[delivery]\n\nplaintext = \"maybe\"\n", `stsrelay.toml:3: delivery.plaintext = "maybe": must be "allow" or "refuse"`},
		{"wrong type", "[limits]\nrecipients = \"many\"\n", `stsrelay.toml:2: limits.recipients: must be a whole number`},
		{"more recipients than the store can remove", "[limits]\nrecipients = 5001\n", `stsrelay.toml:2: limits.recipients = "5001": must be at most 5000`},
		{"a larger message than the store can remove", "[limits]\nmessage_size = \"2GiB\"\n", `stsrelay.toml:2: limits.message_size`},
		{"size", "[limits]\nmessage_size = \"50 apples\"\n", `stsrelay.toml:2: limits.message_size = "50 apples": must be a size such as "50MiB"`},
		{"duration", "[delivery]\nexpire = \"five days\"\n", `stsrelay.toml:2: delivery.expire = "five days": must be a time such as`},
		{"retry", "[delivery]\nretry = []\n", `stsrelay.toml:2: delivery.retry: must have at least one time`},
		{"a byte order mark", "\uFEFFhostname = 5\n", `stsrelay.toml:1: hostname: must be a text`},
		{"UTF-16", "\xff\xfeh\x00", `stsrelay.toml:1: it is written in UTF-16; save it as UTF-8`},
		{"no TOML", "hostname = \n", `stsrelay.toml:1: column`},
		{"second listener", "[[listen]]\naddress = \"127.0.0.1:25\"\n[[listen]]\naddress = \"127.0.0.1:26\"\ntls = \"tls\"\n", `stsrelay.toml:5: listen[1].tls = "tls": must be "none", "starttls" or "implicit"`},
		{"open relay", "[[listen]]\naddress = \":25\"\nallow = [\"0.0.0.0/0\"]\n", `stsrelay.toml:3: listen[0].allow = "0.0.0.0/0": would let the whole Internet, or a great part of it, send`},
		{"open relay in halves", "[[listen]]\naddress = \":25\"\nallow = [\"0.0.0.0/1\", \"128.0.0.0/1\"]\n", `stsrelay.toml:3: listen[0].allow = "0.0.0.0/1": would let`},
		{"open relay over IPv6", "[[listen]]\naddress = \":25\"\nallow = [\"fc00::/7\", \"2000::/3\"]\n", `stsrelay.toml:3: listen[0].allow = "2000::/3": would let`},
		{"header that is needed", "[headers]\nstrip = [\"X-A\", \"Message-*\"]\n", `stsrelay.toml:2: headers.strip = "Message-*": must not take away message-id`},
		{"no header", "[headers]\nstrip = [\"X A:\"]\n", `stsrelay.toml:2: headers.strip = "X A:": must be the name of a header field`},
		{"language", "[notices]\nlanguage = \"fr\"\n", `stsrelay.toml:2: notices.language = "fr": must be "en" or "de"`},
		{"operator", "[notices]\noperator = \"root\"\n", `stsrelay.toml:2: notices.operator = "root": must be a mail address`},
		{"senders of a user", "[[user]]\nname = \"a\"\npassword_hash = \"" + hash + "\"\nsender_domains = [\"a b\"]\n", `stsrelay.toml:4: user[0].sender_domains = "a b": must be a list of domains`},
		{"nobody may send", "[[listen]]\naddress = \":25\"\nallow = []\n", `stsrelay.toml:3: listen[0].allow: is empty`},
		{"host bits", "[[listen]]\naddress = \":25\"\nallow = [\"10.0.0.1/8\"]\n", `stsrelay.toml:3: listen[0].allow = "10.0.0.1/8": has bits behind its length set; did you mean 10.0.0.0/8?`},
		{"one listener as a table", "[listen]\naddress = \":25\"\nallow = []\n", `stsrelay.toml:1: listen: is a list of tables: write [[listen]], not [listen]`},
		{"one listener in dotted keys", "\nlisten.address = \":25\"\n", `stsrelay.toml:2: listen: is a list of tables: write [[listen]]`},
		{"what is wrong before the end of TOML", "[log]\nlevel = 5\n[dns]\nservers = [\n  \"a\"\n\n", `stsrelay.toml:2: log.level: must be a text`},
		{"no folder for the data", "data_dir = \"\"\n", `stsrelay.toml:1: data_dir: must be a folder`},
		{"one user as a table", "hostname = \"a.example\"\n[user]\nname = \"a\"\n", `stsrelay.toml:2: user: is a list of tables: write [[user]], not [user]`},
		{"a value for a list of tables", "domain = \"a.example\"\n", `stsrelay.toml:1: domain: is a list of tables: write [[domain]]`},
		{"a list for a table", "[[delivery]]\npaused = true\n", `stsrelay.toml:1: delivery: must be a table: write [delivery]`},
		{"a value for a table", "dns = 5\n", `stsrelay.toml:1: dns: must be a table: write [dns]`},
		{"a number that is no list", "[[1]]\n", `stsrelay.toml:1: 1: there is no such key`},
		{"a time without a unit", "[delivery]\ndelay_notice = 4\n", `stsrelay.toml:2: delivery.delay_notice: must be a time in quotes such as "5m"`},
		{"a time below zero", "[delivery]\nexpire = \"-4h\"\n", `stsrelay.toml:2: delivery.expire = "-4h": must be a time such as`},
		{"times without a unit", "[delivery]\nretry = [60]\n", `stsrelay.toml:2: delivery.retry: must be a time in quotes such as "5m"`},
		{"times that are no list", "[delivery]\nretry = \"5m\"\n", `stsrelay.toml:2: delivery.retry: must be a list: ["5m", …]`},
		{"a time that is a flag", "[delivery]\nconnect_timeout = true\n", `stsrelay.toml:2: delivery.connect_timeout: must be a time in quotes`},
		{"a broken size", "[limits]\nmessage_size = 1.5\n", `stsrelay.toml:2: limits.message_size: must be a size in quotes such as "50MiB"`},
		{"a network that is a number", "[[listen]]\naddress = \":25\"\nallow = [5]\n", `stsrelay.toml:3: listen[0].allow: must be a network in quotes such as "10.0.0.0/8"`},
		{"a socket's path that is taken", "data_dir = \".\"\n[admin]\nsocket = \"stsrelay.toml\"\n", `stsrelay.toml:3: admin.socket = `},
		{"a socket's path that is too long", "[admin]\nsocket = \"/" + strings.Repeat("x", 200) + "\"\n", `is too long for a socket`},
		{"a key twice", "hostname = \"a.example\"\nhostname = \"b.example\"\n", `stsrelay.toml:2: column`},
		{"a text without quotes", "[log]\nlevel = 5\n", `stsrelay.toml:2: log.level: must be a text in quotes`},
		{"AUTH in clear", "[[listen]]\naddress = \":25\"\ntls = \"none\"\nauth = true\n", `stsrelay.toml:4: listen[0].auth: cannot be true`},
		{"half a certificate", "[tls]\ncertificate = \"a.pem\"\n", `stsrelay.toml:1: tls: certificate and key must both be set`},
		{"no hash", "[[user]]\nname = \"a\"\npassword_hash = \"secret\"\n", `stsrelay.toml:3: user[0].password_hash: must be a bcrypt hash`},
		{"a hash with a blank behind it", "[[user]]\nname = \"a\"\npassword_hash = \"" + hash + " \"\n", `stsrelay.toml:3: user[0].password_hash: must be a bcrypt hash`},
		{"a hash without its last character", "[[user]]\nname = \"a\"\npassword_hash = \"" + hash[:len(hash)-1] + "\"\n", `stsrelay.toml:3: user[0].password_hash: must be a bcrypt hash`},
		{"a hash that takes hours", "[[user]]\nname = \"a\"\npassword_hash = \"$2a$31" + hash[len("$2a$10"):] + "\"\n", `stsrelay.toml:3: user[0].password_hash: has cost 31`},
		{"IPv4 host bits in IPv6", "[[listen]]\naddress = \":25\"\nallow = [\"::ffff:10.0.0.1/104\"]\n", `stsrelay.toml:3: listen[0].allow = "::ffff:10.0.0.1/104": has bits behind its length set; did you mean 10.0.0.0/8?`},
		{"IPv4 in IPv6, more than IPv4", "[[listen]]\naddress = \":25\"\nallow = [\"::ffff:0.0.0.0/80\"]\n", `stsrelay.toml:3: listen[0].allow = "::ffff:0.0.0.0/80": must be a network of IPv4 or of IPv6 addresses`},
		{"all of IPv4 in IPv6", "[[listen]]\naddress = \":25\"\nallow = [\"::ffff:0.0.0.0/96\"]\n", `stsrelay.toml:3: listen[0].allow = "0.0.0.0/0": would let the whole Internet`},
		{"user twice", "[[user]]\nname = \"a\"\npassword_hash = \"" + hash + "\"\n[[user]]\nname = \"A\"\npassword_hash = \"" + hash + "\"\n", `stsrelay.toml:5: user[1].name = "A": stands twice`},
		{"DNS server", "[dns]\nservers = [\"resolver\"]\n", `stsrelay.toml:2: dns.servers = "resolver": "resolver" is not a DNS server`},
		{"open admin page", "[admin]\nhttp = \"0.0.0.0:8025\"\n", `stsrelay.toml:2: admin.http = "0.0.0.0:8025": is reachable from other machines`},
		{"a listener within another", "[[listen]]\naddress = \"0.0.0.0:25\"\n[[listen]]\naddress = \"127.0.0.1:25\"\n", `stsrelay.toml:4: listen[1].address = "127.0.0.1:25": is the same as 0.0.0.0:25 of listen[0], or a part of it`},
		{"a listener around another", "[[listen]]\naddress = \"127.0.0.1:25\"\n[[listen]]\naddress = \"[::]:25\"\n", `stsrelay.toml:4: listen[1].address = "[::]:25": is the same as`},
		{"one token for both", "[admin]\ntoken_file = \"stsrelay.toml\"\nact_token_file = \"stsrelay.toml\"\n", `holds the same token as token_file`},
		{"a token to act that is not there", "[admin]\nact_token_file = \"nowhere\"\n", `cannot be read`},
		{"a listener for the web page", "[[listen]]\naddress = \"127.0.0.1:25\"\n[admin]\nhttp = \"127.0.0.1:25\"\n", `stsrelay.toml:4: admin.http = "127.0.0.1:25": is the same as 127.0.0.1:25 of listen[0]`},
		{"a webhook without TLS", "[notices]\nwebhook = \"http://alerts.example.com/\"\n", `stsrelay.toml:2: notices.webhook = "http://alerts.example.com/": must be a URL such as https://`},
		{"a webhook with a password", "[notices]\nwebhook = \"https://u:p@alerts.example.com/\"\n", `stsrelay.toml:2: notices.webhook = "https://u:xxxxx@alerts.example.com/": must have no password`},
		{"a secret for no webhook", "[notices]\nwebhook_secret_file = \"stsrelay.toml\"\n", `notices.webhook: is missing: webhook_secret_file is for it`},
		{"a webhook's secret that is not there", "[notices]\nwebhook = \"https://alerts.example.com/\"\nwebhook_secret_file = \"nowhere\"\n", `stsrelay.toml:3: notices.webhook_secret_file = `},
		{"hostname", "hostname = \"not a name\"\n", `stsrelay.toml:1: hostname = "not a name": must be a host name`},
		{"an address for a name", "hostname = \"192.0.2.1\"\n", `stsrelay.toml:1: hostname = "192.0.2.1": must be a host name`},
		{"a domain twice in two forms", "[[domain]]\nname = \"ö.example\"\n[[domain]]\nname = \"xn--NDA.example.\"\n", `stsrelay.toml:4: domain[1].name = "xn--nda.example": stands twice`},
		{"no domain", "[[domain]]\nname = \"a b\"\n", `stsrelay.toml:2: domain[0].name = "a b": must be a domain, .domain`},
		{"a fallback without a route", "[[domain]]\nname = \"a.example\"\nfallback = \"all\"\n", `stsrelay.toml:1: domain[0].route: is missing: mx, user and fallback`},
		{"a fallback of another kind", "[[domain]]\nname = \"*\"\nroute = \"b.example\"\nfallback = \"some\"\n", `stsrelay.toml:4: domain[0].fallback = "some": must be "unbound" or "all"`},
		{"a fallback to an address", "[[domain]]\nname = \"*\"\nroute = \"192.0.2.1\"\nfallback = \"all\"\n", `stsrelay.toml:1: domain[0].tls: is missing: a fallback route must have a certificate for its name`},
		{"a sender twice", "[[domain]]\nname = \"*\"\nsenders = [\"a.example\"]\n[[domain]]\nname = \"*\"\nsenders = [\"A.example\"]\n", `stsrelay.toml:6: domain[1].senders = "a.example": stands twice for *`},
		{"an address that becomes a domain", "[[rewrite]]\nfrom = \"root@a.localdomain\"\nto = \"example.com\"\n", `stsrelay.toml:3: rewrite[0].to = "example.com": must be an address, since from is one`},
		{"a rewrite twice", "[[rewrite]]\nfrom = \"Root@a.example\"\nto = \"x@example.com\"\n[[rewrite]]\nfrom = \"root@A.example\"\nto = \"y@example.com\"\n", `stsrelay.toml:5: rewrite[1].from = "root@a.example": stands twice`},
		{"a journal that is no address", "[journal]\naddress = \"archive\"\n", `stsrelay.toml:2: journal.address = "archive": must be a mail address`},
		{"a blocked recipient", "[limits]\nblocked_recipients = [\"a b\"]\n", `stsrelay.toml:2: limits.blocked_recipients = "a b": must be an address, a domain`},
		{"CA file", "[delivery]\nca_file = \"nowhere.pem\"\n", `stsrelay.toml:2: delivery.ca_file`},
		{"a password to whoever answers", "[[domain]]\nname = \"a.example\"\nroute = \"b.example\"\nuser = \"u\"\npassword_file = \"stsrelay.toml\"\ntls = \"encrypt\"\n", `stsrelay.toml:6: domain[0].tls = "encrypt": would send the password to whoever answers`},
		{"a password in clear", "[[domain]]\nname = \"a.example\"\nroute = \"b.example\"\nuser = \"u\"\npassword_file = \"stsrelay.toml\"\ntls = \"opportunistic\"\n", `stsrelay.toml:6: domain[0].tls = "opportunistic": would send the password to whoever answers`},
		{"names without secure", "[[domain]]\nname = \"a.example\"\ntls = \"verify\"\nmatch = [\"a.example\"]\n", `stsrelay.toml:4: domain[0].match = "[a.example]": is for tls = "secure" only`},
		{"no name", "[[domain]]\nname = \"a.example\"\ntls = \"secure\"\nmatch = [\"mx*.a.example\"]\n", `stsrelay.toml:4: domain[0].match = "mx*.a.example": must be a list of host names, *.domain`},
		{"the whole world's names", "[[domain]]\nname = \"a.example\"\ntls = \"secure\"\nmatch = [\"*.\"]\n", `stsrelay.toml:4: domain[0].match = "*.": must be a list of host names`},
		{"nothing to compare with", "[[domain]]\nname = \"a.example\"\ntls = \"secure\"\nroute = \"192.0.2.1\"\n", `domain[0].match: is missing: a certificate is for names, and the route is an address`},
		{"domain rule", "[[domain]]\nname = \"a.example\"\ntls = \"never\"\n", `stsrelay.toml:3: domain[0].tls = "never"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := loadText(t, tt.file)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func TestAllProblemsAreToldAtOnceInOrder(t *testing.T) {
	_, _, err := loadText(t, "[log]\nlevel = 5\nformt = \"xml\"\n[limits]\nrecipients = \"all\"\n")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got\n%v", err)
	}
	_, _, err = loadText(t, "[log]\nlevel = \"loud\"\nformat = \"xml\"\n[dns]\ntrust_ad = \"yes\"\n")
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], ":2: log.level") || !strings.Contains(lines[1], ":3: log.format") || !strings.Contains(lines[2], ":5: dns.trust_ad") {
		t.Errorf("got\n%v", err)
	}
}

func TestDefaultsWithoutAFile(t *testing.T) {
	c, _, err := Load("", []string{"STSRELAY_HOSTNAME=relay.mail.example.com", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.TLSRPT.Contact != "postmaster@example.com" || c.TLSRPT.Organization != "example.com" || c.TLSRPT.Sender != c.TLSRPT.Contact {
		t.Errorf("tlsrpt = %+v", c.TLSRPT)
	}
	if len(c.Listen) != 1 || c.Listen[0].Address != "127.0.0.1:2525" || len(c.Listen[0].Allow) != 2 {
		t.Errorf("listen = %+v", c.Listen)
	}
	if c.SocketPath() != filepath.Join("stsrelay-data", "stsrelay.sock") {
		t.Errorf("socket = %s", c.SocketPath())
	}
}

func TestEveryKeyHasAnEnvironmentVariable(t *testing.T) {
	c, _, err := Load("", []string{
		"STSRELAY_HOSTNAME=relay.example.com", "STSRELAY_DATA_DIR=/data", "STSRELAY_DELIVERY_EXPIRE=2d",
		"STSRELAY_DELIVERY_RETRY=1s, 5s", "STSRELAY_LISTEN_0_ADDRESS=:25", "STSRELAY_LISTEN_0_ALLOW=10.0.0.0/8,192.168.1.7",
		"STSRELAY_LISTEN_1_ADDRESS=127.0.0.1:26", "STSRELAY_LIMITS_CONNECTIONS_PER_CLIENT=7", "STSRELAY_LIMITS_MESSAGE_SIZE=1MiB",
		"STSRELAY_STS_ENABLED=false", "STSRELAY_DELIVERY_CONCURRENCY_PER_HOST=3", "STSRELAY_CONFIG=/ignored",
	})
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(c.Delivery.Expire) != 48*time.Hour || len(c.Delivery.Retry) != 2 || c.Listen[0].Address != ":25" || len(c.Listen[0].Allow) != 2 ||
		c.Listen[1].Address != "127.0.0.1:26" || c.Listen[1].TLS != "starttls" || c.Limits.ConnectionsPerClient != 7 || c.Limits.MessageSize != 1<<20 ||
		c.STS.Enabled || c.DataDir != "/data" || c.Delivery.ConcurrencyPerHost != 3 {
		t.Errorf("got %+v", c)
	}
}

func TestListsInTheEnvironmentMayBeLong(t *testing.T) {
	environ := []string{"STSRELAY_HOSTNAME=relay.example.com"}
	for i := range 12 {
		environ = append(environ, fmt.Sprintf("STSRELAY_DOMAIN_%d_NAME=d%d.example", i, i))
	}
	c, _, err := Load("", environ)
	if err != nil || len(c.Domains) != 12 || c.Domains[10].Name != "d10.example" {
		t.Errorf("%v, %v", c, err)
	}
}

func TestVariablesOfAKubernetesServiceArePassedOver(t *testing.T) {
	_, _, err := Load("", []string{"STSRELAY_HOSTNAME=relay.example.com", "STSRELAY_SERVICE_HOST=10.0.0.1", "STSRELAY_SERVICE_PORT=25",
		"STSRELAY_SERVICE_PORT_SMTP=25", "STSRELAY_PORT=tcp://10.0.0.1:25", "STSRELAY_PORT_25_TCP=tcp://10.0.0.1:25",
		"STSRELAY_PORT_25_TCP_ADDR=10.0.0.1", "STSRELAY_PORT_25_TCP_PORT=25", "STSRELAY_PORT_25_TCP_PROTO=tcp"})
	if err != nil {
		t.Error(err)
	}
}

func TestWhereTheDataFolderIs(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "stsrelay.toml")
	if err := os.WriteFile(file, []byte("hostname = \"relay.example.com\"\ndata_dir = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]string{"": filepath.Join(folder, "data"), "STSRELAY_DATA_DIR=here": "here"} {
		if c, _, err := Load(file, []string{env}); err != nil || c.DataDir != want {
			t.Errorf("%q: %+v, %v", env, c, err)
		}
	}
	// Without the key it lies beside the file, wherever the relay is started.
	if err := os.WriteFile(file, []byte("hostname = \"relay.example.com\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for env, want := range map[string]string{"": filepath.Join(folder, "stsrelay-data"), "STSRELAY_DATA_DIR=here": "here"} {
		if c, _, err := Load(file, []string{env}); err != nil || c.DataDir != want {
			t.Errorf("%q: %+v, %v", env, c, err)
		}
	}
	if c, _, err := Load("", []string{"STSRELAY_HOSTNAME=relay.example.com"}); err != nil || c.DataDir != "./stsrelay-data" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	// A queue in the present folder, of a relay without a file, is not left behind.
	if err := os.MkdirAll(filepath.Join("stsrelay-data", "queue"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(file, nil); err == nil || !strings.Contains(err.Error(), "data_dir: is not set") {
		t.Errorf("a queue of a relay without a file: %v", err)
	}
	if _, _, err := Load(file, []string{"STSRELAY_DATA_DIR=here"}); err != nil {
		t.Error(err)
	}
	if err := os.MkdirAll(filepath.Join(folder, "stsrelay-data", "queue"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(file, nil); err != nil {
		t.Error(err)
	}
}

func TestTheSocketOfAConfigurationThatIsWrong(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "stsrelay.toml")
	for text, want := range map[string]string{
		"data_dir = \"data\"\n[log]\nlevel = \"loud\"\n":                      filepath.Join(folder, "data", "stsrelay.sock"),
		"data_dir = \"/data\"\n[admin]\nsocket = \"a.sock\"\n[log]\nlevel =":  "/data/a.sock",
		"data_dir = \"/data\"\n[dns]\nservers = [\n\"127.0.0.1:53\",\n\n\n\n": "/data/stsrelay.sock",
		"data_dir = \"/data\"\ndata_dir = \"/other\"\n":                       "/data/stsrelay.sock",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(file, nil); err == nil {
			t.Errorf("this is taken:\n%s", text)
		}
		if got, err := FindSocket(file, nil); got != want || err != nil {
			t.Errorf("%q, %v, want %q of\n%s", got, err, want, text)
		}
	}
	if _, err := FindSocket(filepath.Join(folder, "none"), nil); err == nil {
		t.Error("no error where there is no file")
	}
}

func TestAListenerOfTheFileHasTheDefaultsThatItLeavesOut(t *testing.T) {
	c, _, err := loadText(t, "hostname = \"relay.example.com\"\n[[listen]]\naddress = \":25\"\n[[listen]]\naddress = \":587\"\nallow = []\nauth = true\n[delivery]\ndelay_notice = 0\n")
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Listen[0]; len(l.Allow) != 2 || l.TLS != "starttls" || l.MinTLS != "1.2" {
		t.Errorf("the first is %+v", l)
	}
	if l := c.Listen[1]; len(l.Allow) != 0 || !l.Auth {
		t.Errorf("the second is %+v", l)
	}
	if c.Delivery.DelayNotice != 0 {
		t.Errorf("delay_notice = %v", c.Delivery.DelayNotice)
	}
}

func TestDomainsHaveOneForm(t *testing.T) {
	c, _, err := loadText(t, `hostname = "Relay.Ö.example."
[[listen]]
address = ":25"
sender_domains = ["Ö.example"]
[[user]]
name = "a"
password_hash = "$2a$10$x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e"
sender_domains = ["A.example."]
[tlsrpt]
skip = [".Ö.example", "b.example."]
[[domain]]
name = ".Ö.example."
route = "MX.example.:587"
`)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Hostname, c.Listen[0].SenderDomains[0], c.Users[0].SenderDomains[0], c.TLSRPT.Skip[0], c.TLSRPT.Skip[1], c.Domains[0].Name}
	want := []string{"relay.xn--nda.example", "xn--nda.example", "a.example", ".xn--nda.example", "b.example", ".xn--nda.example"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if host, port, err := ParseRoute(c.Domains[0].Route); host != "mx.example" || port != 587 || err != nil {
		t.Errorf("route to %q, %d, %v", host, port, err)
	}
}

func TestAddressesHaveTheirDomainsAsTheDNSHasThem(t *testing.T) {
	c, _, err := loadText(t, `
[notices]
operator = "Op@Bücher.example"
[acme]
email = "acme@Bücher.example"
[tlsrpt]
contact = "postmaster@Bücher.example"
sender = "\"TLS reports\"@Bücher.example."
[reports]
address = "op@Bücher.example"
domains = ["Bücher.example"]
`)
	if err != nil {
		t.Fatal(err)
	}
	const domain = "xn--bcher-kva.example"
	if c.Notices.Operator != "Op@"+domain || c.ACME.Email != "acme@"+domain || c.TLSRPT.Contact != "postmaster@"+domain || c.TLSRPT.Sender != `"TLS reports"@`+domain || c.Reports.Address != "op@"+domain {
		t.Errorf("%q, %q, %q, %q, %q", c.Notices.Operator, c.ACME.Email, c.TLSRPT.Contact, c.TLSRPT.Sender, c.Reports.Address)
	}
	if c.ReportDomain() != domain { // as the domain of a [[dkim]] key
		t.Errorf("%q", c.ReportDomain())
	}
}

func TestWrongVariablesAreNamed(t *testing.T) {
	for env, want := range map[string]string{
		"STSRELAY_DELIVERY_EXPIRED=1h":   "environment variable STSRELAY_DELIVERY_EXPIRED",
		"STSRELAY_DELIVERY_EXPIRE=soon":  `environment variable STSRELAY_DELIVERY_EXPIRE = "soon": must be a time`,
		"STSRELAY_LISTEN_4_ADDRESS=:25":  "listen needs an index",
		"STSRELAY_LOG_LEVEL=loud":        `environment variable STSRELAY_LOG_LEVEL = "loud": must be "debug"`,
		"STSRELAY_STS_ENABLED=perhaps":   "must be true or false",
		"STSRELAY_LIMITS_RECIPIENTS=all": "must be a whole number",
	} {
		_, _, err := Load("", []string{"STSRELAY_HOSTNAME=r.example.com", env})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", env, err, want)
		}
	}
}

func TestPrintMasksSecretsAndCanBeReadAgain(t *testing.T) {
	c, _, err := loadText(t, Example)
	if err != nil {
		t.Fatal(err)
	}
	c.Users = []User{{Name: "exchange", PasswordHash: "$2a$10$verysecret"}}
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "verysecret") || !strings.Contains(b.String(), "exchange") {
		t.Errorf("printed:\n%s", b.String())
	}
	c.Users = nil
	b.Reset()
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	again, _, err := loadText(t, b.String())
	if err != nil {
		t.Fatalf("what was printed cannot be read: %v\n%s", err, b.String())
	}
	if again.Delivery.Expire != c.Delivery.Expire || !reflect.DeepEqual(again.Limits, c.Limits) || len(again.Listen) != len(c.Listen) {
		t.Errorf("read again: %+v", again)
	}
}

// The example shows the defaults; where it shows something else, a value must
// be given, so what it leaves out is compared too.
func TestTheExampleShowsTheDefaults(t *testing.T) {
	c, warnings, err := loadText(t, Example)
	if err != nil || len(warnings) != 1 || !strings.Contains(string(warnings[0]), "report setup") {
		t.Fatal(err, warnings) // only that no key signs reports yet
	}
	d := Default()
	d.Limits.BlockedRecipients = []string{}
	if !reflect.DeepEqual(c.Limits, d.Limits) || c.DNS.TrustAD != d.DNS.TrustAD || c.STS != d.STS || c.Admin != d.Admin || c.Log != d.Log {
		t.Errorf("the example differs from the defaults: %+v", c)
	}
	var a, b bytes.Buffer
	ec, ed := Config{Delivery: c.Delivery}, Config{Delivery: d.Delivery}
	_, _ = ec.Print(&a), ed.Print(&b)
	if a.String() != b.String() {
		t.Errorf("delivery differs:\n%s\n%s", a.String(), b.String())
	}
}

func TestSizesAndTimes(t *testing.T) {
	for text, want := range map[string]int64{"50MiB": 50 << 20, "1GiB": 1 << 30, "10485760": 10485760, "2 KB": 2000, "7B": 7, "0": 0} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || int64(s) != want {
			t.Errorf("%s = %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "-1", "MiB", "1.5GiB", "9999999999TiB"} {
		var s Size
		if s.UnmarshalText([]byte(text)) == nil {
			t.Errorf("size %q is taken", text)
		}
	}
	for text, want := range map[string]string{"120h": "120h", "5d": "120h", "90s": "1m30s", "4h0m0s": "4h", "0": "0s"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.String() != want {
			t.Errorf("%s = %s, %v", text, d, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(Example)
	f.Add("[[listen]]\naddress = 5\n")
	f.Add("[delivery]\nretry = [1, \"x\"]\n[listen]\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "f.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = FindSocket(file, nil)
		_, _, err := Load(file, []string{"STSRELAY_HOSTNAME=relay.example.com"})
		if err != nil && !strings.Contains(err.Error(), "f.toml") {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}

// ed25519PEM is a new key in a PEM file.
func ed25519PEM(t *testing.T) []byte {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestWhoSignsReports(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, ed25519PEM(t), 0o600); err != nil {
		t.Fatal(err)
	}
	dkim := func(domain, rest string) string {
		return fmt.Sprintf("hostname = \"relay.example.com\"\n[[dkim]]\ndomain = %q\nselector = \"a\"\nkey_file = %q\n%s", domain, key, rest)
	}
	for text, signed := range map[string]bool{
		dkim("example.com", ""):                                                true,
		dkim("Example.COM", "sign = [\"mail\", \"reports\"]\n"):                true,
		dkim("example.com", "sign = [\"mail\"]\n"):                             false,
		dkim("example.net", ""):                                                false,
		dkim("example.net", "[tlsrpt]\nsender = \"tls@example.net\"\n"):        true,
		dkim("example.net", "[tlsrpt]\nenabled = false\n"):                     true, // none are sent
		"hostname = \"relay.example.com\"\n[tlsrpt]\nskip = [\"a.example\"]\n": false,
	} {
		_, warnings, err := loadText(t, text)
		if err != nil || (len(warnings) == 0) != signed {
			t.Errorf("%s\n%v %v", text, warnings, err)
		}
	}
	if _, _, err := loadText(t, "[tlsrpt]\nskip = [\"a b\"]\n"); err == nil || !strings.Contains(err.Error(), "tlsrpt.skip") {
		t.Errorf("error %v", err)
	}
}

// What a rule does not protect from is said where it is checked.
func TestWhatARuleDoesNotProtectFromIsAWarning(t *testing.T) {
	for _, tt := range []struct{ rule, want string }{
		{`tls = "verify"`, "does not protect from forged MX records"},
		{"tls = \"verify\"\nroute = \"b.example\"\nmx = true", "does not protect from forged MX records"},
		{"route = \"b.example\"\nmx = true\nuser = \"u\"\npassword_file = \"stsrelay.toml\"", "the password is sent only where the MX records of b.example are signed"},
		{"tls = \"verify\"\nroute = \"b.example\"", ""}, // the operator names the host
		{"route = \"b.example\"\nuser = \"u\"\npassword_file = \"stsrelay.toml\"", ""},
		{"tls = \"secure\"\nroute = \"b.example\"\nmx = true\nuser = \"u\"\npassword_file = \"stsrelay.toml\"", ""},
		{`tls = "secure"`, ""},
		{"tls = \"secure\"\nmatch = [\"*.B.example.\", \".c.example\", \"d.example\"]", ""},
	} {
		_, warnings, err := loadText(t, "hostname = \"relay.a.example\"\n[[domain]]\nname = \"a.example\"\n"+tt.rule+"\n")
		if err != nil {
			t.Errorf("%s: %v", tt.rule, err)
		}
		text := fmt.Sprint(warnings)
		if tt.want == "" && strings.Contains(text, "domain[0]") || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %s", tt.rule, text)
		}
	}
}

func TestReportsAreSkippedForADomainOrForAllBelowIt(t *testing.T) {
	c := TLSRPT{Skip: []string{"a.example", ".b.example"}}
	for domain, want := range map[string]bool{
		"a.example": true, "A.Example": true, "x.a.example": false, "b.example": false, "x.b.example": true, "x.y.B.example": true, "xb.example": false, "": false,
	} {
		if got := c.Skips(domain); got != want {
			t.Errorf("%q: %t", domain, got)
		}
	}
}

// Clients that come over IPv4 have IPv4 addresses, however the network is written.
func TestANetworkOfIPv4InIPv6IsOneOfIPv4(t *testing.T) {
	for in, want := range map[string]string{"::ffff:10.0.0.0/104": "10.0.0.0/8", "::ffff:192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1/128": "192.0.2.1/32", "2001:db8::/32": "2001:db8::/32", "10.1.2.3": "10.1.2.3/32"} {
		var n Network
		if err := n.UnmarshalText([]byte(in)); err != nil || netip.Prefix(n).String() != want {
			t.Errorf("%s: %s, %v; want %s", in, netip.Prefix(n), err, want)
		}
	}
}
