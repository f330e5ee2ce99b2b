package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/smtp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func joinErrors(errs ...error) error { return errors.Join(errs...) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// paint colors a word if the output is a terminal.
func (d *demo) paint(code, s string) string {
	if !d.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (d *demo) title(text string) {
	d.scenes = append(d.scenes, demoScene{Title: text, Results: []string{}, Notes: []string{}})
	d.say("\n%s", d.paint("1", text))
}

func (d *demo) good(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	scene := &d.scenes[len(d.scenes)-1]
	scene.Results = append(scene.Results, text)
	d.say("  %s %s", d.paint("32", "✓"), text)
}

func (d *demo) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	scene := &d.scenes[len(d.scenes)-1]
	scene.Notes = append(scene.Notes, text)
	d.say("    %s", d.paint("2", text))
}

// play shows all scenes. It is an error if something does not happen as it should.
func (d *demo) play(ctx context.Context) error {
	d.say("A whole Internet on loopback: DNS at %s, three mail domains, a certificate authority.", d.net.DNS.Addr())
	d.say("The relay listens at %s. Mail goes through real sockets.", d.relay.Addrs()[0])
	for _, scene := range []func(context.Context) error{d.verified, d.stripped, d.falseCertificate, d.recovered, d.testing, d.plain, d.report} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	d.say("\nAll of it happened, in %.1f s.", time.Since(d.started).Seconds())
	return nil
}

// send hands a message to the relay as any mail server would.
func (d *demo) send(domain string) (queue.ID, error) {
	c, err := smtp.Dial(d.relay.Addrs()[0].String())
	if err != nil {
		return queue.ID{}, err
	}
	defer c.Close()
	to := "kurt@" + domain
	if err := c.Mail("anna@demo.example"); err != nil {
		return queue.ID{}, err
	}
	if err := c.Rcpt(to); err != nil {
		return queue.ID{}, err
	}
	if _, err := c.Text.Cmd("DATA"); err != nil {
		return queue.ID{}, err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return queue.ID{}, err
	}
	w := c.Text.DotWriter()
	fmt.Fprintf(w, "From: anna@demo.example\nTo: %s\nSubject: hello\n\nHello Kurt.\n", to)
	if err := w.Close(); err != nil {
		return queue.ID{}, err
	}
	_, reply, err := c.Text.ReadResponse(250)
	if err != nil {
		return queue.ID{}, err
	}
	d.note("anna@demo.example → %s: 250 %s", to, reply)
	_, id, _ := strings.Cut(reply, "queued as ")
	return ulid.ParseStrict(id) // it may have left the queue by now
}

// delivered sends a message and waits until the domain's host has it.
func (d *demo) delivered(ctx context.Context, domain string) (testnet.Message, error) {
	h := d.hosts[domain]
	before := len(h.Messages())
	if _, err := d.send(domain); err != nil {
		return testnet.Message{}, err
	}
	return d.arrival(ctx, domain, before)
}

func (d *demo) arrival(ctx context.Context, domain string, before int) (testnet.Message, error) {
	got, err := d.hosts[domain].Wait(ctx, before+1)
	if err != nil {
		return testnet.Message{}, err
	}
	return got[before], nil
}

// heldBack sends a message, which must stay in the queue with a reason.
func (d *demo) heldBack(ctx context.Context, domain string, reason failure.Reason) error {
	h := d.hosts[domain]
	before := h.Counts()
	id, err := d.send(domain)
	if err != nil {
		return err
	}
	m, gone, err := d.result(ctx, id)
	if err != nil {
		return err
	}
	var state queue.RecipientState
	if !gone {
		state = m.States[0]
	}
	after := h.Counts()
	switch {
	case gone:
		return fmt.Errorf("the message %s was not held back", id)
	case after.Mails != before.Mails:
		return fmt.Errorf("a MAIL command was sent to %s", h.Name)
	case state.ReasonCode != reason.Code():
		return fmt.Errorf("the message is held for another reason: %s", state.LastError)
	}
	d.good("held back, and not one octet of it was sent:")
	d.note("%s", state.LastError)
	return nil
}

func (d *demo) verified(ctx context.Context) error {
	d.title("1. bank.example publishes a policy: enforce, only mx1.bank.example, verified TLS")
	m, err := d.delivered(ctx, "bank.example")
	if err != nil {
		return err
	}
	if !m.TLS || m.TLSVersion < tls.VersionTLS12 {
		return errors.New("the message came without TLS")
	}
	d.good("delivered to mx1.bank.example over %s, certificate verified for that name", tls.VersionName(m.TLSVersion))
	return nil
}

func (d *demo) stripped(ctx context.Context) error {
	d.title("2. Attack: somebody on the way takes STARTTLS out of the greeting")
	if err := d.attack(testnet.Faults{NoStartTLS: true}); err != nil {
		return err
	}
	return d.heldBack(ctx, "bank.example", failure.TLSNone)
}

func (d *demo) falseCertificate(ctx context.Context) error {
	d.title("3. Attack: somebody answers in the host's place with a certificate of his own")
	if err := d.attack(testnet.Faults{Cert: testnet.CertSpec{UnknownCA: true}}); err != nil {
		return err
	}
	if _, err := d.relay.Queue().Retry(ctx, queue.Filter{Domain: "bank.example"}); err != nil {
		return err
	}
	return d.heldBack(ctx, "bank.example", failure.TLSCert)
}

// attack changes what answers at the host's address, and cuts the open sessions: they
// were verified, and could still be used.
func (d *demo) attack(f testnet.Faults) error {
	h := d.hosts["bank.example"]
	err := h.Set(f)
	h.Cut()
	return err
}

func (d *demo) recovered(ctx context.Context) error {
	d.title("4. The attack ends")
	h := d.hosts["bank.example"]
	before := len(h.Messages())
	if err := h.Set(testnet.Faults{}); err != nil {
		return err
	}
	if _, err := h.Wait(ctx, before+2); err != nil {
		return err
	}
	d.good("both messages left by themselves, over verified TLS; nobody had to do anything")
	return nil
}

func (d *demo) testing(ctx context.Context) error {
	d.title("5. shop.example only tests its policy, and its certificate is self-signed")
	m, err := d.delivered(ctx, "shop.example")
	if err != nil {
		return err
	}
	if !m.TLS {
		return errors.New("the message came in clear although TLS was offered")
	}
	d.good("delivered over %s without verification, and counted for its owner", tls.VersionName(m.TLSVersion))
	return nil
}

func (d *demo) plain(ctx context.Context) error {
	d.title("6. plain.example publishes nothing")
	m, err := d.delivered(ctx, "plain.example")
	if err != nil {
		return err
	}
	if !m.TLS {
		return errors.New("the message came in clear although TLS was offered")
	}
	d.good("delivered over %s, as good as it is offered", tls.VersionName(m.TLSVersion))
	return nil
}

func (d *demo) report(ctx context.Context) error {
	d.title("7. What the owners will be told (TLS-RPT, RFC 8460)")
	// The counts are committed with the results, which come after the arrival.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for d.relay.Queue().Counts().Messages > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("the queue did not become empty")
		}
	}
	day := time.Now().UTC().Format(tlsrpt.DayFormat)
	seen := make(map[string]map[tlsrpt.ResultType]bool)
	err := d.relay.Operator().PreviewReports(ctx, day, "", func(r *tlsrpt.Report) bool {
		for _, p := range r.Policies {
			seen[p.Policy.Domain] = make(map[tlsrpt.ResultType]bool)
			d.good("%-14s %-16s %s good, %d failed", p.Policy.Domain, p.Policy.Type, human.Plural(int(p.Summary.Successful), "session"), p.Summary.Failed)
			for _, f := range p.Details {
				seen[p.Policy.Domain][f.ResultType] = true
				d.note("%d × %s at %s", f.FailedSessionCount, f.ResultType, f.ReceivingMXHostname)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	for domain, want := range map[string]tlsrpt.ResultType{"bank.example": tlsrpt.StartTLSNotSupported, "shop.example": tlsrpt.CertificateNotTrusted} {
		if !seen[domain][want] {
			return fmt.Errorf("%s was not counted for %s", want, domain)
		}
	}
	return nil
}
