package relay_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// The resolver reaches nothing: within a quarter of an hour that is a trouble, the status
// says that nothing is delivered, the reason is this relay's matter, and the operator is
// told by the webhook, whose host cannot be looked up either.
func TestAResolverThatReachesNothingIsAnOutage(t *testing.T) {
	w := e2e.NewWithClock(t)
	hook := w.ReportHost("alerts.operator.example")
	hook.Answer(testnet.Answer{Status: 503})
	h := w.Host("mx.good.example")
	domains := []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example"}
	for _, d := range append(domains, "good.example") {
		w.Domain(d, testnet.Domain{MX: []string{h.Name}})
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "secret"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Start("[notices]\nlanguage = \"de\"\nwebhook = \"https://alerts.operator.example/stsrelay\"\nwebhook_secret_file = \"secret\"\n")
	w.Deliver("kurt@good.example")
	await.Until(t, "the address of the webhook, which is learnt at the start", func() bool { return w.DNS.Asked("alerts.operator.example", "A") > 0 })
	w.DNS.SetResolver(testnet.ResolverFaults{Down: testnet.ServFail})
	for _, d := range domains {
		w.Send("anna@sender.example", "kurt@"+d)
	}
	w.WaitFor("all to be put off", func(q *queue.Queue) bool {
		n := 0
		for _, d := range q.Summary() {
			if d.Last.Code == "sts-fetch" {
				n++
			}
		}
		return n == len(domains)
	})
	for range 12 { // the checks, and the second try of the webhook, go by the clock
		w.Clock.Set(w.Clock.Now().Add(time.Minute))
	}
	posts, err := hook.Wait(w.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the second try of the webhook", func() bool {
		w.Clock.Set(w.Clock.Now().Add(time.Second)) // it may not have begun to wait for the try
		posts = hook.Posts()
		return len(posts) > 1
	})
	var told struct {
		Text string
		New  []struct{ Key, What, Helps string }
	}
	if err := json.Unmarshal(posts[1].Raw, &told); err != nil || posts[1].Path != "POST /stsrelay" || posts[1].Authorization != "Bearer s3cret" || posts[1].ContentType != "application/json" || len(told.New) == 0 {
		t.Fatalf("%v, %+v\n%s", err, posts[1], posts[1].Raw)
	}
	if n := told.New[0]; n.Key != "resolver" || !strings.HasPrefix(n.What, "Kein Resolver antwortet") || !strings.Contains(n.What, "SERVFAIL") {
		t.Errorf("%+v", told)
	}
	var status operator.Status
	w.WaitFor("the outage", func(*queue.Queue) bool {
		return w.Admin().Get(t.Context(), "/v1/status", nil, &status) == nil && status.Outage != nil && len(status.Alerts) > 1
	})
	if status.Outage.Domains != len(domains) || status.Outage.Reason != "sts-fetch" || status.Last.Deferred < int64(len(domains)) {
		t.Errorf("%+v, last %+v", status.Outage, status.Last)
	}
	if a := status.Alerts[1]; a.Key != "outage" || !strings.Contains(a.What, "attempts to 6 domains failed, most: sts-fetch") || !strings.Contains(a.Remedy, "resolver") {
		t.Errorf("%+v", status.Alerts)
	}
	var list []operator.DomainSummary
	if err := w.Admin().Get(t.Context(), "/v1/summary", nil, &list); err != nil || list[0].Reason.Owner != "us" || !strings.Contains(list[0].Reason.Remedy, "resolver of this relay") {
		t.Errorf("%v, %+v", err, list)
	}

	w.DNS.SetResolver(testnet.ResolverFaults{})
	w.Send("anna@sender.example", "kurt@good.example")
	w.Received(h, 2)
	w.WaitFor("the end of the outage", func(*queue.Queue) bool {
		status = operator.Status{}
		return w.Admin().Get(t.Context(), "/v1/status", nil, &status) == nil && status.Outage == nil
	})
}
