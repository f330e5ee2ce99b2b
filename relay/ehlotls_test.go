package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// A host that answers the EHLO behind a good handshake with a refusal has no
// trouble with TLS: its mail waits, is not sent in clear, and no failure of TLS
// is reported (RFC 8460, 4.3).
func TestARefusedEHLOBehindTheHandshakeIsNoFailureOfTLS(t *testing.T) {
	for _, reply := range []string{"421 4.3.2 busy", "451 4.3.2 busy", "554 5.7.1 go away"} {
		t.Run(reply[:3], func(t *testing.T) {
			w := newWorld(t, "retry = [\"1h\"]\n")
			h := w.host("mx.busy.example")
			w.set(h, testnet.Faults{Replies: map[string]string{"ehlo-tls": reply, "helo": reply}})
			w.domain("busy.example", testnet.Domain{MX: []string{h.Name}})
			m, gone := w.attempted(w.send("anna@sender.example", "kurt@busy.example"))
			if n := h.Counts().MailsInClear; n > 0 || gone {
				t.Fatalf("the host offers TLS, and %d messages were sent in clear (gone: %t)", n, gone)
			}
			if s := m.States[0]; s.ReasonCode != "busy" && s.ReasonCode != "greeting" || !strings.Contains(s.LastReply, reply[:3]) {
				t.Errorf("it waits for %q: %q, %q", s.ReasonCode, s.LastReply, s.LastError)
			}
			err := w.relay.Reports(t.Context(), tlsrpt.DayOf(time.Now()), func(r *tlsrpt.Report) bool {
				t.Errorf("it is reported: %+v", r)
				return true
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
