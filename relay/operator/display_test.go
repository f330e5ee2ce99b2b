package operator_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func TestTheListNamesARecipientThatStillWaits(t *testing.T) {
	row := func(address, state, lastError string) operator.Recipient {
		return operator.Recipient{Address: address, State: state, LastError: lastError}
	}
	for _, c := range []struct {
		name, to   string
		recipients []operator.Recipient
	}{
		{"none", "", nil},
		{"one", "a@x.test", []operator.Recipient{row("a@x.test", "queued", "")}},
		{"all wait", "a@x.test +1", []operator.Recipient{row("a@x.test", "queued", "put off"), row("b@x.test", "queued", "put off")}},
		{"the first is delivered", "b@x.test +2",
			[]operator.Recipient{row("a@x.test", "delivered", ""), row("b@x.test", "queued", "put off"), row("c@x.test", "bounced", "no")}},
		{"the second was put off, the first is new", "b@x.test +1", []operator.Recipient{row("a@x.test", "queued", ""), row("b@x.test", "queued", "put off")}},
		{"the second is new", "b@x.test +1", []operator.Recipient{row("a@x.test", "delivered", "old"), row("b@x.test", "queued", "")}},
		{"none waits any more", "a@x.test +1", []operator.Recipient{row("a@x.test", "delivered", ""), row("b@x.test", "bounced", "no")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &operator.Message{Recipients: c.recipients}
			if to := m.To(); to != c.to {
				t.Errorf("%q, want %q", to, c.to)
			}
		})
	}
}

func TestASummaryExplainsEachReasonOnce(t *testing.T) {
	row := func(domain, code string) operator.DomainSummary {
		return operator.DomainSummary{Domain: domain, Reason: operator.Reason{Code: code, Owner: "them", Detail: "said " + domain, Remedy: failure.Fill(failure.Of(code).Remedy, domain, "")}}
	}
	got := operator.Reasons([]operator.DomainSummary{row("a.test", "tls-name"), row("b.test", "new"), row("c.test", "dns"), row("d.test", "tls-name")})
	want := []operator.Reason{
		{Code: "tls-name", Owner: "them", Remedy: "Tell the domain's postmaster; stsrelay check DOMAIN says what to mend."},
		{Code: "dns", Owner: "them", Remedy: "stsrelay check c.test shows which query fails."},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestTheProblemOfAPolicy(t *testing.T) {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, c := range []struct {
		name   string
		policy operator.Policy
		want   string
	}{
		{"nothing", operator.Policy{ExpiresAt: &future}, ""},
		{"its last fetch", operator.Policy{ExpiresAt: &future, LastError: "404"}, "404"},
		{"it has expired", operator.Policy{ExpiresAt: &past}, "it has expired, and is not applied any more"},
		{"it was never fetched", operator.Policy{LastError: "no answer"}, "no answer"},
	} {
		if got := c.policy.Problem().String(); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestWhyAMessageIsNotDeliveredYet(t *testing.T) {
	m := operator.Message{State: "active", Reason: operator.Reason{Code: "new"}, WaitsFor: []operator.Awaited{
		{Domain: "a.example", For: phrase.New("the greeting of mx1.example"), Since: time.Now().Add(-90 * time.Second), Sessions: 10, Limit: 10},
		{Domain: "b.example", For: phrase.New("the mail hosts of b.example"), Since: time.Now()},
	}}
	if got := m.Why(); got != "waits for the greeting of mx1.example, 1m 30s, 10 of 10 sessions" {
		t.Errorf("%q", got)
	}
	m.WaitsFor = m.WaitsFor[1:]
	if got := m.Why(); got != "waits for the mail hosts of b.example, 0s" {
		t.Errorf("%q", got)
	}
	m.WaitsFor = nil
	if got := m.Why(); got != "new" {
		t.Errorf("%q", got)
	}
}

func TestWhenAMessageIsTriedNext(t *testing.T) {
	soon := time.Now().Add(time.Minute + time.Second/2)
	for _, row := range []struct {
		m    operator.Message
		want string
	}{
		{operator.Message{State: "held"}, "held"},
		{operator.Message{State: "queued", NextAttemptAt: &soon}, "in 1m 0s"},
		{operator.Message{State: "queued", NextAttemptAt: &soon, Paused: &operator.Pause{}}, "paused"},
		{operator.Message{State: "queued", NextAttemptAt: &soon, Paused: &operator.Pause{Until: &soon}}, "paused 1m 0s"},
	} {
		if got := row.m.Next(); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
}
