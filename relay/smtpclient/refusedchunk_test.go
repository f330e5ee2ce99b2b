package smtpclient

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// A host that has taken a message by BDAT knows it: a refusal by 501 or the like
// is about that message, and the session goes on. What was pipelined behind it
// was taken, and must not be sent a second time.
func TestARefusalByAHostThatKnowsBDATIsAboutTheMessage(t *testing.T) {
	const message = "<MAIL FROM:<a@example.com> SIZE=3\n<RCPT TO:<b@example.org>\n"
	c, done := connect(t, strings.Replace(greeting, "250 DSN", "250 CHUNKING", 1)+
		message+"<DATA\n250 ok\n250 ok\n354 go\n<x\n<.\n250 taken\n"+
		message+"<BDAT 3\n<x\n250 ok\n250 ok\n250 go on\n<BDAT 0 LAST\n250 taken\n"+
		message+"<BDAT 3 LAST\n<x\n"+message+"<BDAT 3 LAST\n<x\n"+
		"250 ok\n250 ok\n501 5.6.0 I do not like it\n250 ok\n250 ok\n250 taken\nhang")
	send := func() (Outcome, error) {
		return c.Send(t.Context(), Transaction{From: "a@example.com", Recipients: []Recipient{{Address: "b@example.org"}}, Size: 3, Body: strings.NewReader("x\r\n")})
	}
	for range 2 { // the first goes by DATA, the second shows that the host knows BDAT
		if out, err := send(); err != nil || out.Final.Code != 250 {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	var mu sync.Mutex
	var codes []int
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			out, err := send()
			mu.Lock()
			defer mu.Unlock()
			codes = append(codes, out.Final.Code)
			if err != nil {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
	both.Wait()
	if slices.Sort(codes); !slices.Equal(codes, []int{250, 501}) || !c.Usable() {
		t.Errorf("answers %v, usable %t", codes, c.Usable())
	}
	_ = c.Close()
	finish(t, done)
}
