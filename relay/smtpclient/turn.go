package smtpclient

import "sync"

// line is where the transactions of a session stand in line, first to write and
// then to read: a transaction's commands may go out while the replies to the one
// before are on their way (RFC 2920).
type line struct {
	mu      sync.Mutex
	writing chan struct{} // closed when the last one in line has written
	reading chan struct{} // closed when it has read
	waiting int           // transactions that have not begun to write
}

// place is one transaction's place in line.
type place struct {
	line             *line
	mayWrite, wrote  chan struct{}
	mayRead, hasRead chan struct{}
}

// enter takes the last place.
func (l *line) enter() *place {
	p := &place{line: l, wrote: make(chan struct{}), hasRead: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.mayWrite, p.mayRead = l.writing, l.reading
	l.writing, l.reading = p.wrote, p.hasRead
	l.waiting++
	return p
}

// write waits for the turn to write.
func (p *place) write() {
	if p.mayWrite != nil {
		<-p.mayWrite
	}
	p.line.mu.Lock()
	p.line.waiting--
	p.line.mu.Unlock()
}

// read waits for the turn to read.
func (p *place) read() {
	if p.mayRead != nil {
		<-p.mayRead
	}
}

// followed says whether another transaction will write, and flush, as soon as
// this one lets it.
func (p *place) followed() bool {
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	return p.line.waiting > 0
}

// written gives the turn to write on.
func (p *place) written() {
	select {
	case <-p.wrote:
	default:
		close(p.wrote)
	}
}

// leave gives up what is left of the place.
func (p *place) leave() {
	p.written()
	p.read() // the replies before are not ours
	close(p.hasRead)
}
