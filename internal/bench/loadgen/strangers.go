//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// victim is the domain whose enforced policy is to be driven out of the cache.
const victim = "d0.load.example"

// strangerRounds is how often mail goes to each domain of the stranger.
const strangerRounds = 3

// strange sends mail to many domains of one owner, whose policies are as large as
// can be and change at each query, and looks whether the enforced policy of
// another domain is still in force: then, and after kill -9.
func strange(ctx context.Context, o options, domains int) error {
	o.domains, o.hosts = 1, 1
	l := newLoad(o)
	if err := l.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	defer l.net.Close()
	if err := l.addStrangers(domains); err != nil {
		return err
	}
	if err := l.startRelay(ctx); err != nil {
		return err
	}
	defer func() { _ = l.process.stop(syscall.SIGTERM) }()
	if err := l.mail(victim); err != nil {
		return err
	}
	if err := l.cameIn(ctx, 1); err != nil {
		return err
	}
	fmt.Printf("before       memory %s, disk %s\n", l.process.memory(), l.disk())
	start := time.Now()
	for round := range strangerRounds {
		for from := 0; from < domains; from += 100 {
			var to []string
			for i := from; i < min(from+100, domains); i++ {
				to = append(to, strangerName(i))
			}
			if err := l.mail(to...); err != nil {
				return err
			}
		}
		if err := l.cameIn(ctx, 1+(round+1)*domains); err != nil {
			return err
		}
		fmt.Printf("round %d      %d domains, %.1f s so far: memory %s, disk %s\n", round+1, domains, time.Since(start).Seconds(), l.process.memory(), l.disk())
	}
	if err := l.strip(); err != nil {
		return err
	}
	if err := l.inForce(ctx, "after the strangers"); err != nil {
		return err
	}
	if err := l.process.stop(syscall.SIGKILL); err != nil {
		return err
	}
	start = time.Now()
	if err := l.startRelay(ctx); err != nil {
		return err
	}
	fmt.Printf("restart      %.2f s, memory %s, disk %s\n", time.Since(start).Seconds(), l.process.memory(), l.disk())
	return l.inForce(ctx, "after kill -9")
}

func strangerName(i int) string { return fmt.Sprintf("s%d.stranger.example", i) }

// addStrangers makes domains with policies of 64 KiB of five kinds.
func (l *load) addStrangers(n int) error {
	mx := l.hosts[0].Name
	var names strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&names, "mx: %d.stranger.example\n", i)
	}
	policy := func(mode, maxAge, filling string) string {
		text := fmt.Sprintf("version: STSv1\nmode: %s\nmax_age: %s\nmx: %s\n", mode, maxAge, mx)
		text += filling[:min(len(filling), 64<<10-len(text))]
		return text[:strings.LastIndexByte(text, '\n')+1]
	}
	odd := strings.Repeat("x: y\n", 13_000)
	texts := []string{
		policy("enforce", "31557600", names.String()), policy("testing", "0", names.String()), policy("enforce", "1", odd),
		policy("enforce", "9999999999", odd), policy("enforce", "31557600", strings.Repeat("mx: "+mx+"\n", 3000)),
	}
	for i := range n {
		name := strangerName(i)
		site, err := l.net.PolicyHost(name)
		if err != nil {
			return err
		}
		if err := site.Set(testnet.PolicyFaults{Body: texts[i%len(texts)]}); err != nil {
			return err
		}
		if err := l.net.DNS.Add(fmt.Sprintf("%s. 60 IN MX 10 %s.", name, mx)); err != nil {
			return err
		}
		l.net.DNS.Each("_mta-sts."+name, "TXT", func(n int) string {
			return fmt.Sprintf("_mta-sts.%s. 0 IN TXT \"v=STSv1; id=%d\"", name, n)
		})
	}
	return nil
}

// mail sends one message to a user of each domain.
func (l *load) mail(domains ...string) error {
	c, err := smtp.Dial(l.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail("anna@corp.example"); err != nil {
		return err
	}
	for _, d := range domains {
		if err := c.Rcpt("user@" + d); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	_, err = w.Write([]byte("From: anna@corp.example\r\nSubject: hello\r\n\r\nhello\r\n"))
	return errors.Join(err, w.Close(), c.Quit())
}

// cameIn waits until so many messages have come.
func (l *load) cameIn(ctx context.Context, n int) error {
	for {
		if _, total := l.arrived(); total >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			_, total := l.arrived()
			return fmt.Errorf("%d of %d messages have come", total, n)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// strip does what somebody on the way does once the policy is forgotten: the
// record goes, the policy host says nothing, STARTTLS is taken out.
func (l *load) strip() error {
	l.net.DNS.Remove("_mta-sts."+victim, "TXT")
	site, err := l.net.PolicyHost(victim)
	if err != nil {
		return err
	}
	err = errors.Join(site.Set(testnet.PolicyFaults{Down: true}), l.hosts[0].Set(testnet.Faults{NoStartTLS: true}))
	l.hosts[0].Cut() // no session of before is used again
	return err
}

// inForce sends mail to the victim, and holds that it waits for the policy.
func (l *load) inForce(ctx context.Context, when string) error {
	_, before := l.arrived()
	if err := l.mail(victim); err != nil {
		return err
	}
	for {
		out, err := exec.CommandContext(ctx, l.binary, "queue", "list", "--json", "--config", filepath.Join(l.dir, "stsrelay.toml")).Output() //nolint:gosec // our own
		if err != nil {
			return err
		}
		if strings.Contains(string(out), "MTA-STS") {
			break
		}
		if _, after := l.arrived(); after != before {
			return fmt.Errorf("%s: mail to %s was delivered", when, victim)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the message does not wait for MTA-STS: %s", out)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if l.hosts[0].Counts().MailsInClear > 0 {
		return fmt.Errorf("%s: mail to %s went in clear", when, victim)
	}
	out, err := exec.CommandContext(ctx, l.binary, "policy", "show", victim, "--json", "--config", filepath.Join(l.dir, "stsrelay.toml")).Output() //nolint:gosec // our own
	var p struct{ Mode string }
	if err = errors.Join(err, json.Unmarshal(out, &p)); err != nil || p.Mode != "enforce" {
		return fmt.Errorf("%s: the policy of %s is not in force (%s): %w", when, victim, out, err)
	}
	fmt.Printf("in force     %s: mail to %s waits, nothing went in clear\n", when, victim)
	return nil
}

// disk is what the relay's folder takes of the disk.
func (l *load) disk() string {
	var blocks int64
	_ = filepath.WalkDir(l.data, func(path string, _ fs.DirEntry, _ error) error {
		var st syscall.Stat_t
		if filepath.Base(path) != "ballast" && syscall.Stat(path, &st) == nil {
			blocks += st.Blocks
		}
		return nil
	})
	return fmt.Sprintf("%d MiB", blocks>>11)
}
