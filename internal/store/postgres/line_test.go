package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// line is a way to the primary that loses the answer to a commit when it is told to.
type line struct {
	mu      sync.Mutex
	lose    *bool     // the next write is lost: before the server has it (false), or its answer
	cut     time.Time // until when nobody gets through
	target  string
	address string
}

// url starts the line, and returns the DSN by which it is used.
func (l *line) url(t *testing.T) string {
	t.Helper()
	if l.address == "" {
		socket := socketOf(primary().Port())
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		l.target, l.address = socket, listener.Addr().String()
		go l.serve(listener)
	}
	host, port, err := net.SplitHostPort(l.address)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("host=%s port=%s user=stsrelay dbname=postgres sslmode=disable", host, port)
}

func socketOf(port string) string {
	host := strings.Split(strings.Split(cluster.URL(), "host=")[1], ",")[0]
	host = strings.Split(host, " ")[0]
	return filepath.Join(host, ".s.PGSQL."+port)
}

func (l *line) loseAnswer(written bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = &written
}

func (l *line) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.cut)
}

func (l *line) serve(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", l.target)
		if err != nil || l.isCut() {
			_ = c.Close()
			if server != nil {
				_ = server.Close()
			}
			continue
		}
		go l.forward(c, server)
	}
}

// forward passes what the client sends. The statement that writes is known by its name
// in the message that prepares it.
func (l *line) forward(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	answers := make(chan struct{})
	silent := make(chan struct{})
	go func() {
		defer close(answers)
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			select {
			case <-silent:
				return
			default:
				_, _ = client.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	writer := false
	for {
		n, err := client.Read(buf)
		data := buf[:n]
		prepares := bytes.Contains(data, []byte("stsrelay.write"))
		writer = writer || prepares
		l.mu.Lock()
		if l.lose != nil && writer && !prepares && bytes.Contains(data, []byte("B\x00")) {
			written := *l.lose
			l.lose, l.cut = nil, time.Now().Add(1200*time.Millisecond)
			l.mu.Unlock()
			if written {
				close(silent)
				_, _ = server.Write(data)
				<-answers // it is written
			}
			return
		}
		l.mu.Unlock()
		if _, werr := server.Write(data); err != nil || werr != nil {
			if !errors.Is(err, io.EOF) {
				return
			}
			return
		}
	}
}
