package relay_test

import (
	"net/http"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// The live view has what is under way, what rests and why, and what attempts came to.
func TestTheLiveViewShowsWhatHappens(t *testing.T) {
	w := e2e.New(t, "")
	good, down := w.Host("mx.good.example"), w.Host("mx.down.example")
	w.SetFaults(down, testnet.Faults{Down: true})
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}, Policy: e2e.PolicyFor("enforce", good.Name)})
	w.Domain("down.example", testnet.Domain{MX: []string{down.Name}})
	w.WaitUntilGone(w.Send("a@example.com", "b@good.example"))
	id := w.Send("a@example.com", "b@down.example")
	w.Deferred(id)

	var l operator.Live
	if err := w.Admin().Get(w.Context(), "/v1/live", nil, &l); err != nil {
		t.Fatal(err)
	}
	if r := l.Rates; len(r) != 3 || r[2].Accepted <= 0 || r[2].Delivered <= 0 || r[2].Deferred <= 0 || r[2].CommitMS <= 0 {
		t.Errorf("rates: %+v", r)
	}
	if len(l.Domains) != 1 {
		t.Fatalf("domains: %+v", l.Domains)
	}
	if d := l.Domains[0]; d.Domain != "down.example" || d.State != operator.Resting || d.Until == nil || d.Deliveries != 1 || d.Reason.Detail == "" || !d.Until.After(l.At) {
		t.Errorf("domain: %+v", d)
	}
	if len(l.Results) != 2 {
		t.Fatalf("results: %+v", l.Results)
	}
	if r := l.Results[0]; r.QueueID != id || r.Verdict != "deferred" || r.Why == "" || r.Recipients != 1 {
		t.Errorf("the last result: %+v", r)
	}
	if r := l.Results[1]; r.Verdict != "delivered" || r.Host != good.Name || r.Protection != "mta-sts" || r.IP != good.IP {
		t.Errorf("the one before: %+v", r)
	}

	if err := w.Admin().Do(w.Context(), http.MethodPost, "/v1/queue/pause", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Admin().Get(w.Context(), "/v1/live", nil, &l); err != nil {
		t.Fatal(err)
	}
	if l.Status.Delivering || l.Domains[0].State != operator.Paused {
		t.Errorf("while paused: %+v", l.Domains[0])
	}
}
