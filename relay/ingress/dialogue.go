package ingress

import (
	"slices"
	"strings"
	"sync/atomic"
)

// This file is the order of an SMTP session: which command may follow which (RFC
// 5321, 4.1.4; RFC 3030, 2; RFC 3207, 4; RFC 4954, 4). Everything that a client
// can send is looked up in one table, and one function changes the state.

// state is where a session stands.
type state uint32

const (
	stateConnected  state = iota // the client has not been greeted
	stateGreet                   // the client has not said EHLO or HELO on this connection, or not since TLS began on it
	stateReady                   // there is no transaction
	stateMail                    // MAIL was accepted
	stateRcpt                    // at least one recipient was accepted
	stateAuth                    // the next line is the client's response to a 334
	stateData                    // the content of a message comes by DATA
	stateChunk                   // a chunk of a message's content comes by BDAT
	stateBdat                    // between two chunks of a message
	stateCommitting              // the content has ended, and its reply has not been given
	stateClosing                 // the last reply was given
	states
)

func (s state) String() string {
	return [...]string{"connected", "greet", "ready", "mail", "rcpt", "auth", "data", "chunk", "bdat", "committing", "closing"}[s]
}

// inContent reports whether a message's content has begun and not ended.
func (s state) inContent() bool { return s == stateData || s == stateChunk || s == stateBdat }

// inTransaction reports whether a message is on its way, which a shutdown waits
// for.
func (s state) inTransaction() bool {
	return s == stateMail || s == stateRcpt || s.inContent() || s == stateCommitting
}

// introduced reports whether EHLO or HELO was taken since the connection, or TLS
// on it, began.
func (s state) introduced() bool { return s > stateGreet }

// input is a command, or another event that can change the state.
type input uint8

const (
	none input = iota
	cmdEHLO
	cmdHELO
	cmdMAIL
	cmdRCPT
	cmdDATA
	cmdBDAT
	cmdRSET
	cmdNOOP
	cmdVRFY
	cmdAUTH
	cmdSTARTTLS
	cmdQUIT
	cmdOther // one that is not implemented, or not known
	greeting // the client was admitted
	// challenge is a 334 to the client, response the line that answers it.
	challenge
	response
	chunkEnd   // a chunk that is not the last one is whole
	contentEnd // the content of a message is whole
	verdict    // the reply to a message
	goodbye    // a 221 or 421 to the client
	inputs
)

// commandNames are the commands that have a column of their own in the table.
var commandNames = map[string]input{
	"EHLO": cmdEHLO, "HELO": cmdHELO, "MAIL": cmdMAIL, "RCPT": cmdRCPT, "DATA": cmdDATA, "BDAT": cmdBDAT, "RSET": cmdRSET,
	"NOOP": cmdNOOP, "VRFY": cmdVRFY, "AUTH": cmdAUTH, "STARTTLS": cmdSTARTTLS, "QUIT": cmdQUIT,
}

// otherCommands are further ones that the log may name.
var otherCommands = []string{"EXPN", "HELP", "SEND", "SOML", "SAML", "TURN", "ETRN", "LHLO", "XCLIENT"}

// step is what an input leads to: the next state, or a reply that is given
// without asking go-smtp. A step without either cannot happen.
type step struct {
	next  state
	reply string // with a next state: the answer of a command that is taken
	// counts is whether the reply is one of the refusals that a session may have
	// (maxRefusals). Those of commands that a client pipelined behind a refused
	// one do not count.
	counts bool
}

const (
	ehloFirst = "503 5.5.1 EHLO comes first"
	mailFirst = "503 5.5.1 MAIL comes first"
	rcptFirst = "503 5.5.1 RCPT comes first"
	mailTwice = "503 5.5.1 MAIL was given already; RSET begins anew"
	authInner = "503 5.5.1 AUTH is not allowed inside a transaction"
	bdatFirst = "503 5.5.1 a message is coming in chunks: BDAT, or RSET to give it up"
)

// follows is what may follow what. A command leads to the next state when its
// reply is positive, and leaves the state as it is otherwise.
var follows = [states][inputs]step{
	stateConnected: {
		greeting: {next: stateGreet}, goodbye: {next: stateClosing},
	},
	stateGreet: {
		cmdEHLO: {next: stateReady}, cmdHELO: {next: stateReady},
		cmdMAIL: {reply: ehloFirst}, cmdRCPT: {reply: ehloFirst}, cmdDATA: {reply: ehloFirst}, cmdBDAT: {reply: ehloFirst}, cmdAUTH: {reply: ehloFirst},
		cmdRSET: {next: stateGreet}, cmdNOOP: {next: stateGreet}, cmdVRFY: {next: stateGreet}, cmdOther: {next: stateGreet},
		cmdSTARTTLS: {next: stateGreet}, cmdQUIT: {next: stateClosing}, goodbye: {next: stateClosing},
	},
	stateReady: {
		cmdEHLO: {next: stateReady}, cmdHELO: {next: stateReady},
		cmdMAIL: {next: stateMail}, cmdRCPT: {reply: mailFirst}, cmdDATA: {reply: rcptFirst}, cmdBDAT: {reply: rcptFirst}, cmdAUTH: {next: stateReady},
		cmdRSET: {next: stateReady}, cmdNOOP: {next: stateReady}, cmdVRFY: {next: stateReady}, cmdOther: {next: stateReady},
		cmdSTARTTLS: {next: stateGreet}, cmdQUIT: {next: stateClosing}, challenge: {next: stateAuth}, goodbye: {next: stateClosing},
	},
	stateMail: {
		cmdEHLO: {next: stateReady}, cmdHELO: {next: stateReady},
		cmdMAIL: {reply: mailTwice, counts: true}, cmdRCPT: {next: stateRcpt}, cmdDATA: {reply: rcptFirst}, cmdBDAT: {reply: rcptFirst}, cmdAUTH: {reply: authInner, counts: true},
		cmdRSET: {next: stateReady}, cmdNOOP: {next: stateMail}, cmdVRFY: {next: stateMail}, cmdOther: {next: stateMail},
		cmdSTARTTLS: {next: stateGreet}, cmdQUIT: {next: stateClosing}, goodbye: {next: stateClosing},
	},
	stateRcpt: {
		cmdEHLO: {next: stateReady}, cmdHELO: {next: stateReady},
		cmdMAIL: {reply: mailTwice, counts: true}, cmdRCPT: {next: stateRcpt}, cmdDATA: {next: stateData}, cmdBDAT: {next: stateChunk}, cmdAUTH: {reply: authInner, counts: true},
		cmdRSET: {next: stateReady}, cmdNOOP: {next: stateRcpt}, cmdVRFY: {next: stateRcpt}, cmdOther: {next: stateRcpt},
		cmdSTARTTLS: {next: stateGreet}, cmdQUIT: {next: stateClosing}, goodbye: {next: stateClosing},
	},
	stateAuth: {
		response: {next: stateReady}, goodbye: {next: stateClosing},
	},
	stateData: {
		contentEnd: {next: stateCommitting}, goodbye: {next: stateClosing},
	},
	stateChunk: {
		chunkEnd: {next: stateBdat}, contentEnd: {next: stateCommitting}, goodbye: {next: stateClosing},
	},
	stateBdat: {
		cmdEHLO: {reply: bdatFirst}, cmdHELO: {reply: bdatFirst},
		cmdMAIL: {reply: bdatFirst}, cmdRCPT: {reply: bdatFirst}, cmdDATA: {reply: bdatFirst}, cmdBDAT: {next: stateChunk}, cmdAUTH: {reply: bdatFirst},
		cmdRSET: {next: stateCommitting}, cmdNOOP: {next: stateBdat, reply: "250 2.0.0 ok"}, cmdVRFY: {reply: bdatFirst}, cmdOther: {reply: bdatFirst},
		cmdSTARTTLS: {reply: bdatFirst}, cmdQUIT: {next: stateClosing, reply: "221 2.0.0 Bye"}, goodbye: {next: stateClosing},
	},
	stateCommitting: {
		verdict: {next: stateReady}, goodbye: {next: stateClosing},
	},
	stateClosing: {
		goodbye: {next: stateClosing},
	},
}

// dialogue is the order of one session. The goroutine of the session uses it
// alone, but for the state, which a shutdown reads.
type dialogue struct {
	current atomic.Uint32
	// asked is the command that go-smtp has been given and has not answered.
	asked input
	// silent is whether that is a command of the relay's own, whose reply the
	// client does not see.
	silent bool
	verb   string // of the last command, in upper case
	esmtp  bool   // the client said EHLO, not HELO
}

func (d *dialogue) state() state { return state(d.current.Load()) }

// step is what the input leads to in the present state.
func (d *dialogue) step(in input) step { return follows[d.state()][in] }

// enter changes the state, as the table says. It reports whether the input may
// happen in the present state; if not, the state stays.
func (d *dialogue) enter(in input) bool {
	next := d.step(in).next
	if next == stateConnected {
		return false
	}
	d.current.Store(uint32(next))
	return true
}

// answersHello reports whether the next line of go-smtp belongs to the reply to
// EHLO or HELO.
func (d *dialogue) answersHello() bool { return d.asked == cmdEHLO || d.asked == cmdHELO }

// command splits a line into its verb, which it keeps, and its argument, and
// returns the command that it is.
func (d *dialogue) command(line string) (in input, arg string) {
	verb := line
	if i := strings.IndexAny(line, blanks); i >= 0 {
		verb, arg = line[:i], line[i+1:]
	}
	d.verb = strings.ToUpper(verb)
	if in, ok := commandNames[d.verb]; ok {
		return in, arg
	}
	return cmdOther, arg
}

// name is the verb of the last command, for log and metrics. A line that is no command
// may be a password: a client whose AUTH was refused, or that breaks the response into
// lines, sends it all the same. Such a line is not named.
func (d *dialogue) name() string {
	_, known := commandNames[d.verb]
	if known || d.verb == "" || slices.Contains(otherCommands, d.verb) || slices.Contains(foreignWords, d.verb) {
		return d.verb
	}
	return "unknown"
}

// enter changes the state. An input that cannot happen in it is a fault of this
// relay: the session ends, whatever the client does.
func (c *conn) enter(in input) bool {
	if c.dialogue.enter(in) {
		return true
	}
	c.server.log.Error("a session came where it cannot be, and ends", append(c.who(), "state", c.dialogue.state().String(), "command", c.dialogue.name(), "input", int(in))...)
	c.fail(errDialogue)
	return false
}
