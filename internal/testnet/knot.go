package testnet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// ErrNoKnot means that the DNS server Knot is not installed here (Debian: knot).
var ErrNoKnot = errors.New("there is no program knotd here")

// The TSIG keys (RFC 8945) of a Knot: one that may change zones, and one that may not.
const (
	KnotKey        = "acme-update"
	KnotReadKey    = "only-transfer"
	KnotSecret     = "c3RzcmVsYXktdGVzdC1rZXktb2YtYS16b25lLTAwMDE="
	KnotReadSecret = "c3RzcmVsYXktdGVzdC1rZXktb2YtYS16b25lLTAwMDI="
)

// Knot is a running DNS server: Knot, which takes dynamic updates (RFC 2136) of its zones
// where they are signed with KnotKey.
type Knot struct {
	// Addr is where it answers, "127.0.0.1:port".
	Addr string

	cmd *exec.Cmd
	out bytes.Buffer
}

// StartKnot starts Knot with zones, each the text of a zone file by the name of the zone. Its
// files are in dir. The error is ErrNoKnot where it is not installed.
func StartKnot(dir string, zones map[string]string) (*Knot, error) {
	program, err := exec.LookPath("knotd")
	if err != nil {
		return nil, ErrNoKnot
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	conf := &strings.Builder{}
	fmt.Fprintf(conf, "server:\n  rundir: %[1]q\n  listen: \"%[2]s\"\ndatabase:\n  storage: %[1]q\nlog:\n  - target: stdout\n    any: info\n", dir, strings.Replace(addr, ":", "@", 1))
	fmt.Fprintf(conf, "key:\n  - id: %s\n    algorithm: hmac-sha256\n    secret: %s\n  - id: %s\n    algorithm: hmac-sha256\n    secret: %s\n", KnotKey, KnotSecret, KnotReadKey, KnotReadSecret)
	fmt.Fprintf(conf, "acl:\n  - id: updates\n    key: %s\n    action: update\n  - id: transfers\n    key: %s\n    action: transfer\nzone:\n", KnotKey, KnotReadKey)
	for name, text := range zones {
		file := filepath.Join(dir, name+".zone")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		fmt.Fprintf(conf, "  - domain: %s\n    file: %q\n    acl: [updates, transfers]\n", name, file)
	}
	file := filepath.Join(dir, "knot.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		return nil, err
	}
	k := &Knot{Addr: addr, cmd: exec.Command(program, "-c", file)}
	k.cmd.Stdout, k.cmd.Stderr = &k.out, &k.out
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start knotd: %w", err)
	}
	return k, k.wait(zones)
}

// wait waits until all zones are served.
func (k *Knot) wait(zones map[string]string) error {
	for name := range zones {
		served := false
		for range 200 {
			m := new(dns.Msg)
			m.SetQuestion(dns.Fqdn(name), dns.TypeSOA)
			if answer, err := dns.Exchange(m, k.Addr); err == nil && answer.Rcode == dns.RcodeSuccess {
				served = true
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !served {
			k.Close()
			return fmt.Errorf("knotd does not serve %s:\n%s", name, k.Log())
		}
	}
	return nil
}

// Log is what it has written; it may be read after Close.
func (k *Knot) Log() string { return k.out.String() }

// Close ends it.
func (k *Knot) Close() {
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}
