package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// planOf is a plan of n hosts, named by their position from 1 on.
func planOf(n int) *Plan {
	p := &Plan{From: FromMX, Domain: "d.example"}
	for i := range n {
		p.Hosts = append(p.Hosts, Host{Name: fmt.Sprint(i + 1), Preference: uint16(i)})
	}
	return p
}

// attempt walks through a plan where every host fails. each host has so many
// addresses; named is the only host that the policy names, "" where there is no policy.
func attempt(t *testing.T, r *Rotation, p *Plan, addresses int, named string, kind func(Host) Kind) (w *Walk, tried, refused []string) {
	t.Helper()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	addrs := func(h Host) (out []netip.Addr) {
		for i := range addresses {
			out = append(out, netip.MustParseAddr(fmt.Sprintf("192.0.%s.%d", h.Name, i+1)))
		}
		return out
	}
	w = r.Begin(p.Domain, p, nil, now)
	guide := Guide{Addresses: addrs, Requirement: func(h Host) *security.Requirement {
		req := &security.Requirement{Domain: p.Domain, Host: h.Name}
		if named != "" {
			req.Policy = &sts.Policy{Mode: sts.ModeEnforce, MX: []string{named}}
		}
		return req
	}}
	for step := range w.Hosts(t.Context(), guide) {
		if step.Refused != nil {
			refused = append(refused, step.Name)
			w.Failed(step.Refused, Held)
			continue
		}
		tried = append(tried, step.Name)
		for _, a := range w.Untried(addrs(step.Host)) {
			if w.Left() == 0 {
				break
			}
			w.Dial(1)
			w.InVain(netip.AddrPortFrom(a, 25))
		}
		w.Failed(errors.New(step.Name), kind(step.Host))
		if w.Left() > 0 {
			w.Done(step.Host)
		}
	}
	r.End(p.Domain, w, true, false, now)
	return w, tried, refused
}

func down(Host) Kind { return Down }

func TestEveryHostHasItsTurn(t *testing.T) {
	for _, tt := range []struct {
		name             string
		hosts, addresses int
		named            string
		want             string // the hosts of each attempt, until all had their turn
	}{
		{"few", 3, 1, "", "1 2 3"},
		{"as many as are dialed in one attempt", 8, 1, "", "1 2 3 4 5 6 7 8; 1 2 3 4 5 6 7 8"},
		{"more than that", 11, 1, "", "1 2 3 4 5 6 7 8; 9 10 11 1 2 3 4 5"},
		{"a host of many addresses", 2, 11, "", "1; 1 2; 2 1"},
		{"hosts without addresses", 31, 0, "", strings.Join(strings.Fields("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30"), " ") + "; 31 " +
			"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29"},
		{"one that the policy names", 40, 1, "40", "40"},
	} {
		var r Rotation
		var got []string
		for range 10 {
			w, tried, _ := attempt(t, &r, planOf(tt.hosts), tt.addresses, tt.named, down)
			got = append(got, strings.Join(tried, " "))
			if w.Complete() {
				break
			}
		}
		if s := strings.Join(got, "; "); s != tt.want {
			t.Errorf("%s: %s", tt.name, s)
		}
	}
}

// A policy that names none of very many hosts costs an attempt no more than few.
func TestHostsThatThePolicyDoesNotNameAreToldOfInPart(t *testing.T) {
	var r Rotation
	_, tried, refused := attempt(t, &r, planOf(MaxHosts+20), 1, "mx.elsewhere.example", down)
	if len(tried) != 0 || len(refused) != MaxHosts {
		t.Errorf("%d tried, %d refused", len(tried), len(refused))
	}
}

func TestNothingIsTriedBehindThisRelay(t *testing.T) {
	for _, tt := range []struct {
		loop string // the host that is this relay
		want string // tried
		why  string
	}{
		{"1", "1", "1"},
		{"2", "1 2", "1"}, // the better one is only down: the mail waits
	} {
		var r Rotation
		w, tried, _ := attempt(t, &r, planOf(3), 1, "", func(h Host) Kind {
			if h.Name == tt.loop {
				return Loop
			}
			return Down
		})
		if got := strings.Join(tried, " "); got != tt.want || w.Reason(false).Error() != tt.why {
			t.Errorf("%s: tried %s, because of %v", tt.loop, got, w.Reason(false))
		}
	}
}

func TestWhatAHostLacksTellsMoreThanThatAnotherIsDown(t *testing.T) {
	type host struct {
		name string
		kind Kind
	}
	for _, tt := range []struct {
		hosts   []host
		reached bool // some host has said something about the message
		want    string
	}{
		{nil, false, ""},
		{[]host{{"a", Down}, {"b", Down}}, false, "b"},
		{[]host{{"a", Held}, {"b", Held}}, false, "a"},
		{[]host{{"a", Held}, {"b", Down}}, false, "a"},
		{[]host{{"a", Held}, {"b", Down}}, true, "b"},
		{[]host{{"a", HeldForGood}, {"b", Down}}, false, "b"},
		{[]host{{"a", HeldForGood}, {"b", Held}}, false, "a"},
		{[]host{{"a", Loop}}, false, "a"},
	} {
		var r Reasons
		for _, h := range tt.hosts {
			r.Failed(errors.New(h.name), h.kind)
		}
		got := ""
		if err := r.Reason(tt.reached); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v, %t: %q", tt.hosts, tt.reached, got)
		}
		if r.Reached(); r.Reason(true) != nil && r.Reason(true).Error() != "b" {
			t.Errorf("%v: after a host was reached, %v", tt.hosts, r.Reason(true))
		}
	}
}
