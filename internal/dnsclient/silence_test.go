package dnsclient

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A question does not wait for a server that was silent to the one before, nor where the
// other server has no answer. When the server answers again, it is the first one again.
func TestASilentServerIsAskedLast(t *testing.T) {
	var dead atomic.Bool
	var asked sync.Map // names that the first server was asked for
	first := rude(t, func(q *dns.Msg, _ bool) [][]byte {
		name := q.Question[0].Name
		asked.Store(name, true)
		if dead.Load() || strings.HasPrefix(name, "slow.") {
			return nil
		}
		m := goodReply(q)
		if !strings.HasSuffix(name, ".example.") {
			m.Rcode = dns.RcodeRefused // it has the names of its site alone
		}
		return [][]byte{packed(m)}
	})
	second := newZone(t, nil)
	for _, name := range []string{"slow", "a", "b", "c", "d"} {
		second.records(t, name+".example.", "MX", name+".example. 60 IN MX 10 mx.example.")
	}
	second.rcode("fails.example.", "MX", dns.RcodeServerFailure)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	c := newTestClient(t, Options{Servers: []string{first, second.addr}, Now: func() time.Time { return now }})
	for _, step := range []struct {
		name  string
		dead  bool
		after time.Duration
		first bool // whether the first server is asked
	}{
		{"slow", false, 0, true}, // one zone without an answer says nothing of other names
		{"a", false, 0, true},
		{"b", true, silenceLook, true},
		{"c", true, 0, false},
		{"fails", true, 0, false},
		{"d", true, silenceLook, false}, // it was looked at again
		{"e", false, silenceLook, true},
	} {
		dead.Store(step.dead)
		now = now.Add(step.after)
		name := step.name + ".example"
		_, err := c.MX(t.Context(), name)
		if fails := step.name == "fails"; (err != nil) != fails && step.name != "slow" {
			t.Errorf("%s: %v", name, err)
		}
		if _, got := asked.Load(name + "."); got != step.first {
			t.Errorf("%s: the first server was asked: %t", name, got)
		}
	}
}
