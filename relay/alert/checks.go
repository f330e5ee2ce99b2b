package alert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/logsink"
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

// Checks are what a Monitor checks. All fields are required.
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
	// LookupTXT looks up the records of keys, past the cache.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	Settings  func() Settings
	Now       func() time.Time
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

// Run returns all that is wrong now.
func (c *Checks) Run(ctx context.Context) []Alert {
	s := c.Settings()
	list := append(append(c.disk(), c.damage()...), c.certificates()...)
	list = append(append(list, c.log()...), c.history()...)
	list = append(list, c.keys(ctx, s.Keys)...)
	return append(list, c.mail(s.DelayNotice)...)
}

// log tells of lines of the log that were dropped lately.
func (c *Checks) log() []Alert {
	d := c.LogDropped()
	if d.Lines == 0 || c.Now().Sub(d.Last) >= logWindow {
		return nil
	}
	return []Alert{{Key: "log",
		What:   fmt.Sprintf("%d lines of the log were dropped, the last one at %s UTC: whoever reads standard error does not keep up. Mail goes on", d.Lines, d.Last.UTC().Format(time.DateTime)),
		Remedy: "look at the log driver or the program behind the pipe, and at the disk that it writes to"}}
}

// history tells that the history is not written, or is shorter than it should be.
func (c *Checks) history() (list []Alert) {
	failure, shortened := c.History()
	if failure != "" {
		list = append(list, Alert{Key: "history", What: "the history of mail cannot be written: " + failure + ". Mail goes on", Remedy: "free space on its disk"})
	}
	if !shortened.IsZero() && c.Now().Sub(shortened) < 60*24*time.Hour {
		list = append(list, Alert{Key: "history size", What: "the history of mail before " + shortened.UTC().Format(time.DateOnly) + " was deleted early: it is larger than history.size",
			Remedy: "set a larger history.size, or a shorter history.keep"})
	}
	return list
}

// disk tells that no mail is taken in, or that the disk is nearly full.
func (c *Checks) disk() []Alert {
	const remedy = "free space there, give it a larger disk, or lower limits.free_space"
	switch err := c.Queue.Accepting(); {
	case errors.Is(err, store.ErrDiskFull):
		return []Alert{{Key: NotAccepting, What: "no mail is taken in: " + err.Error(), Remedy: remedy}}
	case err != nil:
		return []Alert{{Key: NotAccepting, What: "no mail is taken in: " + err.Error(), Remedy: "look into the log for lines of level ERROR"}}
	}
	limit := c.Disk.FreeLimit()
	free, err := c.Disk.Free()
	if err != nil || free >= limit+limit/2 {
		return nil
	}
	return []Alert{{Key: "disk", Remedy: remedy,
		What: fmt.Sprintf("the disk of %s has %d MiB free; below %d MiB no mail is taken in", c.DataDir, free>>20, limit>>20)}}
}

// damage tells of damage of the store, and of messages that cannot be read.
func (c *Checks) damage() (list []Alert) {
	remedy := fmt.Sprintf("look at the disk; stop the relay, and take out what is sound with stsrelay queue rescue --data-dir %s FILE", c.DataDir)
	if n := c.Queue.Counts().Unreadable; n > 0 {
		list = append(list, Alert{Key: "unreadable", Remedy: remedy,
			What: fmt.Sprintf("%s cannot be read from the disk of %s; nobody was told, and they are held (stsrelay queue list --state held)", human.Plural(n, "message"), c.DataDir)})
	}
	said := c.Disk.Damage().Said
	for i, what := range said[:min(len(said), maxAlerts)] {
		list = append(list, Alert{Key: fmt.Sprintf("store %d", i), What: "the store is not as it should be: " + what, Remedy: remedy})
	}
	return list
}

// certificates tells of the relay's own certificates.
func (c *Checks) certificates() (list []Alert) {
	const remedy = "renew tls.certificate; the relay reads it again by itself"
	certs, file, problem := c.Certificates()
	if problem != "" {
		list = append(list, Alert{Key: "certificate-file", What: "the relay's certificate has changed and cannot be used, the old one stays: " + problem, Remedy: remedy})
	}
	for _, cert := range certs {
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil || file == "" || !security.EndsSoon(leaf.NotBefore, leaf.NotAfter, c.Now()) {
			continue
		}
		list = append(list, Alert{Key: "certificate", Remedy: remedy,
			What: fmt.Sprintf("the relay's certificate (%s) ends on %s; servers that verify it will not hand over mail then", file, leaf.NotAfter.UTC().Format(time.DateTime))})
	}
	return list
}

// keys tells of DKIM keys whose record is not published as it must be. If the DNS
// does not answer there is no alert.
func (c *Checks) keys(ctx context.Context, keys []Key) (list []Alert) {
	for _, k := range keys {
		found, err := c.keyProblem(ctx, k)
		if err == nil && found.Text != "" {
			name := k.Selector + "._domainkey." + k.Domain
			effect := "is not believed"
			if found.Works {
				effect = "is not believed everywhere"
			}
			list = append(list, Alert{Key: "dkim " + name, What: fmt.Sprintf("what is signed with the DKIM key %s %s: %s", name, effect, found.Text),
				Remedy: "stsrelay report setup prints the record to publish"})
		}
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
	more := 0
	if !c.Queue.Paused() {
		for _, d := range c.Queue.Summary() {
			if d.Last == (queue.Reason{}) || c.Now().Sub(d.OldestAt) < wait {
				continue
			}
			if len(list) == maxAlerts {
				more++
				continue
			}
			row := failure.Of(d.Last.Code)
			list = append(list, Alert{Key: "domain " + d.Domain + " " + row.Code, Remedy: strings.ReplaceAll(row.Remedy, "DOMAIN", d.Domain),
				What: fmt.Sprintf("mail for %s waits, %d messages, the oldest since %s UTC (%s: %s)", d.Domain, d.Messages, d.OldestAt.UTC().Format(time.DateTime), row.Code, d.Last.Text)})
		}
	}
	if more > 0 {
		list = append(list, Alert{Key: "domains", What: fmt.Sprintf("mail for %d more domains waits", more), Remedy: "stsrelay queue summary"})
	}
	if n := c.Queue.Counts().Held; n > 0 {
		list = append(list, Alert{Key: "held", What: fmt.Sprintf("%d messages are held", n), Remedy: "stsrelay queue list --state held, and queue release or remove"})
	}
	return list
}
