package smtpclient

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
)

const chunkGreeting = `220 mx.example.org ESMTP
<EHLO relay.example.com
250-mx.example.org
250-PIPELINING
250 CHUNKING
`

// chunk is one message by BDAT: its envelope and first chunk, which go out
// together, behind RSET where that is needed.
const chunk = "<MAIL FROM:<a@example.com>\n<RCPT TO:<b@example.org>\n<BDAT 3\n<x\n"

func sendChunk(t *testing.T, c *Client) (Outcome, error) {
	return c.Send(t.Context(), Transaction{From: "a@example.com", Recipients: []Recipient{{Address: "b@example.org"}}, Size: 6, Body: strings.NewReader("x\r\ny\r\n")})
}

// In a session that may be closed, nothing is delivered before the envelope was answered:
// the first chunk is not the last one. What is refused is given up by RSET, in the write of the next envelope.
func TestRefusalsByAHostThatKnowsBDAT(t *testing.T) {
	for _, tt := range []struct {
		name, refused string
		want          Outcome
	}{
		{"MAIL", "550 5.7.1 not you\n250 ok\n250 go on\n", Outcome{Mail: Reply{Code: 550}}},
		{"MAIL and all behind it", "451 4.3.0 not now\n503 no\n503 no\n", Outcome{Mail: Reply{Code: 451}}},
		{"RCPT", "250 ok\n550 5.1.1 no\n503 nobody\n", Outcome{Mail: Reply{Code: 250}}},
		{"the first chunk", "250 ok\n250 ok\n501 5.6.0 no\n", Outcome{Mail: Reply{Code: 250}, Data: Reply{Code: 501}}},
		{"the first chunk for now", "250 ok\n250 ok\n452 4.3.1 full\n", Outcome{Mail: Reply{Code: 250}, Data: Reply{Code: 452}}},
		{"the last chunk", "250 ok\n250 ok\n250 go on\n<BDAT 3 LAST\n<y\n554 5.6.0 no\n", Outcome{Mail: Reply{Code: 250}, Data: Reply{Code: 250}, Final: Reply{Code: 554}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const taken = "250 ok\n250 ok\n250 go on\n<BDAT 3 LAST\n<y\n250 taken\n"
			c, done := connect(t, chunkGreeting+chunk+taken+chunk+tt.refused+"<RSET\n"+chunk+"250 reset\n"+taken+chunk+taken)
			for i := range 4 {
				c.heard = time.Time{} // long ago
				out, err := sendChunk(t, c)
				want := tt.want
				if i != 1 {
					want = Outcome{Mail: Reply{Code: 250}, Data: Reply{Code: 250}, Final: Reply{Code: 250}}
				}
				if err != nil || !c.Usable() || out.Mail.Code != want.Mail.Code || want.Data.Code != 0 && out.Data.Code != want.Data.Code || out.Final.Code != want.Final.Code {
					t.Fatalf("message %d: %+v, %v", i, out, err)
				}
			}
			finish(t, done)
		})
	}
}

// A host that offers CHUNKING and does not know BDAT has answered what follows as
// commands: the session is over.
func TestAHostThatDoesNotKnowBDATIsToldApart(t *testing.T) {
	c, _ := connect(t, chunkGreeting+chunk+"250 ok\n250 ok\n502 what?\n")
	if _, err := sendChunk(t, c); !errors.Is(err, ErrChunking) || c.Usable() {
		t.Errorf("%v, usable %t", err, c.Usable())
	}
}

// warm is one message by BDAT to a host that has just taken one that way.
const warm = "<MAIL FROM:<a@example.com>\n<RCPT TO:<b@example.org>\n<BDAT 6 LAST\n<x\n<y\n"

// Envelope and content go out in one write where the host has just taken a message by
// BDAT. What it refuses is given up by RSET, and then the content waits for the replies.
func TestAMessageInOneWrite(t *testing.T) {
	for _, tt := range []struct {
		name, said  string
		mail, final int
		sent        bool // the host has, or may have, the message
		reset       bool // RSET goes before the next message
	}{
		{"taken", "250 ok\n250 ok\n250 taken\n", 250, 250, true, false},
		{"MAIL", "550 5.7.1 not you\n503 no\n503 no\n", 550, 0, false, true},
		{"MAIL, and the host goes on all the same", "550 5.7.1 not you\n250 ok\n250 taken\n", 550, 0, false, true},
		{"RCPT", "250 ok\n550 5.1.1 no\n503 nobody\n", 250, 0, false, true},
		{"the content", "250 ok\n250 ok\n554 5.6.0 no\n", 250, 554, true, true},
		{"the content for now", "250 ok\n250 ok\n452 4.3.1 full\n", 250, 452, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const first = chunk + "250 ok\n250 ok\n250 go on\n<BDAT 3 LAST\n<y\n250 taken\n"
			next := warm + "250 ok\n250 ok\n250 taken\n"
			if tt.reset {
				next = "<RSET\n" + chunk + "250 reset\n250 ok\n250 ok\n250 go on\n<BDAT 3 LAST\n<y\n250 taken\n"
			}
			c, done := connect(t, chunkGreeting+first+warm+tt.said+next+warm+"250 ok\n250 ok\n250 taken\n")
			for i := range 4 {
				out, err := sendChunk(t, c)
				mail, final, sent := 250, 250, true
				if i == 1 {
					mail, final, sent = tt.mail, tt.final, tt.sent
				}
				if err != nil || !c.Usable() || out.Mail.Code != mail || out.Final.Code != final || out.BodySent != sent {
					t.Fatalf("message %d: %+v, %v", i, out, err)
				}
			}
			finish(t, done)
		})
	}
}

// Where the session ends within a message in one write, it counts as possibly delivered
// only where the host may have taken it.
func TestASessionThatEndsWithinAMessageInOneWrite(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		sent       bool
		lost       bool // the connection was lost, and the host said no 421
	}{
		{"without a word", "", true, true},
		{"behind MAIL", "250 ok\n", true, true},
		{"behind RCPT", "250 ok\n250 ok\n", true, true},
		{"behind a refusal of MAIL", "550 no\n", false, true},
		{"421 to MAIL", "421 bye\n", false, false},
		{"421 to RCPT", "250 ok\n421 bye\n", false, false},
		{"421 to the content", "250 ok\n250 ok\n421 bye\n", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, done := connect(t, chunkGreeting+chunk+"250 ok\n250 ok\n250 go on\n<BDAT 3 LAST\n<y\n250 taken\n"+warm+tt.said)
			if _, err := sendChunk(t, c); err != nil {
				t.Fatal(err)
			}
			out, err := sendChunk(t, c)
			if (err != nil) != tt.lost || c.Usable() || out.BodySent != tt.sent {
				t.Errorf("%+v, %v, usable %t", out, err, c.Usable())
			}
			finish(t, done)
		})
	}
}

// A host that answers twice gets no further message: its reply to RCPT would be taken for
// that to the content.
func TestAReplyTooManyEndsTheSession(t *testing.T) {
	c, _ := connect(t, chunkGreeting+chunk+"250 ok\n250 ok\n250 go on\n<BDAT 3 LAST\n<y\n250 taken\r\n250 taken\n"+warm+"250 ok\n250 ok\n554 5.6.0 no\n")
	if _, err := sendChunk(t, c); err != nil {
		t.Fatal(err)
	}
	if _, err := c.br.Peek(1); err != nil {
		t.Fatal(err)
	}
	if out, err := sendChunk(t, c); !errors.Is(err, ErrUnexpected) || c.Usable() || out.BodySent {
		t.Errorf("%+v, %v, usable %t", out, err, c.Usable())
	}
}

// A session that the host has closed, or in which it has said something more, gets no further
// message: that is seen before anything goes out.
func TestNothingIsSentOverASessionThatIsOver(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		want       error
	}{
		{"closed", "", io.EOF},
		{"421 in between", "421 4.4.2 timeout\n", ErrUnexpected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, done := connect(t, chunkGreeting+chunk+"250 ok\n250 ok\n250 go on\n<BDAT 3 LAST\n<y\n250 taken\n"+tt.said)
			if _, err := sendChunk(t, c); err != nil {
				t.Fatal(err)
			}
			finish(t, done)
			await.Until(t, "the end", func() bool { return c.unasked() != nil })
			if out, err := sendChunk(t, c); !errors.Is(err, tt.want) || c.Usable() || out.BodySent {
				t.Errorf("%+v, %v, usable %t", out, err, c.Usable())
			}
		})
	}
}
