package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// setupCheckTime bounds the check at the end of a setup.
const setupCheckTime = 10 * time.Second

// configuration is the text of the first configuration.
func (s *setupAnswers) configuration() string {
	var quoted []string
	for _, n := range s.networks {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	data := "stsrelay-data"
	if s.dir == filepath.Dir(defaultConfig) {
		data = "/var/lib/stsrelay"
	}
	return fmt.Sprintf(`# stsrelay, written by "stsrelay setup". Every key with its default is in the example of
# the documentation; "stsrelay config print --changed" prints what differs from those.
# After a change: stsrelay config check && stsrelay reload

hostname = %q   # in EHLO and Received; it must resolve, and its address must resolve back
data_dir = %q   # queue, policies, history: keep it on a disk that stays

[[listen]]
address = %q
allow = [%s]   # who may send without a password: your mail servers, nobody else
# sender_domains = [%q]   # restricts what they may send as, in the envelope and in From

[notices]
operator = %q   # who is told by mail of what needs a person

[[dkim]]
domain = %q
selector = %q
key_file = %q
sign = ["mail", "reports"]   # outgoing mail of this domain, and TLS reports

[tlsrpt]
sender = %q   # From of the TLS reports; its domain signs them

# DANE needs a resolver on this machine that validates DNSSEC (unbound), or DNS over TLS:
# [dns]
# servers = ["127.0.0.1:53"]
`, s.hostname, data, s.listen, strings.Join(quoted, ", "), s.domain, s.postmaster, s.domain, setupSelector, "dkim-"+setupSelector+".pem", "tls-reports@"+s.domain)
}

// printSteps prints what is to be done next.
func (a *app) printSteps(s *setupAnswers, file string, key *keySetup) {
	fmt.Fprintf(a.out, "Written: %s and %s (keep the key secret).\n\n", file, key.KeyFile)
	fmt.Fprintf(a.out, "1. Publish these DNS records. Where there is an SPF record already, add the part a:%s to it.\n\n", s.hostname)
	fmt.Fprintf(a.out, "%s. IN TXT %s\n", key.Name, zoneText(key.Record))
	fmt.Fprintf(a.out, "%s. IN TXT %q\n", s.domain, "v=spf1 a:"+s.hostname+" -all")
	fmt.Fprintf(a.out, "_dmarc.%s. IN TXT %q\n", s.domain, "v=DMARC1; p=none; rua=mailto:"+s.postmaster)
	fmt.Fprintf(a.out, "\n   %s needs an A or AAAA record, and the PTR record of its address must lead back to it.\n\n", s.hostname)
	start := "stsrelay serve --config " + file
	if s.dir == filepath.Dir(defaultConfig) {
		start = "systemctl enable --now stsrelay"
	}
	if name, ok := strings.CutSuffix(file, ".new"); ok {
		start = fmt.Sprintf("compare it with %s, which stays as it is; then: mv %s %s && %s", name, file, name, start)
		start = strings.ReplaceAll(start, "--config "+file, "--config "+name)
	}
	fmt.Fprintf(a.out, "2. Start the relay: %s\n", start)
	if s.exchange {
		a.printExchange(s)
	}
}

// printExchange prints the commands for the Exchange Management Shell.
func (a *app) printExchange(s *setupAnswers) {
	_, port, _ := net.SplitHostPort(s.listen)
	portKey := ""
	if port != "25" {
		portKey = " -Port " + port
	}
	fmt.Fprintf(a.out, `
3. On Exchange, in the Management Shell (the servers that send are your own; docs/exchange.md has
   other ways, and how to go back):

   Test-NetConnection %[1]s -Port %[2]s
   New-SendConnector -Name "stsrelay" -Custom -AddressSpaces "SMTP:*;1" `+"`"+`
     -DNSRoutingEnabled $false -SmartHosts "%[1]s"%[3]s -SmartHostAuthMechanism None `+"`"+`
     -SourceTransportServers (Get-TransportService).Name -MaxMessageSize 50MB -ProtocolLoggingLevel Verbose
   Get-SendConnector | Where-Object Name -ne "stsrelay"   # disable what sent to the Internet before
`, s.hostname, port, portKey)
}

// giveToGroup lets the group of a folder read a file in it, where root writes: the relay
// runs under a user of its own.
func giveToGroup(dir, file string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	gid, err := groupOf(dir)
	if err != nil || gid == 0 {
		return err
	}
	if err := os.Chown(file, -1, gid); err != nil {
		return fmt.Errorf("let the relay's group read %s: %w", file, err)
	}
	return os.Chmod(file, 0o640) //nolint:gosec // the group of the folder is that of the relay
}
