package tlsrpt

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// harness is a reporter in a fake Internet, with a clock that only the test
// moves. Nothing runs by itself: the test says when the reporter looks at the
// clock.
type harness struct {
	*testnet.Net
	*Reporter
	t     *testing.T
	dir   string
	store *badger.Store
	now   time.Time
	log   bytes.Buffer // warnings and worse

	mu       sync.Mutex
	records  map[string][]string
	dnsErr   error
	queued   []Mail
	ends     []string // at destinations
	insecure bool
	public   bool
	noKey    bool
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	o := &harness{Net: n, t: t, dir: t.TempDir(), now: noon, records: make(map[string][]string)}
	o.open()
	return o
}

// open opens the store and a reporter of it.
func (o *harness) open() {
	o.t.Helper()
	o.store = openStore(o.t, o.dir)
	o.attach(o.store)
}

func (o *harness) attach(s store.Store) {
	o.t.Helper()
	poster := NewHTTPSubmitter(HTTPSubmitterOptions{
		Roots: o.CA.Roots(), DialContext: o.DialContext, LookupAddrs: o.lookupAddrs,
		AllowPrivate: func() bool { return !o.public }, Insecure: func() bool { return o.insecure },
	})
	var err error
	o.Reporter, err = New(Options{
		Store:    s,
		Identity: func() Identity { return Identity{"Example", "postmaster@sender.example", "tls@sender.example"} },
		Post:     poster.Post,
		Advice: func(code string) string {
			return map[string]string{
				"mta-sts-mx-mismatch": "Your MTA-STS policy does not name this host. Add a line \"mx:\" for it,\nand change the id of the record.",
				"tlsa-mismatch":       "The TLSA records do not fit the host's certificate. Publish the new\nrecord before the certificate changes.",
			}[code]
		},
		LookupTXT: func(_ context.Context, name string) ([]string, error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.records[name], o.dnsErr
		},
		Sign: func(domain string, write func(io.Writer) error) ([]byte, error) {
			if o.noKey {
				return nil, fmt.Errorf("%w of %s", ErrNoKey, domain)
			}
			return []byte("X-Signed: by " + domain + "\r\n"), write(io.Discard)
		},
		Queue: func(m *Mail, also func(*store.Batch, string)) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			var b store.Batch
			also(&b, fmt.Sprintf("Q%d", len(o.queued)))
			if err := store.Commit(context.Background(), s, &b); err != nil {
				return err
			}
			o.queued = append(o.queued, *m)
			return nil
		},
		Ended: func(how string, sent bool) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.ends = append(o.ends, fmt.Sprintf("%s %t", how, sent))
		},
		Now:    func() time.Time { return o.now },
		Logger: slog.New(slog.NewTextHandler(&o.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *harness) lookupAddrs(_ context.Context, host string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(o.DNS.A(host))
	return []netip.Addr{a}, err
}

// restart closes the store and opens everything anew.
func (o *harness) restart() {
	o.t.Helper()
	if err := o.store.Close(); err != nil {
		o.t.Fatal(err)
	}
	o.open()
	if err := o.resume(); err != nil {
		o.t.Fatal(err)
	}
}

func (o *harness) publish(domain string, txt ...string) { o.records[RecordName(domain)] = txt }

func (o *harness) receiver(name string) *testnet.ReportHost {
	o.t.Helper()
	h, err := o.AddReportHost(name)
	if err != nil {
		o.t.Fatal(err)
	}
	return h
}

func (o *harness) count(results ...Result) {
	o.t.Helper()
	var b store.Batch
	for _, r := range results {
		o.Count(&b, r)
	}
	if err := store.Commit(o.t.Context(), o.store, &b); err != nil {
		o.t.Fatal(err)
	}
}

// at moves the clock and makes what is due by then.
func (o *harness) at(now time.Time) {
	o.t.Helper()
	o.now = now
	if err := o.newDay(o.t.Context(), now); err != nil {
		o.t.Fatal(err)
	}
	for {
		o.Reporter.mu.Lock()
		k, _, ok := o.due.next(now)
		o.Reporter.mu.Unlock()
		if !ok {
			return
		}
		o.attempt(o.t.Context(), k)
	}
}

func (o *harness) list() (out []Status) {
	o.t.Helper()
	if err := o.List(o.t.Context(), "", "", func(s Status) bool { out = append(out, s); return true }); err != nil {
		o.t.Fatal(err)
	}
	return out
}

// state is that of the only report.
func (o *harness) state() Status {
	o.t.Helper()
	l := o.list()
	if len(l) != 1 {
		o.t.Fatalf("%d reports: %+v", len(l), l)
	}
	return l[0]
}

var (
	success = Result{Domain: "a.example", Policy: Policy{Type: PolicyNone}, At: noon}
	nextDay = noon.Truncate(24 * time.Hour).Add(28 * time.Hour) // when all reports of the day are due
)
