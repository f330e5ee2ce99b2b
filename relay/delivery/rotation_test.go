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
)

func TestTheRotationIsBoundedInTimeAndSize(t *testing.T) {
	var r rotation
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	r.set("a.example", tried{"mx": true}, now)
	if !r.of("a.example", now.Add(5*time.Hour))["mx"] {
		t.Error("it does not last until the next retry")
	}
	if r.of("a.example", now.Add(-time.Hour)) != nil || r.of("a.example", now.Add(25*time.Hour)) != nil {
		t.Error("it lasts for ever")
	}
	r.works("a.example", now)
	r.works("a.example", now.Add(9*time.Minute)) // does not make it last longer
	if !r.of("a.example", now.Add(9*time.Minute))["mx"] || r.of("a.example", now.Add(11*time.Minute)) != nil {
		t.Error("the best hosts are not tried again in time")
	}
	r.set("a.example", nil, now)
	if r.of("a.example", now) != nil || r.size != 0 {
		t.Errorf("%+v", &r)
	}
	for i := range 3 * maxRotation / 100 {
		t100 := make(tried)
		for j := range 100 {
			t100[fmt.Sprint(j)] = true
		}
		r.set(fmt.Sprint(i), t100, now)
		if r.size > maxRotation || r.size != 100*len(r.domains) {
			t.Fatalf("%d for %d domains", r.size, len(r.domains))
		}
	}
}

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
	r := route{candidates: []candidate{{host: "a", port: smtpPort, addr: first}, {host: "b", port: smtpPort, addr: second}}}
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
		newAttempt(ctx, d, &queue.Claim{Domain: "d.example", Recipients: []int{0}, States: make([]queue.RecipientState, 1)}).tryHosts(ctx, r)
		cancel()
	}
	if got := strings.Join(dialed, " "); got != "192.0.2.1:25 192.0.2.2:25 192.0.2.1:25" {
		t.Error(got)
	}
}
