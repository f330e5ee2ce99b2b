package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
)

// ownCertificates are made once: an RSA key takes its time.
var ownCertificates = sync.OnceValues(func() ([]tls.Certificate, error) {
	dir, err := os.MkdirTemp("", "stsrelay")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return SelfSigned("relay.example.com", dir)
})

// testServer is a running server with a real queue behind it.
type testServer struct {
	t      testing.TB
	server *Server
	queue  *queue.Queue
	addr   string
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func newServer(t testing.TB, change func(*Options)) *testServer {
	t.Helper()
	dir := t.TempDir()
	st, err := badger.Open(badger.Options{Dir: dir + "/queue"})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(queue.Options{Store: st, Paused: true})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ownCertificates()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Queue: q, Hostname: "relay.example.com",
		Listeners: []Listener{{Address: "127.0.0.1:0", TLS: "starttls", Allow: loopback}},
		TLS:       func(v uint16) *tls.Config { return &tls.Config{Certificates: certs, MinVersion: v} },
		Users: func(_ context.Context, name, password string) (User, bool) {
			return User{Name: name}, name == "exchange" && password == "secret"
		},
		Limits: Limits{AuthDelay: time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		q.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &testServer{t: t, server: s, queue: q, addr: s.Addrs()[0].String()}
}

// raw is a client that sends what it is told, octet by octet.
type raw struct {
	t    testing.TB
	conn net.Conn
	br   *bufio.Reader
}

func (d *testServer) dial() *raw {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &raw{t: d.t, conn: c, br: bufio.NewReader(c)}
}

// hello greets and gets past EHLO.
func (d *testServer) hello() *raw {
	c := d.dial()
	c.want("220 ")
	c.do("EHLO client.example", "250 ")
	return c
}

func (c *raw) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("send %.60q: %v", s, err)
	}
}

// reply reads one reply, of one line or several, and returns its last line.
func (c *raw) reply() string {
	c.t.Helper()
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			return "EOF"
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) < 6 {
			c.t.Fatalf("malformed reply %q", line)
		}
		if line[3] == ' ' {
			return strings.TrimSpace(line)
		}
	}
}

func (c *raw) want(prefix string) string {
	c.t.Helper()
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("reply %q, want %q", got, prefix)
	}
	return got
}

func (c *raw) do(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.want(prefix)
}

func (c *raw) startTLS() {
	c.t.Helper()
	c.do("STARTTLS", "220 ")
	t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.br = t, bufio.NewReader(t)
	c.do("EHLO client.example", "250 ")
}

// contents are the bodies of all queued messages below their trace lines.
func (d *testServer) contents() (out []string) {
	d.t.Helper()
	err := d.queue.List(context.Background(), queue.Filter{}, func(m queue.Message) bool {
		r, err := d.queue.Open(m.ID)
		if err != nil {
			d.t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			d.t.Fatal(err)
		}
		out = append(out, string(data))
		return true
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

const headers = "Date: x\r\nMessage-ID: <1@x>\r\n\r\n"

// body is what stands below the headers of a content.
func body(content string) string {
	_, b, _ := strings.Cut(content, headers)
	return b
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// bdat sends a message in one chunk.
func (c *raw) bdat(content, want string) {
	c.t.Helper()
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content))
	c.want(want)
}

func (d *testServer) messages() (out []queue.Message) {
	err := d.queue.List(context.Background(), queue.Filter{}, func(m queue.Message) bool { out = append(out, m); return true })
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}
