package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/publisher"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// publishStatus is a domain in the output of `publish status`.
type publishStatus struct {
	Domain string `json:"domain"`
	// State is "ok", "waiting" or "fault".
	State string   `json:"state"`
	Mode  sts.Mode `json:"mode"`
	ID    string   `json:"id"`
	// Served is what the running relay says, nil where none runs or it does not serve the
	// domain.
	Served   *operator.Published `json:"served,omitempty"`
	Findings []publish.Finding   `json:"findings"`
	// Next says the next step in a sentence, "" where there is none.
	Next string `json:"next_step"`
}

func (a *app) publishStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status [DOMAIN...]", Short: "Say what the world sees, and what the next step is",
		Long: `Say for each published domain what the DNS says, what the running relay serves,
and what the next step is. It looks now; nothing is changed. Exit 1 where a
domain is at fault, so that cron can run it.`,
		Example: "  stsrelay publish status\n  stsrelay publish status example.com --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			conf, domains, err := a.loadPublished(args)
			if err != nil && !(errors.Is(err, errNothingPublished) && len(args) == 0) {
				return err
			}
			client := adminapi.NewClient(conf.SocketPath())
			var served []operator.Published
			running := client.Get(cmd.Context(), "/v1/publish", nil, &served)
			if running != nil && !errors.Is(running, adminapi.ErrNotRunning) {
				return running
			}
			view, done, err := publishView(conf)
			if err != nil {
				return err
			}
			defer done()
			list := lookAtAll(cmd.Context(), view, domains, served, running == nil)
			if len(args) == 0 {
				list = append(list, leaving(served)...)
			}
			if len(list) == 0 {
				return errNothingPublished
			}
			return a.printPublishStatus(list, running == nil)
		},
	}
}

// publishView is how the configuration sees published domains, without a running relay.
func publishView(c *config.Config) (view *publisher.View, done func(), err error) {
	ask, err := dnsclient.New(dnsclient.Options{Servers: c.DNS.Servers, TrustAD: c.DNS.TrustAD})
	if err != nil {
		return nil, nil, fmt.Errorf("dns: %w", err)
	}
	return viewOf(c, ask), func() { _ = ask.Close() }, nil // nothing was written
}

func viewOf(c *config.Config, ask *dnsclient.Client) *publisher.View {
	view := &publisher.View{Ask: ask, Host: c.PublisherHost(), Proxy: c.Publisher.TLS == "proxy" || c.Publisher.HTTPS == "", Now: time.Now}
	for _, s := range c.Publisher.Addresses {
		if addr, err := netip.ParseAddr(s); err == nil { // checked by config
			view.Addresses = append(view.Addresses, addr)
		}
	}
	return view
}

// lookAtAll looks at the domains, several at a time.
func lookAtAll(ctx context.Context, view *publisher.View, domains []publish.Domain, served []operator.Published, runs bool) []publishStatus {
	out := make([]publishStatus, len(domains))
	places, done := make(chan struct{}, checksAtOnce), make(chan struct{})
	for i, d := range domains {
		go func() {
			places <- struct{}{}
			out[i] = lookAt(ctx, *view, d, served, runs)
			<-places
			done <- struct{}{}
		}()
	}
	for range domains {
		<-done
	}
	return out
}

func lookAt(ctx context.Context, view publisher.View, d publish.Domain, served []operator.Published, runs bool) publishStatus {
	text := publish.Text(d.Policy)
	s := publishStatus{Domain: d.Name, Mode: d.Policy.Mode, ID: publish.ID(text), State: "ok", Findings: []publish.Finding{}}
	look := publisher.Served{Domain: d, Text: text, ID: s.ID}
	if i := slices.IndexFunc(served, func(p operator.Published) bool { return p.Domain == d.Name && !p.Leaving }); i >= 0 {
		s.Served = &served[i]
		if s.Served.BindsUntil != nil {
			look.Binds = *s.Served.BindsUntil
		}
		if c := s.Served.Certificate; c != nil {
			view.Certificate = func(string) publisher.Certificate { return certificateOf(c) }
		}
	}
	s.Findings = append(s.Findings, view.Judge(ctx, look)...)
	if runs && (s.Served == nil || s.Served.ID != s.ID) {
		s.Findings = append(s.Findings, publish.Finding{Code: "reload", Grade: publish.Waiting, Text: phrase.New("%s: the running relay does not serve this policy yet: stsrelay reload, or start it anew where [publisher] is new", d.Name)})
	}
	if len(s.Findings) > 0 {
		s.Next = s.Findings[0].Text.String()
		if g := s.Findings[0].Grade; g != publish.Advice {
			s.State = string(g)
		}
	}
	if s.State == "ok" && d.Policy.Mode == sts.ModeTesting {
		s.Next = nextMode(d, s.Served)
	}
	return s
}

func certificateOf(c *operator.PublishedCertificate) publisher.Certificate {
	out := publisher.Certificate{Problem: c.Problem}
	for to, from := range map[*time.Time]*time.Time{&out.NotBefore: c.NotBefore, &out.NotAfter: c.NotAfter, &out.Next: c.NextTry} {
		if from != nil {
			*to = *from
		}
	}
	return out
}

// nextMode says what is missing for enforce, or how to make that step. It is a person's:
// the record must change in the same hour.
func nextMode(d publish.Domain, served *operator.Published) string {
	if served == nil || served.Reports == nil {
		return d.Name + ": it is in mode testing, and no report of a sender has come yet that would show whether enforce is safe; see rua, and stsrelay received"
	}
	if !served.Reports.Ready {
		return served.Report.String()
	}
	enforce := *d.Policy
	enforce.Mode = sts.ModeEnforce
	return fmt.Sprintf("%s; set mode = \"enforce\", then the record to id=%s", served.Report, publish.ID(publish.Text(&enforce)))
}

// leaving are the domains that the configuration has no more.
func leaving(served []operator.Published) (out []publishStatus) {
	for i, p := range served {
		if p.Leaving && p.BindsUntil != nil {
			out = append(out, publishStatus{Domain: p.Domain, State: "waiting", Mode: sts.Mode(p.Mode), ID: p.ID, Served: &served[i], Findings: []publish.Finding{},
				Next: fmt.Sprintf("%s leaves on %s; keep %s until then, and set the record of _mta-sts.%s to %q", p.Domain, p.BindsUntil.UTC().Format(time.DateOnly), publish.PolicyHost(p.Domain), p.Domain, publish.RecordText(p.ID))})
		}
	}
	return out
}

func (a *app) printPublishStatus(list []publishStatus, runs bool) error {
	fault := slices.ContainsFunc(list, func(s publishStatus) bool { return s.State == string(publish.Fault) })
	if a.json {
		if err := a.printJSON(list); err != nil {
			return err
		}
	} else {
		if !runs {
			fmt.Fprintln(a.err, "stsrelay: the relay does not run: certificates, fetches and reports are not known")
		}
		t := a.table("DOMAIN", "STATE", "MODE", "CERTIFICATE", "LAST FETCH", "TODAY")
		for _, s := range list {
			certificate, fetched, today := "-", "-", "-"
			if p := s.Served; p != nil {
				if p.Certificate != nil && p.Certificate.NotAfter != nil {
					certificate = "until " + p.Certificate.NotAfter.UTC().Format(time.DateOnly)
				}
				if p.LastFetch != nil {
					fetched = human.Ago(p.LastFetch)
				}
				today = fmt.Sprint(p.FetchesToday)
			}
			t.add(s.Domain, s.State, string(s.Mode), certificate, fetched, today)
		}
		t.print(a.out)
		for _, s := range list {
			for _, f := range s.Findings {
				fmt.Fprintf(a.out, "\n%s: %s\n", f.Grade, f.Text)
			}
			if len(s.Findings) == 0 && s.Next != "" {
				fmt.Fprintf(a.out, "\nnext: %s\n", s.Next)
			}
			if p := s.Served; p != nil && p.NearMisses > 0 {
				fmt.Fprintf(a.out, "\n%s: somebody asked %s for %q, which is not %s\n", s.Domain, human.Plural(p.NearMisses, "time"), p.LastMiss, publish.Path)
			}
		}
	}
	if fault {
		return errAnswered
	}
	return nil
}
