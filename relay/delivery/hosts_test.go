package delivery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/outbound"
)

func TestWhatIsRememberedOfDomainsWithoutAHostIsBounded(t *testing.T) {
	var h homeless
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	if s := h.look("a.example", now); !s.first.Equal(now) {
		t.Errorf("%+v", s)
	}
	if s := h.look("a.example", now.Add(15*time.Minute)); !s.first.Equal(now) {
		t.Errorf("%+v", s)
	}
	late := now.Add(76 * time.Minute)
	if s := h.look("a.example", late); !s.first.Equal(late) {
		t.Errorf("a look of more than an hour ago counts: %+v", s)
	}
	if s := h.look("a.example", now); !s.first.Equal(now) {
		t.Errorf("a look of tomorrow counts: %+v", s)
	}
	h.found("a.example")
	if s := h.look("a.example", late); !s.first.Equal(late) {
		t.Errorf("a look before a host was there counts: %+v", s)
	}
	for i := range maxHomeless + 10 {
		h.look(fmt.Sprint(i), now)
	}
	if len(h.domains) > maxHomeless {
		t.Errorf("%d", len(h.domains))
	}
}

// An attempt whose place is taken away for other mail tried something: the next one
// goes on behind it.
func TestWhatAnAttemptTriedCountsWhenItIsCutOff(t *testing.T) {
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	plan := &outbound.Plan{Hosts: []outbound.Host{{Name: "a", Port: smtpPort, Addr: first}, {Name: "b", Port: smtpPort, Addr: second}}}
	var dialed []string
	reclaim := func() {}
	d := New(Options{Settings: Settings{AllowPrivate: true}, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		reclaim()
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		reclaim = cancel
		newAttempt(ctx, d, &queue.Claim{Domain: "d.example", Recipients: []int{0}, States: make([]queue.RecipientState, 1)}).tryHosts(ctx, plan)
		cancel()
	}
	if got := strings.Join(dialed, " "); got != "192.0.2.1:25 192.0.2.2:25 192.0.2.1:25" {
		t.Error(got)
	}
}
