//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// startPostfix starts a Postfix of its own in the relay's place: the same way in,
// and out over TLS that it verifies against the same authority. It looks no MX
// hosts and no policies up: it is told them.
func (l *load) startPostfix(ctx context.Context) error {
	if _, err := exec.LookPath("postfix"); err != nil {
		return errors.New("postfix is not installed (apt-get install postfix)")
	}
	etc := filepath.Join(l.dir, "etc")
	owner, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(owner.Uid)
	for _, d := range []string{etc, filepath.Join(l.dir, "spool"), filepath.Join(l.dir, "lib")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod(l.dir, 0o755), os.Chown(filepath.Join(l.dir, "lib"), uid, 0)); err != nil {
		return err
	}
	var transport, policy strings.Builder
	for i := range l.domains {
		h := l.hosts[i%len(l.hosts)]
		fmt.Fprintf(&transport, "%s smtp:[%s]:25\n", domainName(i), h.IP)
	}
	for _, h := range l.hosts {
		fmt.Fprintf(&policy, "[%s]:25 secure match=%s\n", h.IP, h.Name)
	}
	files := map[string]string{
		"transport": transport.String(), "policy": policy.String(), "master.cf": strings.ReplaceAll(masterCF, "ADDRESS", l.addr),
		"main.cf": strings.NewReplacer("DIR", l.dir).Replace(mainCF),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil { //nolint:gosec // Postfix's user reads it
			return err
		}
	}
	if err := os.Chmod(filepath.Join(l.dir, "ca.pem"), 0o644); err != nil { //nolint:gosec // the same
		return err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "postfix", "-c", etc, "start-fg")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := l.await(ctx, cmd, filepath.Join(l.dir, "postfix.log")); err != nil {
		return err
	}
	l.process.stopBy = []string{"postfix", "-c", etc, "stop"}
	return nil
}

const mainCF = `compatibility_level = 3.6
queue_directory = DIR/spool
data_directory = DIR/lib
maillog_file = DIR/postfix.log
maillog_file_prefixes = DIR
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.load.example
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtp_tls_security_level = secure
smtp_tls_policy_maps = texthash:DIR/etc/policy
smtp_tls_CAfile = DIR/ca.pem
smtp_tls_session_cache_database = btree:DIR/lib/sessions
transport_maps = texthash:DIR/etc/transport
biff = no
`

const masterCF = `ADDRESS   inet  n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
`
