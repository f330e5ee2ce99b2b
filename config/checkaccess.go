package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
)

// This file has the checks against settings that give strangers access.

// checkGateway refuses networks in allow and proxy_protocol that hold the gateway of
// this container.
func (l *loader) checkGateway(i int) {
	li := &l.config.Listen[i]
	for _, n := range li.ProxyProtocol {
		if tooWide(netip.Prefix(n)) {
			l.warn("listen[%d].proxy_protocol: %s holds so many addresses that strangers among them could claim any address by a PROXY header; name your load balancers", i, netip.Prefix(n))
		}
	}
	if !l.network.Inside || li.AllowGateway || li.Open || isLoopback(li.Address) && !l.strict {
		return // nobody comes to loopback from a gateway
	}
	for _, list := range []struct {
		key, means string
		networks   []Network
	}{
		{"allow", "all of them could send", li.Allow},
		{"proxy_protocol", "all of them could claim any address", li.ProxyProtocol},
	} {
		for _, n := range list.networks {
			for _, gateway := range l.network.Gateways {
				if netip.Prefix(n).Contains(gateway) {
					l.fail(fmt.Sprintf("listen[%d].%s", i, list.key), netip.Prefix(n),
						"holds %s, the gateway of this container: its engine hands over clients from there that have other addresses (Docker: all who come over IPv6), so %s. "+
							"Name smaller networks without it, and publish the port with -p 0.0.0.0:25:25; or say allow_gateway = true beside it if nothing but your own machines can come from there",
						gateway, list.means)
				}
			}
		}
	}
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// checkSecrets warns of files with secrets that every user of the machine can
// read or change.
func (l *loader) checkSecrets() {
	c := l.config
	secret := func(key, file, what string) {
		if file == "" {
			return
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm()&0o006 == 0 {
			return // that it cannot be read is told elsewhere
		}
		verb := "read"
		if info.Mode().Perm()&0o002 != 0 {
			verb = "change"
		}
		l.warn("%s: every user of this machine can %s %s (mode %04o), which holds %s: chmod o-rwx %[3]s", key, verb, file, info.Mode().Perm(), what)
	}
	secret("tls.key", c.TLS.Key, "a private key")
	for i, k := range c.DKIM {
		secret(fmt.Sprintf("dkim[%d].key_file", i), k.KeyFile, "a private key")
	}
	for i, d := range c.Domains {
		secret(fmt.Sprintf("domain[%d].password_file", i), d.PasswordFile, "a password")
	}
	secret("notices.webhook_secret_file", c.Notices.WebhookSecretFile, "the secret of the webhook")
	l.secretsOfACME(secret)
	secret("queue.url_file", c.Queue.URLFile, "the password of PostgreSQL")
	secret("admin.token_file", c.Admin.TokenFile, "the token of the web page")
	secret("admin.act_token_file", c.Admin.ActTokenFile, "the token to act on the web page")
	for i := range c.Users {
		key := fmt.Sprintf("user[%d].password_hash", i)
		if _, ok := l.env[key]; !ok {
			secret(key, c.File, "the hash of a password")
			break // they are all in that file
		}
	}
}
