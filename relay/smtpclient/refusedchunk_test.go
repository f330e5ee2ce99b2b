package smtpclient

import (
	"errors"
	"strings"
	"testing"
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

// Nothing is delivered before the envelope was answered: the first chunk is not the
// last one. What is refused is given up by RSET, in the write of the next envelope.
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
