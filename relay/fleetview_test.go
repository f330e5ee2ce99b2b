package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/internal/store/postgres/postgrestest"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// A relay of a fleet shows the others, on the page, in the live view and by the API; and it
// says at once that PostgreSQL is away, while reads of the store wait for it.
func TestARelayShowsItsFleet(t *testing.T) {
	cluster := postgrestest.Start(t, 0)
	w := e2e.NewStopped(t)
	other, err := postgres.Open(t.Context(), postgres.Options{URL: cluster.URL(), Space: "relay-b", Token: "b", Term: time.Hour, Replication: postgres.None})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := store.Put(t.Context(), other, append([]byte("e"), 0, 0, 0, 0, 0, 0, 0, 1), []byte("mail")); err != nil {
		t.Fatal(err)
	}
	w.Start("paused = true\n[queue]\nengine = \"postgres\"\nurl_file = \"" + postgrestest.URLFile(t, cluster) + "\"\nreplication = \"none\"\n[fleet]\nname = \"relay-a\"\n[admin]\nhttp = \"127.0.0.1:0\"\n")
	w.Send("anna@sender.example", "kurt@a.example")
	w.WaitFor("the message is there", func(q *queue.Queue) bool { return q.Counts().Messages == 1 })

	var f operator.FleetStatus
	if err := w.Admin().Get(t.Context(), "/v1/fleet", nil, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Relays) != 2 || f.Relays[0].Name != "relay-a" || f.Relays[0].Holder != "relay-a" || f.Relays[0].Messages != 1 || f.Relays[0].Since == nil || f.Relays[1].Name != "relay-b" || f.Relays[1].Messages != 1 {
		t.Errorf("%+v", f)
	}
	var l operator.Live
	if err := w.Admin().Get(t.Context(), "/v1/live", nil, &l); err != nil || l.Fleet == nil || len(l.Fleet.Relays) != 2 {
		t.Errorf("%+v, %v", l.Fleet, err)
	}
	body := page(w, "/")
	for _, want := range []string{"<h2>The fleet</h2>", `<td class="t" data-label="Relay">relay-a</td><td class="n" data-label="Messages">1</td><td data-label="Held by">itself</td>`, ">relay-b</td>"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}

	cluster.Nodes[0].Kill()
	await.Until(t, "the problem to be seen", func() bool {
		if err := w.Admin().Get(t.Context(), "/v1/fleet", nil, &f); err != nil {
			t.Fatal(err)
		}
		return !f.Problem.IsZero()
	})
	begin := time.Now()
	if body := page(w, "/"); !strings.Contains(body, "PostgreSQL") || time.Since(begin) > 5*time.Second {
		t.Errorf("%s, after %s", body, time.Since(begin))
	}
	if err := cluster.Nodes[0].Start(); err != nil {
		t.Fatal(err)
	}
	w.Send("anna@sender.example", "lena@a.example") // it is connected again before it stops
}
