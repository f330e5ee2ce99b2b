package ingress

import (
	"bytes"
	"io"
	"log/slog"
	"mime/quotedprintable"
	"net/mail"
	"runtime"
	"strings"
	"testing"
)

// seal signs by noting what it was given.
type seal struct {
	bytes.Buffer
	made bool
}

func (s *seal) Close() ([]byte, error) {
	s.made = true
	return []byte("X-Seal: 1\r\n"), nil
}

func TestLongLinesAreConverted(t *testing.T) {
	long := strings.Repeat("<td>a = b</td>", 400)
	for _, how := range []string{"DATA", "BDAT"} {
		for _, size := range []int{1, 400} { // a chunk, and some
			var log logged
			var seals []*seal
			d := newServer(t, func(o *Options) {
				o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
				o.Sign = func(string) Signing { seals = append(seals, new(seal)); return seals[len(seals)-1] }
			})
			text := strings.Repeat(long+"\r\n.\r\nshort\r\n", size)
			in := "To: " + strings.Repeat("\"N, N\" <a@b.example>, ", 70) + "c@d.example\r\nSubject: x\r\nContent-Type: text/html\r\n\r\n"
			sent := text
			if how == "DATA" {
				sent = strings.ReplaceAll(text, "\r\n.\r\n", "\r\n..\r\n")
			}
			reply := d.hello().message(how, in+sent)
			if !strings.HasPrefix(reply, "250 2.0.0 queued as ") {
				t.Fatal(reply)
			}
			all := d.messages()
			if len(all) != 1 || all[0].ID.String() != strings.TrimPrefix(reply, "250 2.0.0 queued as ") {
				t.Fatalf("%s: %d messages", reply, len(all))
			}
			got := d.contents()[0]
			signed, ok := strings.CutPrefix(got, "X-Seal: 1\r\n")
			if last := seals[len(seals)-1].String(); !ok || signed != last {
				t.Errorf("%s: what is signed is not what is sent: %.300q", how, got)
			}
			if len(seals) != 2 || seals[0].made {
				t.Errorf("%s: %d signatures begun, of the message before it is written anew one is made: %v", how, len(seals), seals[0].made)
			}
			if all[0].Size != int64(len(got)) {
				t.Errorf("size %d, it has %d octets", all[0].Size, len(got))
			}
			for line := range strings.SplitSeq(got, "\r\n") {
				if len(line) > smtpLine {
					t.Fatalf("a line of %d octets", len(line))
				}
			}
			m, err := mail.ReadMessage(strings.NewReader(got))
			if err != nil {
				t.Fatal(err)
			}
			if n := len(must(m.Header.AddressList("To"))); n != 71 || m.Header.Get("Content-Transfer-Encoding") != "quoted-printable" || m.Header.Get("MIME-Version") != "1.0" || m.Header.Get("Subject") != "x" {
				t.Errorf("%d addresses, header %v", n, m.Header)
			}
			if body := string(must(io.ReadAll(quotedprintable.NewReader(m.Body)))); body != text {
				t.Errorf("%s: the content is another: %.200q", how, body)
			}
			if n := strings.Count(log.String(), all[0].ID.String()); n != 3 || !strings.Contains(log.String(), "were folded or encoded") {
				t.Errorf("the log:\n%s", log.String())
			}
		}
	}
}

func TestLongLinesOfASignedMessageStay(t *testing.T) {
	var log logged
	d := newServer(t, func(o *Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	text := strings.Repeat("y", 3<<20) + "\r\n"
	if got := d.hello().message("DATA", "DKIM-Signature: v=1; d=example.com\r\n"+headers+text); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	if got := d.contents()[0]; body(got) != text {
		t.Errorf("%.300q", got)
	}
	if !strings.Contains(log.String(), `"why":"DKIM-Signature"`) {
		t.Errorf("the log says nothing of it:\n%s", log.String())
	}
}

// A line may be as long as the message, and takes no memory.
func TestALineOfAnyLengthTakesLittleMemory(t *testing.T) {
	d := newServer(t, nil)
	c := d.hello()
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	c.do("DATA", "354 ")
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c.send(headers)
	piece := strings.Repeat("0123456789abcdef", 4096)
	most := uint64(0)
	for range 600 { // 37.5 MiB
		c.send(piece)
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapInuse)
	}
	c.send("\r\n.\r\n")
	c.want("250 ")
	if grew := int64(most) - int64(before.HeapInuse); grew > 30<<20 {
		t.Errorf("the heap grew by %d MiB", grew>>20)
	}
	if m := d.messages()[0]; m.Size < 600*64<<10 {
		t.Errorf("%d octets", m.Size)
	}
}

// The copy for the journal has no line that a host may refuse, however long the addresses
// of the envelope are.
func TestTheJournalsCopyHasNoLongLines(t *testing.T) {
	from, to := strings.Repeat("a", 1500)+"@example.com", strings.Repeat("b", 1500)+"@example.org"
	d := newServer(t, func(o *Options) { o.Journal, o.Postmaster = "archive@journal.example", "ops@example.com" })
	c := d.hello()
	c.do("MAIL FROM:<"+from+">", "250 ")
	c.do("RCPT TO:<c@example.org>", "250 ")
	c.do("RCPT TO:<"+to+">", "250 ")
	c.do("DATA", "354 ")
	c.send(headers + "x\r\n.\r\n")
	c.want("250 ")
	contents := d.contents()
	if len(contents) != 2 {
		t.Fatalf("%d messages", len(contents))
	}
	for _, content := range contents {
		for line := range strings.Lines(content) {
			if len(line) > smtpLine+len("\r\n") {
				t.Errorf("a line of %d octets: %.40q", len(line), line)
			}
		}
	}
	unfolded := strings.NewReplacer("\r\n ", "", "\r\n\t", "").Replace(contents[0] + contents[1])
	for _, want := range []string{"X-Envelope-From: <" + from + ">\r\n", "X-Envelope-To: <c@example.org>,<" + to + ">\r\n"} {
		if !strings.Contains(unfolded, want) {
			t.Errorf("%.60q is not there:\n%.5000q", want, unfolded)
		}
	}
}
