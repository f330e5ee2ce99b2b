package ingress

import (
	"bufio"
	"crypto/tls"
	"net"
	"regexp"
	"testing"
	"time"
)

// replyLine is a line of a reply (RFC 5321, 4.2): code, text, nothing that a
// terminal or the next parser could take amiss.
var replyLine = regexp.MustCompile(`^[2345][0-9][0-9]( [\t -~]*|-[\t -~]*)?$`)

// Whole sessions, in clear and over TLS. That nothing panics shows in the
// session ending without a reply, that nothing leaks in TestMain.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\nabcBDAT 0 LAST\r\nRSET\r\n",
		"EHLO x\r\nMAIL FROM:<a@b.example> BODY=8BITMIME SMTPUTF8 ENVID=a+2Bb RET=FULL SIZE=9\r\nRCPT TO:<\"a b\"@d.example> NOTIFY=NEVER ORCPT=utf-8;\\x{e9}\r\nBDAT 2\r\n\r\nRSET\r\nVRFY x\r\n",
		"HELO x\r\nSTARTTLS\r\n\x16\x03\x01",
		"EHLO x\r\nAUTH LOGIN\r\n*\r\n\r\n\r\n\r\n",
		"EHLO x\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<\xff@b.example>\r\nHELP \x1b[31m\r\n\x00\r\nLHLO\r\n",
		"\r\n\n\r.\r\nEHLO\r\nEHLO [::1]\r\nMAIL\r\nMAIL FROM:\r\nRCPT TO:<@a:b@c>\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	d := newServer(f, func(o *Options) {
		o.Limits.Idle = time.Second
		o.Limits.AuthDelay = time.Microsecond
		o.Listeners[0].Auth = true
	})
	f.Fuzz(func(t *testing.T, in []byte, secure bool) {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		br := bufio.NewReader(c)
		end := c.(*net.TCPConn).CloseWrite
		if secure {
			readReply(t, br)
			_, _ = c.Write([]byte("STARTTLS\r\n"))
			readReply(t, br)
			tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			if err := tc.Handshake(); err != nil {
				t.Fatal(err)
			}
			c, end = tc, tc.CloseWrite
			br.Reset(tc)
		}
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = c.Write(in)
			_ = end()
		}()
		sc := bufio.NewScanner(br)
		for sc.Scan() {
			line := sc.Text()
			if len(line) > 0 && line[0] == 0x15 { // a TLS alert
				break
			}
			if !replyLine.MatchString(line) {
				t.Fatalf("%q was answered with %q", in, line)
			}
		}
		c.Close()
		<-written
	})
}

func readReply(t *testing.T, br *bufio.Reader) {
	t.Helper()
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line[3] == ' ' {
			return
		}
	}
}
