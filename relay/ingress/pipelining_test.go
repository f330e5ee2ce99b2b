package ingress

import (
	"strings"
	"testing"
)

// once is what one read of the connection brings.
func (c *raw) once() string {
	c.t.Helper()
	buf := make([]byte, 4096)
	n, err := c.conn.Read(buf)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(buf[:n])
}

// Commands that come together get their replies together (RFC 2920, 3.2),
// refusals included, and DATA's go-ahead with them.
func TestRepliesToAGroupOfCommandsComeTogether(t *testing.T) {
	for _, tt := range []struct {
		name, group string
		want        []string // beginnings of the replies
	}{
		{"envelope", "MAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n", []string{"250 ", "250 ", "250 ", "354 "}},
		{"a recipient that is refused", "MAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<nobody>\r\nDATA\r\n", []string{"250 ", "250 ", "501 ", "354 "}},
		{"reset first", "RSET\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", []string{"250 ", "250 ", "250 ", "354 "}},
		{"the last command only begun", "MAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.org>\r\nDA", []string{"250 ", "250 "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newServer(t, nil).hello()
			c.send(tt.group)
			got := strings.SplitAfter(strings.TrimSuffix(c.once(), "\r\n"), "\r\n")
			if len(got) != len(tt.want) {
				t.Fatalf("the first packet holds %q", got)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("reply %d is %q, want %q", i, got[i], want)
				}
			}
		})
	}
}

// A client that waits for the replies to its envelope before it sends a chunk
// gets them, although the chunk's own reply comes later.
func TestRepliesDoNotWaitForAChunk(t *testing.T) {
	d := newServer(t, nil)
	c := d.hello()
	c.send("MAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.org>\r\nBDAT 15 LAST\r\n")
	c.want("250 ")
	c.want("250 ")
	c.send("Subject: x\r\n\r\n.")
	c.want("250 2.0.0 queued")
	if got := d.contents(); len(got) != 1 {
		t.Errorf("queued: %q", got)
	}
}
