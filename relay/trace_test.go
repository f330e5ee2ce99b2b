package relay_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/trace"
)

// traced watches one attempt at a domain that begin leads to, and returns its events as
// lines of "step text".
func traced(w *e2e.World, domain string, begin func()) string {
	w.T.Helper()
	body, err := w.Admin().Open(w.Context(), http.MethodGet, "/v1/trace", url.Values{"domain": {domain}, "attempts": {"1"}}, nil)
	if err != nil {
		w.T.Fatal(err)
	}
	defer body.Close()
	begin()
	data, err := io.ReadAll(body)
	if err != nil {
		w.T.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		var e trace.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Domain != domain || e.QueueID == "" || e.At.IsZero() {
			w.T.Fatalf("%v: %s", err, line)
		}
		out.WriteString(string(e.Step) + " " + e.Text + "\n")
	}
	return out.String()
}

// contains fails the test for each part that is not in a trace, in this order.
func contains(t *testing.T, got string, parts ...string) {
	t.Helper()
	rest := got
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("there is no %q, or not in its place, in\n%s", part, got)
			return
		}
		rest = after
	}
}

// A trace tells all that decides about a delivery, and never content or a password.
func TestATraceTellsWhyMailGoesOrWaits(t *testing.T) {
	w := e2e.New(t, "")
	bad := w.Host("mx.sts.example")
	w.SetFaults(bad, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.Domain("sts.example", testnet.Domain{MX: []string{bad.Name}, Policy: e2e.PolicyFor("enforce", bad.Name)})
	signed := w.DANEHost("mx.dane.example")
	w.Domain("dane.example", testnet.Domain{MX: []string{signed.Name}})
	w.DNS.Secure("dane.example", true)

	id := ""
	refused := traced(w, "sts.example", func() { id = w.Send("a@example.com", "b@sts.example") })
	contains(t, refused, "attempt attempt 1", "policy MTA-STS of sts.example, mode enforce", "fetched now", "host the hosts come from: mx, not protected", "host has its turn",
		"connect connected to "+bad.IP, "received 220", "sent EHLO", "sent STARTTLS", "tls TLS 1.3", "self-signed", "judge MTA-STS: ", "nothing may be sent", "host left: ", "result deferred: b@sts.example", "end deferred")
	if strings.Contains(refused, "MAIL FROM") {
		t.Errorf("mail went out:\n%s", refused)
	}
	var kept []trace.Transcript
	if err := w.Admin().Get(w.Context(), "/v1/queue/"+id+"/trace", nil, &kept); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || kept[0].Domain != "sts.example" || kept[0].Events[len(kept[0].Events)-1].Step != trace.Ended {
		t.Errorf("the transcript: %+v", kept)
	}

	delivered := traced(w, "dane.example", func() { w.Send("a@example.com", "b@dane.example") })
	contains(t, delivered, "dns dane.example MX [AD]: ", "_25._tcp.mx.dane.example TLSA [AD]: ", "judge DANE: satisfied", "sent MAIL FROM:<a@example.com>", "octets of content)", "result delivered: b@dane.example", "end delivered")
	again := traced(w, "dane.example", func() { w.Send("a@example.com", "c@dane.example") })
	contains(t, again, "is used again, for its message 2", "judge DANE: satisfied", "sent RCPT TO:<c@dane.example>", "result delivered")
	for _, text := range []string{delivered, again} {
		if strings.Contains(text, "Hello") || strings.Contains(text, "Subject") {
			t.Errorf("content is in the trace:\n%s", text)
		}
	}
}

func TestATraceMasksPasswords(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		t.Run(mechanism, func(t *testing.T) {
			const user, password = "relay-user", "tr4ce-secret"
			w := e2e.New(t, "")
			w.Stop()
			if err := os.WriteFile(filepath.Join(w.Dir, "password"), []byte(password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			h := w.Host("smart.example")
			h.Alias("587")
			w.SetFaults(h, testnet.Faults{Login: user + ":" + password, AuthMechanism: mechanism})
			w.Start("[[domain]]\nname = \"routed.example\"\nroute = \"smart.example:587\"\nuser = \"" + user + "\"\npassword_file = \"password\"\n")
			got := traced(w, "routed.example", func() { w.Send("a@example.com", "b@routed.example") })
			contains(t, got, "sent AUTH "+mechanism, "***", "received 235", "result delivered")
			for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(password)), base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))} {
				if strings.Contains(got, secret) {
					t.Errorf("%q is in the trace:\n%s", secret, got)
				}
			}
		})
	}
}

func TestFourTracesRunAtATime(t *testing.T) {
	w := e2e.New(t, "")
	open := func() (io.ReadCloser, error) {
		return w.Admin().Open(w.Context(), http.MethodGet, "/v1/trace", url.Values{"domain": {"a.example"}}, nil)
	}
	var last io.ReadCloser
	for range 4 {
		body, err := open()
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		last = body
	}
	if _, err := open(); err == nil || err.Error() != trace.ErrTooMany.Error() {
		t.Errorf("a fifth: %v", err)
	}
	last.Close()
	w.WaitFor("a place for another", func(*queue.Queue) bool {
		body, err := open()
		if err == nil {
			body.Close()
		}
		return err == nil
	})
	if _, err := w.Relay.Operator().Trace(trace.Filter{}); operator.HTTPStatus(err) != http.StatusBadRequest {
		t.Errorf("a trace of everything: %v", err)
	}
}
