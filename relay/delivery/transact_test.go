package delivery

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// What one transaction leaves for the next one, for the next host and for the other address
// family of the same host.
func TestTheResultOfATransactionIsFoldedIntoTheAttempt(t *testing.T) {
	lost := errors.New("connection reset")
	for _, tt := range []struct {
		name              string
		mail, rcpts, data string // replies; those to RCPT are separated by " | "
		final             string
		err               error
		want              string // by recipient: D is delivered, B bounced, Q put off, - still open
		course            course
		next              bool // there is a failure of the host
		reached           bool
		declined, refused int
	}{
		{"all taken", "250 ok", "250 ok | 250 ok", "354 go", "250 taken", nil, "DD", courseDone, false, true, 0, 0},
		{"one unknown", "250 ok", "250 ok | 550 5.1.1 nobody", "354 go", "250 taken", nil, "DB", courseDone, false, true, 0, 0},
		{"one later", "250 ok", "250 ok | 450 4.2.1 later", "354 go", "250 taken", nil, "DQ", courseDone, false, true, 0, 0},
		{"too many", "250 ok", "250 ok | 452 4.5.3 too many recipients", "354 go", "250 taken", nil, "D-", courseMore, false, true, 0, 0},
		{"too many, and none is taken", "250 ok", "250 ok | 452 4.5.3 too many recipients", "354 go", "451 4.3.0 later", nil, "-Q", courseDone, false, true, 1, 0},
		{"too many, and the content is refused", "250 ok", "250 ok | 452 4.5.3 too many recipients", "354 go", "550 5.6.0 spam", nil, "B-", courseMore, false, true, 0, 0},
		{"the sender is refused by this host", "550 5.6.7 no SMTPUTF8", "", "", "", nil, "--", courseDone, false, true, 2, 0},
		{"the host is busy", "421 4.3.2 bye", "", "", "", nil, "--", courseDone, true, false, 0, 0},
		{"the relay is refused", "250 ok", "550 5.7.1 blocked | 250 ok", "354 go", "250 taken", nil, "-D", courseDone, false, true, 0, 1},
		{"neither yes nor no", "250 ok", "250 ok | 354 eh", "354 go", "250 taken", nil, "DQ", courseDone, false, true, 0, 0},
		{"no answer to the content", "250 ok", "250 ok | 250 ok", "354 go", "", lost, "QQ", courseDone, false, true, 0, 0},
		{"too large for the host", "", "", "", "", smtpclient.ErrTooLarge, "--", courseDone, false, true, 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := smtpclient.Outcome{BodySent: tt.data != ""}
			for _, r := range []struct {
				to   *smtpclient.Reply
				said string
			}{{&out.Mail, tt.mail}, {&out.Data, tt.data}, {&out.Final, tt.final}} {
				if r.said != "" {
					*r.to = reply(r.said)
				}
			}
			if tt.rcpts != "" {
				for said := range strings.SplitSeq(tt.rcpts, " | ") {
					r := reply(said)
					out.Recipients = append(out.Recipients, smtpclient.RecipientOutcome{Reply: r, Accepted: r.OK()})
				}
			}
			s := &session{host: "mx.d.example", addr: netip.MustParseAddr("192.0.2.1"), evidence: security.Evidence{StartTLS: security.Established}}
			a, h := &attempt{}, &hostTry{}
			a.recipients.begin(make([]queue.RecipientState, 2))
			r := judge(s, out, tt.err, 2)
			r.capacity = 7
			a.fold(h, s, r)

			got := []byte("??")
			for i, state := range a.recipients.states {
				got[i] = map[queue.State]byte{"": '-', queue.Delivered: 'D', queue.Bounced: 'B', queue.Queued: 'Q'}[state.State]
			}
			if string(got) != tt.want || strings.Count(tt.want, "-") != len(a.recipients.open) {
				t.Errorf("recipients %s, want %s; open %v", got, tt.want, a.recipients.open)
			}
			if r.course != tt.course || (r.failure != nil) != tt.next || a.end.reached != tt.reached {
				t.Errorf("course %d, failure %v, reached %t", r.course, r.failure, a.end.reached)
			}
			if len(a.recipients.declined) != tt.declined || len(h.refusals) != tt.refused {
				t.Errorf("declined %v, refused %v", a.recipients.declined, h.refusals)
			}
			if took := strings.Contains(tt.want, "D"); took != (a.end.capacity == 7) {
				t.Errorf("capacity %d", a.end.capacity)
			}
		})
	}
}
