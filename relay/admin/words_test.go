package admin_test

import (
	"testing"

	"github.com/stsrelay/stsrelay/relay/admin"
)

func TestTheListNamesARecipientThatStillWaits(t *testing.T) {
	row := func(address, state, lastError string) admin.Recipient {
		return admin.Recipient{Address: address, State: state, LastError: lastError}
	}
	for _, c := range []struct {
		name, to   string
		recipients []admin.Recipient
	}{
		{"none", "", nil},
		{"one", "a@x.test", []admin.Recipient{row("a@x.test", "queued", "")}},
		{"all wait", "a@x.test +1", []admin.Recipient{row("a@x.test", "queued", "put off"), row("b@x.test", "queued", "put off")}},
		{"the first is delivered", "b@x.test +2",
			[]admin.Recipient{row("a@x.test", "delivered", ""), row("b@x.test", "queued", "put off"), row("c@x.test", "bounced", "no")}},
		{"the second was put off, the first is new", "b@x.test +1", []admin.Recipient{row("a@x.test", "queued", ""), row("b@x.test", "queued", "put off")}},
		{"the second is new", "b@x.test +1", []admin.Recipient{row("a@x.test", "delivered", "old"), row("b@x.test", "queued", "")}},
		{"none waits any more", "a@x.test +1", []admin.Recipient{row("a@x.test", "delivered", ""), row("b@x.test", "bounced", "no")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &admin.Message{Recipients: c.recipients}
			if to := m.To(); to != c.to {
				t.Errorf("%q, want %q", to, c.to)
			}
		})
	}
}
