package testnet

import (
	"net"
	"sync"
	"time"
)

// far is a connection to a host far away: what the host writes arrives later, in
// order, and the host does not wait for it.
type far struct {
	net.Conn
	latency time.Duration
	queue   chan packet
	done    chan struct{}
	once    sync.Once
	ended   chan struct{}
}

type packet struct {
	data []byte
	at   time.Time
}

func newFar(c net.Conn, latency time.Duration) *far {
	f := &far{Conn: c, latency: latency, queue: make(chan packet, 1024), done: make(chan struct{}), ended: make(chan struct{})}
	go f.deliver()
	return f
}

func (f *far) deliver() {
	defer close(f.ended)
	for {
		select {
		case <-f.done:
			return
		case p := <-f.queue:
			select {
			case <-time.After(time.Until(p.at)):
			case <-f.done:
				return
			}
			if _, err := f.Conn.Write(p.data); err != nil {
				f.Conn.Close()
				return
			}
		}
	}
}

func (f *far) Write(b []byte) (int, error) {
	p := packet{append([]byte(nil), b...), time.Now().Add(f.latency)}
	select {
	case f.queue <- p:
		return len(b), nil
	case <-f.ended:
		return 0, net.ErrClosed
	}
}

// stop waits until what was written is on its way out, then ends the delivery.
func (f *far) stop() {
	timer := time.NewTimer(f.latency + time.Second)
	defer timer.Stop()
	for len(f.queue) > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-f.ended:
			return
		case <-timer.C:
			f.once.Do(func() { close(f.done) })
			return
		}
	}
	f.once.Do(func() { close(f.done) })
	<-f.ended
}
