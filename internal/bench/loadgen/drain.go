//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// drainPart is how many messages a drain hands over in one request: where a relay is killed
// meanwhile, both relays may deliver them.
const drainPart = 100

// draining is a relay under load that hands its mail to another one. Both deliver.
type draining struct {
	from, to *load
	url      string
}

// drain kills one of the two relays again and again in the middle of a drain. In the end the
// first one must be empty, and all that was acknowledged must have arrived.
func drain(ctx context.Context, o options, kills int) (err error) {
	waiting := o.backlog
	o.backlog, o.kills = 0, kills // kills: the senders go on until they are stopped
	d := &draining{from: newLoad(o), to: newLoad(o)}
	if err := d.from.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(d.from.dir)
	defer d.from.net.Close()
	if err := d.from.fillDeliverable(waiting); err != nil {
		return err
	}
	d.to.net, d.to.hosts = d.from.net, d.from.hosts
	if err := d.second(); err != nil {
		return err
	}
	defer os.RemoveAll(d.to.dir)
	for _, l := range []*load{d.to, d.from} {
		if err := l.startRelay(ctx); err != nil {
			return err
		}
		defer func() { _ = l.process.stop(syscall.SIGTERM) }()
	}
	began := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- d.from.send(ctx) }()
	inTheMiddle, err := d.killInTurn(ctx, kills)
	d.from.stop.Store(true)
	if err = errors.Join(err, <-sent); err != nil {
		return err
	}
	if err := d.finish(ctx); err != nil {
		return err
	}
	drained := time.Since(began)
	if err := d.from.arrive(ctx); err != nil {
		return err
	}
	all := time.Since(began)
	there, err := d.to.historyLines(ctx)
	if err != nil {
		return err
	}
	delivered := 0 // by the second relay
	for _, r := range there {
		if r.Verdict == "delivered" {
			delivered++
		}
	}
	return d.report(waiting, kills, inTheMiddle, delivered, drained, all)
}

// fillDeliverable puts messages into the queue that can be delivered, and counts them as
// accepted. They have a trace header, by which they are known when they arrive.
func (l *load) fillDeliverable(n int) error {
	text := strings.Repeat("x", 76) + "\r\n"
	return l.fillQueue(n, func(n int) queue.NewMessage {
		id := fmt.Sprintf("%026d", n)
		l.accepted[id] = time.Now()
		body := fmt.Appendf(nil, "Received: from backlog by relay.load.example id %s; Sat, 28 Nov 2026 12:00:00 +0000\r\nSubject: load\r\n\r\n%s", id, strings.Repeat(text, l.size/len(text)+1))
		return backlogMessage("kurt", domainName(n%l.domains), body)
	})
}

// second configures the relay that takes the mail, with its web page over TLS.
func (d *draining) second() error {
	if err := d.to.configure(); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	d.url = "https://localhost:" + port
	certificate, err := d.from.net.CA.Issue("localhost", testnet.CertSpec{})
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return err
	}
	var chain bytes.Buffer
	for _, c := range certificate.Certificate {
		_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: c}) // a Buffer takes all
	}
	config := filepath.Join(d.to.dir, "stsrelay.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	text = fmt.Appendf(text, "[admin]\nhttp = \"localhost:%s\"\ntls = true\nact_token_file = \"token\"\n[tls]\ncertificate = \"relay.pem\"\nkey = \"relay.key\"\n", port)
	return errors.Join(os.WriteFile(config, text, 0o600),
		os.WriteFile(filepath.Join(d.to.dir, "token"), []byte("the token of this load\n"), 0o600),
		os.WriteFile(filepath.Join(d.to.dir, "relay.pem"), chain.Bytes(), 0o600),
		os.WriteFile(filepath.Join(d.to.dir, "relay.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}

// killInTurn kills the relays in turn while a drain runs, and starts them again. It returns
// how often the drain was under way at a kill.
func (d *draining) killInTurn(ctx context.Context, kills int) (inTheMiddle int, err error) {
	random := rand.New(rand.NewPCG(d.from.seed, 2))
	var ended <-chan error
	for i := range kills {
		if ended == nil {
			if ended, err = d.command(ctx); err != nil {
				return inTheMiddle, err
			}
		}
		if err := wait(ctx, time.Duration(200+random.IntN(1000))*time.Millisecond); err != nil {
			return inTheMiddle, err
		}
		victim := []*load{d.to, d.from}[i%2]
		select {
		case <-ended: // all was handed over; the load goes on
			ended = nil
		default:
			inTheMiddle++
		}
		if d.from.verbose {
			distinct, _ := d.from.arrived()
			fmt.Printf("kill %d: %d acknowledged, %d arrived\n", i+1, d.from.count(), len(distinct))
		}
		if err := victim.process.stop(syscall.SIGKILL); err != nil {
			return inTheMiddle, err
		}
		if victim == d.from && ended != nil {
			<-ended // the command ends with its relay
			ended = nil
		}
		if err := victim.startRelay(ctx); err != nil {
			return inTheMiddle, err
		}
	}
	if ended != nil {
		return inTheMiddle, <-ended
	}
	return inTheMiddle, nil
}

// command starts the drain command; the channel has its end.
func (d *draining) command(ctx context.Context) (<-chan error, error) {
	cmd := exec.CommandContext(ctx, d.from.binary, "queue", "drain", "--config", filepath.Join(d.from.dir, "stsrelay.toml"), //nolint:gosec // our own
		"--to", d.url, "--token-file", filepath.Join(d.to.dir, "token"), "--ca-file", filepath.Join(d.from.dir, "ca.pem"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("drain: %w: %s", err, out.Bytes())
		}
		ended <- err
	}()
	return ended, nil
}

// finish drains what is left.
func (d *draining) finish(ctx context.Context) error {
	ended, err := d.command(ctx)
	if err != nil {
		return err
	}
	return <-ended
}

// report prints the result. The relays may both deliver what was in flight at a kill.
func (d *draining) report(waiting, kills, inTheMiddle, delivered int, drained, all time.Duration) error {
	distinct, total := d.from.arrived()
	twice, bound := total-len(distinct), kills*(inFlight+drainPart)
	n := len(d.from.accepted)
	fmt.Printf("drain over TLS, seed %d: %d waited, %d were accepted meanwhile; %d kills of either relay, %d in the middle of a drain\n", d.from.seed, waiting, n-waiting, kills, inTheMiddle)
	fmt.Printf("drained after %s, delivered after %s, %d of %d by the second relay (its history has at least so many); lost 0, twice %d (at most %d: in flight at the kills)\n", drained.Round(time.Second), all.Round(time.Second), delivered, total, twice, bound)
	if delivered == 0 {
		return errors.New("the second relay has delivered nothing")
	}
	if twice > bound {
		return errors.New("more messages came twice than were in flight")
	}
	return nil
}
