//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// asked is a relay behind one resolver.
type asked struct {
	*world
	resolver resolver
	binary   string
	dir      string
}

const listen = "127.0.0.1:2525"

// all sends a message to each domain, and compares its end, and what the relay reports,
// with the expected ones.
func (a *asked) all(ctx context.Context) error {
	if err := a.configure(); err != nil {
		return err
	}
	before := make(map[string]int)
	for _, d := range a.domains {
		before[d.name] = a.arrived(d.name)
	}
	log, err := a.deliver(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	for _, d := range a.domains {
		want := d.plain
		if a.resolver.validates {
			want = d.validated
		}
		line, ok := attemptOf(log, d.name)
		got := held
		if arrived := a.arrived(d.name) - before[d.name]; arrived == 1 {
			got = unverified
			if strings.Contains(line.TLS, "verified by DANE") {
				got = byDANE
			}
		} else if arrived > 1 {
			wrong = append(wrong, fmt.Errorf("%s: %d copies", d.name, arrived))
		}
		if !ok || got != want {
			wrong = append(wrong, fmt.Errorf("%s: %s, want: %s (tls %q, error %q)", d.name, got, want, line.TLS, line.Error))
		}
	}
	warned := bytes.Contains(log, []byte("does not validate DNSSEC")) && bytes.Contains(log, []byte("DANE is off"))
	if warned == a.resolver.validates {
		wrong = append(wrong, fmt.Errorf("the log has a warning that it does not validate: %t", warned))
	}
	wrong = append(wrong, a.check(ctx)...)
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	return nil
}

func (a *asked) configure() error {
	text := fmt.Sprintf("hostname = \"relay.test.example\"\ndata_dir = %q\n[[listen]]\naddress = %q\ntls = \"none\"\n[dns]\nservers = [%q]\n[limits]\nfree_space = \"1MiB\"\n"+
		"[delivery]\nprivate_addresses = \"allow\"\nretry = [\"1h\"]\n[tlsrpt]\nenabled = false\n", filepath.Join(a.dir, "data"), listen, a.resolver.addr)
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.dir, "stsrelay.toml"), []byte(text), 0o600)
}

// arrived is the number of messages for a domain that have come in at any host.
func (a *asked) arrived(domain string) (n int) {
	seen := make(map[string]bool)
	for _, d := range a.domains {
		if seen[d.host.Name] {
			continue
		}
		seen[d.host.Name] = true
		for _, m := range d.host.Messages() {
			if slices.Contains(m.Recipients, "user@"+domain) {
				n++
			}
		}
	}
	return n
}

// deliver runs the relay until each message was tried, and returns its log.
func (a *asked) deliver(ctx context.Context) ([]byte, error) {
	file := filepath.Join(a.dir, "log")
	log, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(a.binary, "serve", "--config", filepath.Join(a.dir, "stsrelay.toml"))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	read := func() []byte { b, _ := os.ReadFile(file); return b }
	sent := 0
	for until := time.Now().Add(60 * time.Second); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		for ; sent < len(a.domains); sent++ {
			to := "user@" + a.domains[sent].name
			if smtp.SendMail(listen, nil, "anna@sender.example", []string{to}, []byte("From: anna@sender.example\r\nTo: "+to+"\r\nSubject: test\r\n\r\nHello\r\n")) != nil {
				break // it does not listen yet
			}
		}
		tried := 0
		b := read()
		for _, d := range a.domains {
			if _, ok := attemptOf(b, d.name); ok {
				tried++
			}
		}
		if tried == len(a.domains) {
			return read(), nil
		}
	}
	b := read()
	return nil, fmt.Errorf("the relay has not tried all messages within a minute\n%s", b[max(0, len(b)-4000):])
}

// attempt is a line of the log.
type attempt struct {
	Msg, Domain, TLS, Verdict, Error string
}

func attemptOf(log []byte, domain string) (attempt, bool) {
	lines := bufio.NewScanner(bytes.NewReader(log))
	for lines.Scan() {
		var a attempt
		if json.Unmarshal(lines.Bytes(), &a) == nil && a.Msg == "attempt" && a.Domain == domain {
			return a, true
		}
	}
	return attempt{}, false
}

// check compares the output of `stsrelay check`.
func (a *asked) check(ctx context.Context) (wrong []error) {
	for _, d := range a.domains {
		var r struct {
			MX struct {
				Secure   bool `json:"dnssec"`
				Problems []struct{ Text, Mend string }
			}
			Outcome struct{ Action string }
		}
		if err := a.json(ctx, &r, "check", d.name); err != nil {
			wrong = append(wrong, err)
			continue
		}
		want := d.plain
		if a.resolver.validates {
			want = d.validated
		}
		if secure := d.mxSigned && a.resolver.validates; r.MX.Secure != secure || (r.Outcome.Action == "deliver") != (want != held) {
			wrong = append(wrong, fmt.Errorf("check %s: %+v", d.name, r))
		}
		if d.name == "forgedmx.example" && a.resolver.validates && (len(r.MX.Problems) == 0 || !strings.Contains(r.MX.Problems[0].Text, "does not pass DNSSEC")) {
			wrong = append(wrong, fmt.Errorf("check %s does not say that it is bogus: %+v", d.name, r.MX.Problems))
		}
	}
	var self struct {
		Good     []string
		Problems []struct{ Text string }
	}
	if err := a.json(ctx, &self, "check", "--self"); err != nil {
		return append(wrong, err)
	}
	on, off := false, false
	for _, g := range self.Good {
		on = on || strings.Contains(g, "DANE is on")
	}
	for _, p := range self.Problems {
		off = off || strings.Contains(p.Text, "DANE is off")
	}
	if on != a.resolver.validates || off == on {
		wrong = append(wrong, fmt.Errorf("check --self: %+v", self))
	}
	return wrong
}

// json runs the program and reads what it prints; that it finds faults is no error.
func (a *asked) json(ctx context.Context, into any, args ...string) error {
	cmd := exec.CommandContext(ctx, a.binary, append(args, "--json", "--config", filepath.Join(a.dir, "stsrelay.toml"))...)
	out, err := cmd.Output()
	if jerr := json.Unmarshal(out, into); jerr != nil {
		return fmt.Errorf("%v: %w: %s", args, errors.Join(err, jerr), out)
	}
	return nil
}
