package ingress

import (
	"net"
	"testing"
	"time"
)

// slowDeadline lets something happen just before a deadline is set.
type slowDeadline struct {
	net.Conn
	before func()
}

func (s *slowDeadline) SetReadDeadline(t time.Time) error {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	return s.Conn.SetReadDeadline(t)
}

// A stop that comes just as a session begins to wait for a command ends the
// session all the same.
func TestAStopEndsASessionThatBeginsToWait(t *testing.T) {
	client, far := net.Pipe()
	defer client.Close()
	s, err := New(Options{Hostname: "relay.example.com", Listeners: []Listener{{Address: "127.0.0.1:0", TLS: "none"}}})
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowDeadline{Conn: far}
	c := newConn(slow, s.listeners[0])
	c.enter(greeting)
	slow.before = c.drain
	go func() { // the 421
		buf := make([]byte, 100)
		_, _ = client.Read(buf)
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Read(make([]byte, 100))
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("the session waits for a command while the relay stops")
		client.Close()
		<-done
	}
}
