package alert

import (
	"context"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
)

// harness is a Monitor with all that it depends on.
type harness struct {
	*Monitor
	t       *testing.T
	store   *badger.Store
	now     time.Time
	to      string
	present []Alert
	mails   []*mail.Message
	full    bool // the queue takes nothing
	// hook answers the webhook; nil: none is configured.
	hook     func(body []byte) error
	language string
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	s, err := badger.Open(badger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	d := &harness{t: t, store: s, now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), to: "root@example.com"}
	d.restart()
	return d
}

func (d *harness) restart() {
	d.t.Helper()
	var err error
	d.Monitor, err = New(Options{
		Hostname: "relay.example.com", Store: d.store, To: func() string { return d.to }, Now: func() time.Time { return d.now },
		Check:    func(context.Context, bool) []Alert { return d.present },
		Language: func() string { return d.language },
		Webhook: func() func(context.Context, []byte) error {
			if d.hook == nil {
				return nil
			}
			return func(_ context.Context, body []byte) error { return d.hook(body) }
		},
		Queue: func(to string, body []byte, also func(*store.Batch)) (string, error) {
			if d.full {
				return "", store.ErrDiskFull
			}
			m, err := mail.ReadMessage(strings.NewReader(string(body)))
			if err != nil || m.Header.Get("To") != "<"+to+">" {
				d.t.Errorf("%v in %s", err, body)
			}
			d.mails = append(d.mails, m)
			var b store.Batch
			also(&b)
			return "Q", store.Commit(d.t.Context(), d.store, &b)
		},
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// after checks again after a while and returns the new mail, nil for none.
func (d *harness) after(pause time.Duration, present ...Alert) *mail.Message {
	d.t.Helper()
	d.now, d.present = d.now.Add(pause), present
	n := len(d.mails)
	if err := d.check(d.t.Context()); err != nil && !d.full {
		d.t.Fatal(err)
	}
	switch len(d.mails) - n {
	case 0:
		return nil
	case 1:
		return d.mails[n]
	}
	d.t.Fatalf("%d mails at once", len(d.mails)-n)
	return nil
}

func (d *harness) says(m *mail.Message, subject, text string) {
	d.t.Helper()
	if m == nil {
		d.t.Fatalf("no mail, want %q", subject)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		d.t.Fatal(err)
	}
	if got, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil || got != "relay.example.com: "+subject || !strings.HasPrefix(strings.ReplaceAll(string(body), "\r\n", "\n"), text) {
		d.t.Errorf("subject %q\n%s", got, body)
	}
}

var (
	disk = Alert{Key: "disk", What: "the disk runs full", Remedy: "free some"}
	cert = Alert{Key: "cert", What: "the certificate ends"}
)

func TestTheOperatorIsToldOnceADay(t *testing.T) {
	d := newHarness(t)
	if d.after(0) != nil {
		t.Error("a mail about nothing")
	}
	d.says(d.after(0, disk), "the disk runs full", "New:\n\n* the disk runs full\n  What helps: free some\n\nstsrelay status")
	if d.after(5*time.Minute, disk) != nil || d.after(23*time.Hour, disk) != nil {
		t.Error("told again within a day")
	}
	d.restart()
	if d.after(0, disk) != nil {
		t.Error("told again after a restart")
	}
	d.says(d.after(time.Hour, disk), "still: the disk runs full", "Still so:\n\n* the disk runs full\n")
	d.says(d.after(2*time.Hour, disk, cert), "the certificate ends", "New:\n\n* the certificate ends\n\nStill so:\n\n* the disk runs full\n")
	d.says(d.after(24*time.Hour, disk, cert), "2 troubles are still there", "Still so:\n\n* the disk")
	d.restart()
	d.says(d.after(-365*24*time.Hour, disk, cert), "2 troubles are still there", "Still so:\n\n* the disk") // the clock was ahead
}

func TestMailsToTheOperatorAreAnHourApart(t *testing.T) {
	d := newHarness(t)
	d.after(0, disk)
	if d.after(59*time.Minute, disk, cert) != nil {
		t.Error("a second mail within the hour")
	}
	d.says(d.after(time.Minute, cert, Alert{Key: "x", What: "X"}), "2 new troubles", "New:\n\n* the certificate ends\n\n* X\n\nOver since the last mail:\n\n* the disk runs full\n")
	if d.after(59*time.Minute) != nil {
		t.Error("a third within the next")
	}
	d.says(d.after(time.Minute), "all is well again", "Over since the last mail:\n\n* the certificate ends\n\n* X\n\n")
	if d.after(48*time.Hour) != nil {
		t.Error("all is well, twice")
	}
}

func TestWhatCannotBeQueuedIsToldLater(t *testing.T) {
	d := newHarness(t)
	d.full = true
	d.after(0, disk)
	d.full = false
	d.says(d.after(5*time.Minute, disk), "the disk runs full", "New:")
	d.now = d.now.Add(-2 * time.Hour) // the clock is set back
	d.says(d.after(0, disk, cert), "the certificate ends", "New:")
	d.to = ""
	if d.after(48*time.Hour, disk) != nil {
		t.Error("a mail to nobody")
	}
}

func TestWhatStrangersWriteBeginsNoLine(t *testing.T) {
	d := newHarness(t)
	m := d.after(0, Alert{Key: "x", What: "550 no\r\nBcc: a@b.example\n\nhé", Remedy: "a\nb"})
	d.says(m, "550 no Bcc: a@b.example hé", "New:\n\n* 550 no Bcc: a@b.example hé\n  What helps: a b\n")
	if m.Header.Get("Bcc") != "" {
		t.Error("it has become a header")
	}
}

func TestAMonitorStopsWithItsContext(t *testing.T) {
	d := newHarness(t)
	looks := make(chan time.Time)
	d.o.After = func(time.Duration) <-chan time.Time { return looks }
	d.present = []Alert{disk}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	looks <- d.now // the first look is over
	looks <- d.now // and so is the second
	stop()
	<-ended
	if len(d.mails) != 1 || len(d.Present(t.Context())) != 1 {
		t.Errorf("%d mails, %v", len(d.mails), d.Present(t.Context()))
	}
}
