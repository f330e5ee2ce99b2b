package alert

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/logsink"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/security"
)

const (
	// defaultWait is the age of mail that is an alert where DelayNotice is 0.
	defaultWait = 4 * time.Hour
	// logWindow is how long dropped lines of the log are an alert.
	logWindow = time.Hour
	// maxAlerts bounds the domains, and the damages, that have an alert of their own.
	maxAlerts = 20
	// keysEvery is the time between two lookups of the keys' records.
	keysEvery = 5 * time.Minute
)

// Key is a DKIM key of the configuration.
type Key struct {
	Domain, Selector, File string
	Sign                   []string // what it signs
}

// Settings are what a reload may change of Checks.
type Settings struct {
	// DelayNotice is the age of mail whose sender is told of a delay, 0 for never.
	DelayNotice time.Duration
	Keys        []Key
}

// Checks are what a Monitor checks. All exported fields are required.
type Checks struct {
	Queue   *queue.Queue
	Disk    Disk
	DataDir string
	// History returns why the history cannot be written, "" where it can, and the end of
	// the last day that was deleted before its time because of the bound of its size.
	History func() (failure string, shortened time.Time)
	// LogDropped returns the lines of the log that nobody has read.
	LogDropped func() logsink.Dropped
	// Certificates returns the relay's own certificates, the file that they come
	// from ("" where they are self-signed), and why its last change cannot be used.
	Certificates func() (certs []tls.Certificate, file, problem string)
	// Ordered returns what there is to know of the relay's own certificate that an authority
	// is asked for; nil: none is asked.
	Ordered func() *Ordered
	// LookupTXT looks up the records of keys, past the cache.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	// ResolverAnswers returns why no resolver answers, nil where one does.
	ResolverAnswers func(ctx context.Context) error
	// Outage returns that nothing is delivered, nil where something is.
	Outage func() *Outage
	// Received returns what came up in the TLS reports about own domains.
	Received func(ctx context.Context) Received
	Settings func() Settings
	// Published returns what is wrong with the domains whose policies the relay publishes;
	// nil: it publishes none.
	Published func() []Alert
	// Fleet returns what is wrong with the relays that share an engine; nil: this one is
	// alone.
	Fleet func() []Alert
	Now   func() time.Time

	// The DNS is asked for keys seldom, as reports are searched; Monitor runs one check at a time.
	keyAlerts []Alert
	keysAt    time.Time
}

// Ordered is the certificate that an authority is asked for.
type Ordered struct {
	// NotBefore and NotAfter bound its life; zero: there is none yet.
	NotBefore, NotAfter time.Time
	// Problem is why there is none, or why it is not renewed; "": all is well so far.
	Problem string
}

// Disk is what there is to know of the disk below the store; an engine that has none of
// its own reports much free space and no damage.
type Disk interface {
	// Free returns the free octets, FreeLimit those below which no mail is taken in.
	Free() (int64, error)
	FreeLimit() int64
	// Damage is what was found when the store was opened.
	Damage() store.Damage
}

// Run returns all that is wrong now. The records of DKIM keys are looked up, and TLS reports
// searched, where thorough is set, every few minutes.
func (c *Checks) Run(ctx context.Context, thorough bool) []Alert {
	s := c.Settings()
	var list []Alert
	if !c.Queue.Paused() && c.Queue.Counts().Messages > 0 {
		list = append(c.resolver(ctx), c.outage()...)
	}
	list = append(append(append(list, c.disk()...), c.damage()...), c.certificates()...)
	list = append(append(list, c.log()...), c.history()...)
	if since := c.Now().Sub(c.keysAt); thorough && (c.keysAt.IsZero() || since < 0 || since >= keysEvery) {
		c.keyAlerts, c.keysAt = append(c.keys(ctx, s.Keys), c.received(ctx)...), c.Now()
	}
	if c.Published != nil {
		list = append(list, c.Published()...)
	}
	if c.Fleet != nil {
		list = append(list, c.Fleet()...)
	}
	return append(append(list, c.keyAlerts...), c.mail(s.DelayNotice)...)
}

// resolver tells that no resolver answers.
func (c *Checks) resolver(ctx context.Context) []Alert {
	err := c.ResolverAnswers(ctx)
	if err == nil {
		return nil
	}
	a := say(ResolverSilent, "resolver", wordsOf(phrase.Of(err)))
	a.urgent = true
	return []Alert{a}
}

// log tells of lines of the log that were dropped lately.
func (c *Checks) log() []Alert {
	d := c.LogDropped()
	if d.Lines == 0 || c.Now().Sub(d.Last) >= logWindow {
		return nil
	}
	return []Alert{say("log", "log", d.Lines, d.Last.UTC().Format(time.DateTime))}
}

// history tells that the history is not written, or is shorter than it should be.
func (c *Checks) history() (list []Alert) {
	failure, shortened := c.History()
	if failure != "" {
		list = append(list, say("history", "history", failure))
	}
	if !shortened.IsZero() && c.Now().Sub(shortened) < 60*24*time.Hour {
		list = append(list, say("history size", "history size", shortened.UTC().Format(time.DateOnly)))
	}
	return list
}

// disk tells that no mail is taken in, or that the disk is nearly full.
func (c *Checks) disk() []Alert {
	if err := c.Queue.Accepting(); err != nil {
		name := "accepting"
		if errors.Is(err, store.ErrDiskFull) {
			name = "full"
		}
		a := say(NotAccepting, name, wordsOf(phrase.Of(err)))
		a.urgent = true
		return []Alert{a}
	}
	limit := c.Disk.FreeLimit()
	free, err := c.Disk.Free()
	if err != nil || free >= limit+limit/2 {
		return nil
	}
	return []Alert{say("disk", "disk", c.DataDir, free>>20, limit>>20)}
}

// damage tells of damage of the store, and of messages that cannot be read.
func (c *Checks) damage() (list []Alert) {
	if n := c.Queue.Counts().Unreadable; n > 0 {
		list = append(list, say("unreadable", "unreadable", messages(n), c.DataDir))
	}
	said := c.Disk.Damage().Said
	for i, what := range said[:min(len(said), maxAlerts)] {
		list = append(list, say(fmt.Sprintf("store %d", i), "store", what, c.DataDir))
	}
	return list
}

// certificates tells of the relay's own certificates.
func (c *Checks) certificates() (list []Alert) {
	certs, file, problem := c.Certificates()
	if problem != "" {
		list = append(list, say("certificate-file", "certificate-file", problem))
	}
	for _, cert := range certs {
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil || file == "" || !security.EndsSoon(leaf.NotBefore, leaf.NotAfter, c.Now()) {
			continue
		}
		list = append(list, say("certificate", "certificate", file, leaf.NotAfter.UTC().Format(time.DateTime)))
	}
	return append(list, c.ordered()...)
}

// ordered tells of a certificate of the relay's own that an authority should have renewed:
// that is tried when a third of its life is left, and a quarter is left now.
func (c *Checks) ordered() []Alert {
	o := c.Ordered()
	switch {
	case o == nil:
		return nil
	case o.NotAfter.IsZero() && o.Problem == "": // it waits its turn
		return nil
	case o.NotAfter.IsZero():
		return []Alert{say("certificate-acme", "certificate-acme none", o.Problem)}
	case o.NotAfter.Sub(c.Now()) >= o.NotAfter.Sub(o.NotBefore)/4:
		return nil
	}
	return []Alert{say("certificate-acme", "certificate-acme", o.NotAfter.UTC().Format(time.DateTime), cmp.Or(o.Problem, "no reason is known yet; see the log"))}
}

// Publish is the alert of a fault of a domain whose policy is published, in both languages.
func Publish(domain, code string, text phrase.Phrase) Alert {
	return say("publish "+domain+" "+code, "publish", wordsOf(text), domain)
}

// Fleet is the alert about a trouble of the relays that share an engine.
func Fleet(key string, text phrase.Phrase) Alert {
	return say("fleet "+key, "fleet", wordsOf(text))
}

// keys tells of DKIM keys whose record is not published as it must be. If the DNS
// does not answer there is no alert.
func (c *Checks) keys(ctx context.Context, keys []Key) (list []Alert) {
	for _, k := range keys {
		found, err := c.keyProblem(ctx, k)
		if err != nil || found.Text == "" {
			continue
		}
		name, text := k.Selector+"._domainkey."+k.Domain, "dkim"
		if found.Works {
			text = "dkim somewhere"
		}
		list = append(list, say("dkim "+name, text, name, found.Text))
	}
	return list
}

func (c *Checks) keyProblem(ctx context.Context, k Key) (dkim.Finding, error) {
	key, err := dkim.Load(k.Domain, k.Selector, k.File)
	if err != nil {
		return dkim.Finding{Text: err.Error()}, nil //nolint:nilerr // that is the problem
	}
	return key.Problem(ctx, c.LookupTXT, k.Sign)
}

// mail tells of domains whose mail waits for long, and of mail that is held.
func (c *Checks) mail(wait time.Duration) (list []Alert) {
	if wait == 0 {
		wait = defaultWait
	}
	if !c.Queue.Paused() {
		list = c.waiting(c.Queue.Summary(), wait)
	}
	if n := c.Queue.Counts().Held; n > 0 {
		list = append(list, say("held", "held", messages(n)))
	}
	return list
}

// waiting tells of domains whose oldest mail is as old as wait.
func (c *Checks) waiting(domains []queue.DomainSummary, wait time.Duration) (list []Alert) {
	codes, more := make(map[string]int), 0
	for _, d := range domains {
		if d.Last != (queue.Reason{}) {
			codes[d.Last.Code]++
		}
	}
	shared := failure.Shared(codes)
	for _, d := range domains {
		if d.Last == (queue.Reason{}) || c.Now().Sub(d.OldestAt) < wait {
			continue
		}
		if len(list) == maxAlerts {
			more++
			continue
		}
		row := failure.Of(d.Last.Code)
		helps := helpWith(&row, row.Code == shared)
		helps.english, helps.german = failure.Fill(helps.english, d.Domain, ""), failure.Fill(helps.german, d.Domain, "")
		list = append(list, say("domain "+d.Domain+" "+row.Code, "domain", d.Domain, messages(d.Messages), d.OldestAt.UTC().Format(time.DateTime), row.Code, d.Last.Text, helps))
	}
	if more > 0 {
		list = append(list, say("domains", "domains", more))
	}
	return list
}
