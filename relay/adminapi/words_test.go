package adminapi_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/relay/adminapi"
)

func TestTheListNamesARecipientThatStillWaits(t *testing.T) {
	row := func(address, state, lastError string) adminapi.Recipient {
		return adminapi.Recipient{Address: address, State: state, LastError: lastError}
	}
	for _, c := range []struct {
		name, to   string
		recipients []adminapi.Recipient
	}{
		{"none", "", nil},
		{"one", "a@x.test", []adminapi.Recipient{row("a@x.test", "queued", "")}},
		{"all wait", "a@x.test +1", []adminapi.Recipient{row("a@x.test", "queued", "put off"), row("b@x.test", "queued", "put off")}},
		{"the first is delivered", "b@x.test +2",
			[]adminapi.Recipient{row("a@x.test", "delivered", ""), row("b@x.test", "queued", "put off"), row("c@x.test", "bounced", "no")}},
		{"the second was put off, the first is new", "b@x.test +1", []adminapi.Recipient{row("a@x.test", "queued", ""), row("b@x.test", "queued", "put off")}},
		{"the second is new", "b@x.test +1", []adminapi.Recipient{row("a@x.test", "delivered", "old"), row("b@x.test", "queued", "")}},
		{"none waits any more", "a@x.test +1", []adminapi.Recipient{row("a@x.test", "delivered", ""), row("b@x.test", "bounced", "no")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &adminapi.Message{Recipients: c.recipients}
			if to := m.To(); to != c.to {
				t.Errorf("%q, want %q", to, c.to)
			}
		})
	}
}

func TestASummaryExplainsEachReasonOnce(t *testing.T) {
	row := func(domain, code string) adminapi.DomainSummary {
		return adminapi.DomainSummary{Domain: domain, Why: adminapi.Why{Code: code, Detail: "said " + domain, Remedy: "check " + domain}}
	}
	got := adminapi.Reasons([]adminapi.DomainSummary{row("a.test", "tls-name"), row("b.test", "new"), row("c.test", "dns"), row("d.test", "tls-name")})
	want := []adminapi.Why{{Code: "tls-name", Remedy: "check DOMAIN"}, {Code: "dns", Remedy: "check c.test"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestWhatAilsAPolicy(t *testing.T) {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, c := range []struct {
		name   string
		policy adminapi.Policy
		want   string
	}{
		{"nothing", adminapi.Policy{ExpiresAt: &future}, ""},
		{"its last fetch", adminapi.Policy{ExpiresAt: &future, LastError: "404"}, "404"},
		{"it has expired", adminapi.Policy{ExpiresAt: &past}, "it has expired, and is not applied any more"},
		{"it was never fetched", adminapi.Policy{LastError: "no answer"}, "no answer"},
	} {
		if got := c.policy.Ailment(); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
