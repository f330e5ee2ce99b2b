package ingress

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// lineOf is a command as a client sends it. BDAT brings its chunk.
var lineOf = map[input]string{
	cmdEHLO: "EHLO client.example\r\n", cmdHELO: "HELO client.example\r\n", cmdMAIL: "MAIL FROM:<a@example.com>\r\n", cmdRCPT: "RCPT TO:<b@example.org>\r\n",
	cmdDATA: "DATA\r\n", cmdBDAT: "BDAT 6\r\nQUIT\r\n", cmdRSET: "RSET\r\n", cmdNOOP: "NOOP\r\n", cmdVRFY: "VRFY a\r\n", cmdAUTH: "AUTH LOGIN\r\n",
	cmdSTARTTLS: "STARTTLS\r\n", cmdQUIT: "QUIT\r\n", cmdOther: "HELP me\r\n",
}

// order is what the RFCs say of every command in every state that waits for one:
// the reply, and the state behind it. RFC 5321, 4.1.4: EHLO comes first, MAIL
// begins a transaction and is not nested, NOOP, HELP, VRFY and RSET are taken at
// any time, EHLO resets. RFC 3030, 2: a message in chunks is ended by BDAT LAST or
// RSET only. RFC 4954, 4: no AUTH inside a transaction. RFC 3207, 4.2: after
// STARTTLS nothing that was said counts.
var order = map[state]map[input]struct {
	reply string
	next  state
}{
	stateGreet: {
		cmdEHLO: {"250 ", stateReady}, cmdHELO: {"250 ", stateReady}, cmdMAIL: {"503 5.5.1 EHLO", stateGreet}, cmdRCPT: {"503 5.5.1 EHLO", stateGreet},
		cmdDATA: {"503 5.5.1 EHLO", stateGreet}, cmdBDAT: {"503 5.5.1 EHLO", stateGreet}, cmdRSET: {"250 2.0.0 ", stateGreet}, cmdNOOP: {"250 2.0.0 ok", stateGreet},
		cmdVRFY: {"252 2.5.0 ", stateGreet}, cmdAUTH: {"503 5.5.1 EHLO", stateGreet}, cmdSTARTTLS: {"220 ", stateGreet}, cmdQUIT: {"221 2.0.0 ", stateClosing}, cmdOther: {"502 5.5.1 ", stateGreet},
	},
	stateReady: {
		cmdEHLO: {"250 ", stateReady}, cmdHELO: {"250 ", stateReady}, cmdMAIL: {"250 2.1.0 ", stateMail}, cmdRCPT: {"503 5.5.1 MAIL", stateReady},
		cmdDATA: {"503 5.5.1 RCPT", stateReady}, cmdBDAT: {"503 5.5.1 RCPT", stateReady}, cmdRSET: {"250 2.0.0 ", stateReady}, cmdNOOP: {"250 2.0.0 ok", stateReady},
		cmdVRFY: {"252 2.5.0 ", stateReady}, cmdAUTH: {"334 ", stateAuth}, cmdSTARTTLS: {"220 ", stateGreet}, cmdQUIT: {"221 2.0.0 ", stateClosing}, cmdOther: {"502 5.5.1 ", stateReady},
	},
	stateMail: {
		cmdEHLO: {"250 ", stateReady}, cmdHELO: {"250 ", stateReady}, cmdMAIL: {"503 5.5.1 MAIL", stateMail}, cmdRCPT: {"250 2.1.5 ", stateRcpt},
		cmdDATA: {"503 5.5.1 RCPT", stateMail}, cmdBDAT: {"503 5.5.1 RCPT", stateMail}, cmdRSET: {"250 2.0.0 ", stateReady}, cmdNOOP: {"250 2.0.0 ok", stateMail},
		cmdVRFY: {"252 2.5.0 ", stateMail}, cmdAUTH: {"503 5.5.1 AUTH", stateMail}, cmdSTARTTLS: {"220 ", stateGreet}, cmdQUIT: {"221 2.0.0 ", stateClosing}, cmdOther: {"502 5.5.1 ", stateMail},
	},
	stateRcpt: {
		cmdEHLO: {"250 ", stateReady}, cmdHELO: {"250 ", stateReady}, cmdMAIL: {"503 5.5.1 MAIL", stateRcpt}, cmdRCPT: {"250 2.1.5 ", stateRcpt},
		cmdDATA: {"354 ", stateData}, cmdBDAT: {"250 2.0.0 go on", stateBdat}, cmdRSET: {"250 2.0.0 ", stateReady}, cmdNOOP: {"250 2.0.0 ok", stateRcpt},
		cmdVRFY: {"252 2.5.0 ", stateRcpt}, cmdAUTH: {"503 5.5.1 AUTH", stateRcpt}, cmdSTARTTLS: {"220 ", stateGreet}, cmdQUIT: {"221 2.0.0 ", stateClosing}, cmdOther: {"502 5.5.1 ", stateRcpt},
	},
	stateBdat: {
		cmdEHLO: {"503 5.5.1 a message", stateBdat}, cmdHELO: {"503 5.5.1 a message", stateBdat}, cmdMAIL: {"503 5.5.1 a message", stateBdat}, cmdRCPT: {"503 5.5.1 a message", stateBdat},
		cmdDATA: {"503 5.5.1 a message", stateBdat}, cmdBDAT: {"250 2.0.0 go on", stateBdat}, cmdRSET: {"250 2.0.0 ", stateReady}, cmdNOOP: {"250 2.0.0 ok", stateBdat},
		cmdVRFY: {"503 5.5.1 a message", stateBdat}, cmdAUTH: {"503 5.5.1 a message", stateBdat}, cmdSTARTTLS: {"503 5.5.1 a message", stateBdat}, cmdQUIT: {"221 2.0.0 ", stateClosing}, cmdOther: {"503 5.5.1 a message", stateBdat},
	},
}

// The table has an answer to every command in every state that waits for one,
// and to none in another: there the octets are a message's, or a response to
// AUTH, or nobody reads them.
func TestTheTableOfCommandsIsWhole(t *testing.T) {
	for st := stateConnected; st < states; st++ {
		for in := cmdEHLO; in <= cmdOther; in++ {
			got := follows[st][in]
			want, waits := order[st][in]
			switch {
			case !waits && got != (step{}):
				t.Errorf("%v, %q: %+v, but no command is read there", st, lineOf[in], got)
			case !waits:
			case got.reply != "" && !strings.HasPrefix(got.reply, want.reply):
				t.Errorf("%v, %q: reply %q, want %q", st, lineOf[in], got.reply, want.reply)
			case got.reply != "" && got.reply[0] == '5' && (got.next != stateConnected || want.next != st):
				t.Errorf("%v, %q: is refused, and leads to %v", st, lineOf[in], got.next)
			case got.reply == "" && got.next == stateConnected:
				t.Errorf("%v, %q: neither a next state nor a reply", st, lineOf[in])
			}
		}
		if next := follows[st][goodbye].next; next != stateClosing {
			t.Errorf("%v: a goodbye leads to %v", st, next)
		}
	}
}

// What cannot happen leaves the state as it is.
func TestAnInputThatCannotHappenChangesNothing(t *testing.T) {
	for st := stateConnected; st < states; st++ {
		for in := none; in < inputs; in++ {
			var d dialogue
			d.current.Store(uint32(st))
			want := follows[st][in].next
			if ok := d.enter(in); ok != (want != stateConnected) || ok && d.state() != want || !ok && d.state() != st {
				t.Errorf("%v, input %d: %v, %v", st, in, ok, d.state())
			}
		}
	}
}

// reach brings a new connection into a state.
func (d *testServer) reach(st state, secure bool) *raw {
	d.t.Helper()
	c := d.dial()
	c.want("220 ")
	if secure {
		c.do("STARTTLS", "220 ")
		c.beginTLS()
	}
	for _, step := range []struct {
		st          state
		line, reply string
	}{
		{stateReady, "EHLO client.example\r\n", "250 "},
		{stateMail, "MAIL FROM:<a@example.com>\r\n", "250 "},
		{stateRcpt, "RCPT TO:<b@example.org>\r\n", "250 "},
		{stateBdat, "BDAT 9\r\nDate: x\r\n", "250 "},
	} {
		if st < step.st {
			break
		}
		c.send(step.line)
		c.want(step.reply)
	}
	return c
}

func (c *raw) beginTLS() {
	c.t.Helper()
	t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.br = t, bufio.NewReader(t)
}

// give sends a command, tries the reply and the state of the server against
// order, and returns the state.
func (d *testServer) give(c *raw, st state, in input, secure bool) state {
	d.t.Helper()
	want := order[st][in]
	switch {
	case secure && in == cmdSTARTTLS && st != stateBdat:
		want.reply, want.next = "503 5.5.1 TLS", st
	case !secure && in == cmdAUTH && st == stateReady:
		want.reply, want.next = "538 5.7.11 ", st
	}
	c.send(lineOf[in])
	if got := c.reply(); !strings.HasPrefix(got, want.reply) {
		d.t.Fatalf("%v, %q: reply %q, want %q", st, lineOf[in], got, want.reply)
	}
	if want.reply == "220 " {
		c.beginTLS()
		c.do("NOOP", "250 ")
	}
	if want.next != stateClosing {
		for _, conn := range d.open() {
			if got := conn.dialogue.state(); got != want.next {
				d.t.Fatalf("%v, %q: state %v, want %v", st, lineOf[in], got, want.next)
			}
		}
	}
	return want.next
}

// open are the connections of the server, one here.
func (d *testServer) open() (out []*conn) {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	for c := range d.server.conns {
		out = append(out, c)
	}
	return out
}

// stillWorks takes a message on a connection that is in some state.
func (d *testServer) stillWorks(c *raw, st state) {
	d.t.Helper()
	switch st {
	case stateClosing:
		c.want("EOF")
		return
	case stateAuth:
		c.do("*", "501 ")
	case stateData:
		c.do("From: a@example.com\r\n\r\nx\r\n.", "250 2.0.0 queued")
	case stateBdat:
		c.do("RSET", "250 ")
	}
	before := len(d.messages())
	c.do("EHLO client.example", "250 ")
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	c.do("DATA", "354 ")
	c.do("From: a@example.com\r\n\r\nx\r\n.", "250 2.0.0 queued")
	if got := len(d.messages()); got != before+1 {
		d.t.Fatalf("%d messages are queued, want %d", got, before+1)
	}
	c.do("QUIT", "221 ")
	c.want("EOF")
}

func openDialogue(t *testing.T) *testServer {
	return newServer(t, func(o *Options) { o.Listeners[0].Auth = true })
}

// Every command in every state, on a connection of its own, in clear and over TLS.
func TestEveryCommandInEveryState(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			d := openDialogue(t)
			for _, st := range []state{stateGreet, stateReady, stateMail, stateRcpt, stateBdat} {
				for in := cmdEHLO; in <= cmdOther; in++ {
					d.sessions(0)
					c := d.reach(st, secure)
					d.stillWorks(c, d.give(c, st, in, secure))
				}
			}
		})
	}
}

// In the content of a message, and in a response to AUTH, commands are none.
func TestCommandsWhereNoneIsRead(t *testing.T) {
	d := openDialogue(t)
	for in := cmdEHLO; in <= cmdOther; in++ {
		line := lineOf[in]
		c := d.reach(stateRcpt, false)
		c.do("DATA", "354 ")
		c.send(line + ".\r\n")
		c.want("250 2.0.0 queued")
		d.stillWorks(c, stateReady)

		c = d.reach(stateRcpt, false)
		c.send(fmt.Sprintf("BDAT %d\r\n%s", len(line), line))
		c.want("250 2.0.0 go on")
		d.stillWorks(c, stateBdat)

		c = d.reach(stateReady, true)
		c.do("AUTH LOGIN", "334 ")
		line, _, _ = strings.Cut(line, "\r\n")
		if _, err := base64.StdEncoding.DecodeString(line); err == nil {
			c.do(line, "334 ") // it is a name
			d.stillWorks(c, stateAuth)
		} else {
			c.do(line, "501 5.5.2 ")
			d.stillWorks(c, stateReady)
		}

		c = d.dial() // without waiting for the greeting
		c.send(lineOf[in])
		c.want("220 ")
		c.want(order[stateGreet][in].reply)

		c = d.dial()
		c.want("220 ")
		c.send("QUIT\r\n" + lineOf[in])
		c.want("221 ")
		c.want("EOF")
	}
}

// Long walks through the table: what go-smtp keeps of a session stays in step
// with the table.
func TestWalksThroughTheTable(t *testing.T) {
	d := openDialogue(t)
	for seed := range uint64(20) {
		d.sessions(0)
		random := rand.New(rand.NewPCG(seed, 0))
		c := d.reach(stateGreet, false)
		st, secure := stateGreet, false
		for range 40 {
			in := input(random.IntN(int(cmdOther))) + cmdEHLO
			if in == cmdQUIT {
				continue
			}
			before := secure
			secure = secure || in == cmdSTARTTLS && st != stateBdat
			st = d.give(c, st, in, before)
			switch st {
			case stateAuth:
				c.do("*", "501 ")
				st = stateReady
			case stateData:
				c.do("From: a@example.com\r\n\r\nx\r\n.", "250 2.0.0 queued")
				st = stateReady
			}
		}
		d.stillWorks(c, st)
	}
}
