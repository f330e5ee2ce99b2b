// Package relay wires the parts to a running relay: it opens the store and the
// queue, starts ingress, delivery, the policy cache and the admin socket, puts a
// changed configuration into force while it runs, and stops everything in order.
// It decides nothing about mail.
package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/httpserve"
	"github.com/stsrelay/stsrelay/internal/logsink"
	"github.com/stsrelay/stsrelay/internal/sdnotify"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/internal/webfetch"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/acme"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/backup"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/ingress"
	"github.com/stsrelay/stsrelay/relay/live"
	"github.com/stsrelay/stsrelay/relay/metrics"
	"github.com/stsrelay/stsrelay/relay/notify"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/publisher"
	"github.com/stsrelay/stsrelay/relay/received"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/relay/web"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

const (
	// ballast is the size of the file that the store deletes when the disk is full.
	ballast = 256 << 20
	// sessionGrace and deliveryGrace bound how long a stop waits for messages that
	// are coming in and for content that is going out, at the same time. With
	// what follows they stay below the 10 s that Docker gives.
	sessionGrace  = 8 * time.Second
	deliveryGrace = 8 * time.Second
)

// Options configures New. Config is required.
type Options struct {
	Config *config.Config
	// Load reads the configuration again, for a reload; nil: reload is refused.
	Load func() (*config.Config, error)
	// Version is the version that status, metrics and the log name.
	Version string
	// Dial opens the connections to MX and policy hosts; nil: net.Dialer. The
	// address is an IP and port 25 or 443.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// BounceDelay is how long a bounce by the operator can be undone; 0: it is made at
	// once.
	BounceDelay time.Duration
	// Timeouts replaces those of RFC 5321 towards hosts, where they are not zero.
	Timeouts smtpclient.Timeouts
	// Roots replaces the trusted authorities of the configuration.
	Roots *x509.CertPool
	// Now and After are the clock of reports, alerts, certificates and signatures; nil:
	// time.Now and time.After.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// RenewCheck is how often certificates of the authority are looked at for their
	// renewal; 0: ten minutes.
	RenewCheck time.Duration
	// Logger gets everything; nil discards it.
	Logger *slog.Logger
	// LogDropped returns the lines of the log that nobody has read; nil: there are
	// none.
	LogDropped func() logsink.Dropped
	// Level, if set, is changed by a reload.
	Level *slog.LevelVar
	// Manager is the service manager that is told of start, reloads and stop; nil:
	// there is none.
	Manager *sdnotify.Notifier
}

// Relay is an open relay.
type Relay struct {
	o       Options
	log     *slog.Logger
	config  atomic.Pointer[config.Config]
	started time.Time

	disk      *badger.Store
	space     *postgres.Store // nil: the queue is on the disk
	fleetView *fleetView      // nil: there is no fleet
	spaces    atomic.Int64    // that the fleet works on
	adopted   sync.Map        // the *spool of each space that was taken over
	troubles  fleetTroubles
	executors sync.Map    // by space, the *operator.Operator that executes orders of other relays
	store     store.Store // where the queue is: disk or space
	queue     *queue.Queue
	resolver  *dnsclient.Client
	policies  *sts.Manager
	delivery  *delivery.Delivery
	ingress   *ingress.Server
	operator  *operator.Operator
	admin     *adminapi.Server
	web       *httpserve.Server // nil: no HTTP address is configured
	certs     *ingress.Certificates
	notices   *notify.Reporter
	alerts    *alert.Monitor
	traffic   *alert.Traffic
	metrics   *metrics.Metrics
	totals    totals
	live      *live.Meter
	trace     trace.Tracer

	publisher  *publisher.Publisher
	publishing *publisher.Server  // its listeners, of which there may be none
	acme       *acme.Certificates // nil: no certificate is ordered
	files      *publisher.Files   // nil: certificates of policy hosts are in no files
	watch      *publisher.Watch   // nil: no policies are served
	// fetchPolicy fetches a policy as for a delivery; nil: MTA-STS is off.
	fetchPolicy func(ctx context.Context, domain string) (*sts.Fetched, error)
	passwords   *ingress.Passwords
	hellos      *clienthello.Hosts
	roots       *x509.CertPool
	history     *history.Log
	received    *received.Archive
	reporter    *tlsrpt.Reporter                // of the own store; nil: TLS reports are off
	reports     atomic.Pointer[tlsrpt.Reporter] // that makes the reports here; nil: none does
	signer      atomic.Pointer[dkim.Signer]     // of reports

	webhookClient *webfetch.Client
	webhookAddrs  *knownAddrs

	reloading sync.Mutex
}

// New opens the store and the parts of the relay, and binds the admin socket and the
// HTTP address. Run must follow: it closes what New has opened.
func New(o Options) (*Relay, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LogDropped == nil {
		o.LogDropped = func() logsink.Dropped { return logsink.Dropped{} }
	}
	r := &Relay{o: o, log: o.Logger, metrics: metrics.New(), passwords: ingress.NewPasswords(accounts(o.Config)), hellos: clienthello.NewHosts(o.Now), started: time.Now()}
	r.config.Store(o.Config)
	r.traffic = alert.NewTraffic(r.now)
	r.live = live.New(r.liveTotals)
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *Relay) open() error {
	c := r.config.Load()
	roots, err := r.o.Roots, error(nil)
	if roots == nil {
		roots, err = Roots(c)
	}
	if err != nil {
		return err
	}
	r.roots = roots
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if _, err := os.Stat(backup.Restoring(c.DataDir)); err == nil {
		return fmt.Errorf("%s is there: a restore into %s was cut off; empty the folder and restore again", backup.Restoring(c.DataDir), c.DataDir)
	}
	r.disk, err = badger.Open(badger.Options{Dir: StoreDir(c.DataDir), FreeSpace: int64(c.Limits.FreeSpace), Ballast: ballast, Committed: r.committedOnDisk(c), Version: r.o.Version, Logger: r.log})
	if err != nil {
		return explainDamage(c, r.o.Version, err)
	}
	if err := r.openStore(c); err != nil {
		return err
	}
	if r.history, err = history.Open(history.Options{
		Dir: filepath.Join(c.DataDir, "history"), Settings: historySettings(c), CheckSpace: r.disk.CheckSpace, Now: r.o.Now, Logger: r.log,
	}); err != nil {
		return err
	}
	r.resolver, err = dnsclient.New(dnsclient.Options{Servers: c.DNS.Servers, TrustAD: c.DNS.TrustAD, Roots: roots, Logger: r.log})
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	if c.STS.Enabled {
		if r.policies, err = r.openPolicies(roots); err != nil {
			return fmt.Errorf("policy cache: %w", err)
		}
	}
	if c.TLSRPT.Enabled {
		signer, err := r.newSigner(c, "reports")
		if err != nil {
			return err
		}
		r.signer.Store(signer)
	}
	own, err := r.openSpool(r.store, r.damage())
	r.queue, r.notices, r.reporter, r.delivery = own.queue, own.notices, own.reporter, own.delivery
	if err != nil {
		return err
	}
	if r.space == nil {
		r.reports.Store(r.reporter)
	}
	certs, err := readCertificates(c)
	if err != nil {
		return err
	}
	r.certs = ingress.NewCertificates(certs, c.TLS.Certificate, c.TLS.Key)
	r.openReceived()
	r.openWebhook()
	if err := r.openAlerts(); err != nil {
		return err
	}
	if r.ingress, err = r.openIngress(c); err != nil {
		return err
	}
	r.openMetrics()
	r.operator = operator.New(operator.Options{
		Queue: r.queue, Fleet: r.operatorFleet(), Store: r.disk, Policies: r.policies, NoHost: r.noHost, Reports: r.reportsNow, History: r.history, Received: r.received, Published: r.publishedDomains, RenewPublished: r.renewPublished, Live: r.live, Trace: &r.trace, Hostname: c.Hostname, Version: r.o.Version, Status: r.status, ResolverSilent: func() bool { return r.alerts.Has(alert.ResolverSilent) }, Reload: r.reload, Check: r.check, FleetStatus: r.seeFleet(), Notice: r.removed, Logger: r.log,
	})
	r.admin = adminapi.New(adminapi.Options{Operator: r.operator, Logger: r.log})
	if err := r.admin.Listen(c.SocketPath()); err != nil {
		return err
	}
	if err := r.openPublisher(context.Background(), c); err != nil {
		return err
	}
	return r.openWeb(c)
}

// Run relays until ctx ends. Then it stops: new sessions get 421, open sessions and
// attempts under way may end within their grace, and the store is closed. ready, if
// not nil, is called when the listeners are bound.
func (r *Relay) Run(ctx context.Context, ready func()) error {
	c := r.config.Load()
	if err := r.ingress.Listen(); err != nil {
		return errors.Join(err, r.close())
	}
	r.introduce(c)
	if err := r.queue.Accepting(); err != nil {
		r.log.Warn("no mail is taken in for now; what is queued is delivered", "error", err)
	}

	// Parts are stopped in the order in which a message passes through them, each when
	// the one before it has ended.
	stopping, stopped := context.WithCancel(context.WithoutCancel(ctx))
	defer stopped()
	var parts sync.WaitGroup
	failed := make(chan error, 8)
	serve := func(fn func() error) {
		parts.Go(func() {
			if err := fn(); err != nil {
				failed <- err
			}
		})
	}
	serve(r.admin.Serve)
	if r.web != nil {
		serve(r.web.Serve)
	}
	serve(r.ingress.Serve)
	serve(r.publishing.Serve)
	r.runPublisher(stopping, &parts)
	if ready != nil {
		ready()
	}
	r.warn(r.o.Manager.Ready())
	parts.Go(func() { r.o.Manager.Watch(stopping, r.commits) })
	parts.Go(func() { r.probeResolvers(stopping) })
	delivering, stopDelivery := context.WithCancel(stopping)
	defer stopDelivery()
	delivered := make(chan struct{})
	parts.Go(func() { defer close(delivered); r.delivery.Run(delivering, deliveryGrace) })
	if r.policies != nil {
		parts.Go(func() { _ = r.policies.Run(stopping) })
	}
	if r.reporter != nil && r.space == nil {
		parts.Go(func() { r.runReports(delivering, r.reporter) })
	}
	parts.Go(func() { r.certs.Watch(stopping, r.log) })
	parts.Go(func() { r.notices.Digest.Run(stopping, r.queue, r.log) })
	parts.Go(func() { r.learnWebhook(stopping) })
	parts.Go(func() { r.alerts.Run(stopping) })
	if r.space != nil {
		defer r.serveOrders(r.space.Space(), r.queue, r.notices, r.reporter)()
		serve(func() error { return r.executeOrders(delivering) })
		serve(func() error { return r.runFleet(delivering) })
	}
	parts.Go(func() { r.received.Run(stopping) })
	parts.Go(func() { r.live.Run(stopping) })

	var err error
	select {
	case <-ctx.Done():
		r.log.Info("stopping")
	case err = <-failed:
		r.log.Error("a part of the relay has ended; stopping", "error", err)
	}
	r.warn(r.o.Manager.Stopping())
	stopDelivery()
	grace, cancel := context.WithTimeout(stopping, sessionGrace)
	if e := r.ingress.Shutdown(grace); e != nil && !errors.Is(e, context.DeadlineExceeded) {
		r.log.Warn("sessions did not end in time", "error", e)
	}
	cancel()
	<-delivered
	stopped()
	adminGrace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	_ = r.admin.Shutdown(adminGrace) // commands that run are cut off
	if r.web != nil {
		_ = r.web.Shutdown(adminGrace)
	}
	_ = r.publishing.Shutdown(adminGrace)
	cancel()
	parts.Wait()
	err = errors.Join(err, r.close())
	r.log.Info("stopped")
	return err
}

// close closes what is open, in reverse order.
func (r *Relay) close() error {
	var err error
	if r.admin != nil {
		_ = r.admin.Close() // it is closed already after a Run
	}
	if r.web != nil {
		_ = r.web.Close()
	}
	if r.publishing != nil {
		_ = r.publishing.Close()
	}
	if r.acme != nil {
		r.acme.Close()
	}
	if r.queue != nil {
		r.queue.Close()
	}
	if r.resolver != nil {
		err = r.resolver.Close()
	}
	if r.fleetView != nil {
		r.fleetView.close()
	}
	if r.space != nil {
		err = errors.Join(err, r.space.Close())
	}
	if r.disk != nil {
		err = errors.Join(err, r.disk.Close())
	}
	if r.history != nil { // the last commits of the store are told to it
		err = errors.Join(err, r.history.Close())
	}
	return err
}

// Queue returns the queue, for programs that run a relay inside.
func (r *Relay) Queue() *queue.Queue { return r.queue }

// Addrs returns the addresses of the listeners, once Run has bound them.
func (r *Relay) Addrs() []net.Addr { return r.ingress.Addrs() }

// Operator returns what the operator of the relay can read and change, for programs
// that run a relay inside.
func (r *Relay) Operator() *operator.Operator { return r.operator }

// HTTPAddr returns the address of the web page, nil for none.
func (r *Relay) HTTPAddr() net.Addr {
	if r.web == nil {
		return nil
	}
	return r.web.Addr()
}

// openWeb binds the address for the web page, health and metrics, if one is set.
func (r *Relay) openWeb(c *config.Config) (err error) {
	if c.Admin.HTTP == "" {
		return nil
	}
	token := func(key, file string) (string, error) {
		if file == "" {
			return "", nil
		}
		text, err := config.ReadSecret(file)
		if err != nil {
			return "", fmt.Errorf("%s: %s %w", key, file, err)
		}
		return strings.TrimSpace(text), nil
	}
	o := web.Options{Operator: r.operator, Metrics: r.metrics.Write, Logger: r.log}
	if o.Token, err = token("admin.token_file", c.Admin.TokenFile); err != nil {
		return err
	}
	if o.ActToken, err = token("admin.act_token_file", c.Admin.ActTokenFile); err != nil {
		return err
	}
	if c.Admin.TLS {
		o.TLS = r.certs.ServerTLS(tls.VersionTLS12)
	}
	r.web, err = web.Listen(c.Admin.HTTP, o)
	return err
}

// status returns what the queue does not know of the relay's status.
func (r *Relay) status() operator.Status {
	return operator.Status{
		Version:       r.o.Version,
		UptimeSeconds: int64(time.Since(r.started).Seconds()),
		Hostname:      r.config.Load().Hostname,
		LogDropped:    r.o.LogDropped().Lines,
		SinceStart:    r.totals.read(),
		Last:          r.traffic.Last(),
		Outage:        r.traffic.Outage(),
		Sessions:      operator.SessionStatus{In: r.ingress.Sessions(), Out: r.delivery.Sessions()},
		Alerts:        r.alerts.Present(context.Background()),
	}
}

// removed returns the notice for a message, or recipients of it, that the operator has
// bounced, nil for none. If it is a report, the reporter is told.
func (r *Relay) removed(m queue.Message, reason string) *queue.NewMessage {
	return gaveUp(r.notices, r.reporter, m, reason)
}

func queueLimits(c *config.Config) queue.Limits {
	return queue.Limits{Domain: 4 * cmp.Or(c.Delivery.ConcurrencyPerHost, delivery.DefaultPerHost), Claims: c.Delivery.Concurrency, Messages: c.Limits.QueueLength}
}

func schedule(c *config.Config) queue.Schedule {
	s := queue.Schedule{Expire: time.Duration(c.Delivery.Expire), DelayWarning: time.Duration(c.Delivery.DelayNotice)}
	for _, d := range c.Delivery.Retry {
		s.Retry = append(s.Retry, time.Duration(d))
	}
	return s
}
