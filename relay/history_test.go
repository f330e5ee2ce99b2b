package relay_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net/smtp"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// fingerprint is that of the certificate that a host shows, seen by another client.
func fingerprint(w *e2e.World, h *testnet.Host) string {
	t := w.T
	t.Helper()
	conn, err := w.DialContext(w.Context(), "tcp", h.IP+":25")
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, h.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { //nolint:gosec // it is looked at, and nothing is sent
		t.Fatal(err)
	}
	state, _ := c.TLSConnectionState()
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	return hex.EncodeToString(sum[:])
}

// The history has each delivery with who vouched for its host, and evidence of it names
// the certificate that another client sees there.
func TestTheHistoryProvesHowMessagesTravelled(t *testing.T) {
	w := e2e.New(t, "")
	sts, verified, clear, broken := w.Host("mx.sts.example"), w.Host("mx.verified.example"), w.Host("mx.clear.example"), w.Host("mx.broken.example")
	w.SetFaults(clear, testnet.Faults{NoStartTLS: true})
	w.SetFaults(broken, testnet.Faults{GarbageAfter220: true})
	selfSigned := w.Host("mx.encrypted.example")
	w.SetFaults(selfSigned, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.Domain("sts.example", testnet.Domain{MX: []string{sts.Name}, Policy: e2e.PolicyFor("enforce", sts.Name)})
	for _, h := range []*testnet.Host{verified, clear, broken, selfSigned} {
		w.Domain(strings.TrimPrefix(h.Name, "mx."), testnet.Domain{MX: []string{h.Name}})
	}
	signed := w.DANEHost("mx.dane.example")
	w.Domain("dane.example", testnet.Domain{MX: []string{signed.Name}})
	w.DNS.Secure("dane.example", true)
	for _, row := range []struct {
		domain string
		host   *testnet.Host
		proof  history.Proof
		says   string // in the text of the evidence
	}{
		{"dane.example", signed, history.ProofDANE, "TLSA record that DNSSEC signs (3 1 1 "},
		{"sts.example", sts, history.ProofSTS, "sts.example publishes a policy (id "},
		{"verified.example", verified, history.ProofVerified, "was said by DNS without a signature"},
		{"encrypted.example", selfSigned, history.ProofEncrypted, "nobody vouched for the host"},
		{"clear.example", clear, history.ProofNone, "No TLS. The message went in clear"},
		{"broken.example", broken, history.ProofNone, "the handshake failed"},
	} {
		t.Run(row.domain, func(t *testing.T) {
			w := w.In(t)
			id := w.Send("anna@sender.example", "kurt@"+row.domain)
			w.WaitUntilGone(id)
			var list []history.Record
			w.WaitFor("the record of a delivery", func(*queue.Queue) bool { // it comes behind the commit of the result
				list = nil
				err := w.Admin().Get(t.Context(), "/v1/history", url.Values{"to": {"KURT@" + row.domain}, "event": {"attempt"}}, &list)
				return err == nil && len(list) == 1
			})
			r := list[0]
			if r.QueueID != id || r.Verdict != "delivered" || r.Host != row.host.Name || r.TLS == nil || r.TLS.Proof != row.proof || !strings.HasPrefix(r.Reply, "250 ") {
				t.Errorf("%+v, TLS %+v", r, r.TLS)
			}
			var all []history.Evidence
			if err := w.Admin().Get(t.Context(), "/v1/history/"+url.PathEscape(r.MessageID)+"/evidence", nil, &all); err != nil || len(all) != 1 || len(all[0].Deliveries) != 1 {
				t.Fatalf("%+v, %v", all, err)
			}
			c := all[0].Deliveries[0].TLS.Certificate
			if row.proof == history.ProofNone {
				if c != nil {
					t.Errorf("a certificate without TLS: %+v", c)
				}
			} else if want := fingerprint(w, row.host); c == nil || c.SHA256 != want {
				t.Errorf("certificate %+v, and another client sees %s", c, want)
			}
			text, err := history.Text(all, "en")
			if err != nil || !bytes.Contains(text, []byte(row.says)) {
				t.Errorf("%v: no %q in\n%s", err, row.says, text)
			}
		})
	}
}

// What waits, what the operator did, and what came before a restart are there; an
// address is forgotten.
func TestTheHistoryOfAMessageIsWhole(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.SetFaults(h, testnet.Faults{Replies: map[string]string{"rcpt": "450 4.2.1 later"}})
	id := w.Send("anna@sender.example", "kurt@a.example")
	w.Deferred(id)
	if n := w.Bounce(operator.Selection{IDs: []string{id}}); n != 1 {
		t.Fatalf("%d bounced", n)
	}
	w.WaitUntilGone(id)
	w.Stop()
	w.Start("")
	var list []history.Record
	if err := w.Admin().Get(t.Context(), "/v1/history/"+id[:12], nil, &list); err != nil || len(list) != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	slices.SortStableFunc(list, func(a, b history.Record) int {
		return slices.Index(history.Kinds, a.Kind) - slices.Index(history.Kinds, b.Kind)
	})
	if n := list[3]; n.Kind != history.Notice || n.Notice == "" || n.Notice == id || !slices.Equal(n.To, []string{"anna@sender.example"}) {
		t.Errorf("%+v", n)
	}
	if !strings.HasPrefix(list[2].By, "socket") || list[0].Subject != "" {
		t.Errorf("%+v", list)
	}
	if list[0].Kind != history.Accepted || list[1].Verdict != "deferred" || list[1].Reply != "450 4.2.1 later" || list[2].Kind != history.Operator || !strings.Contains(list[2].What, "bounced by the operator") {
		t.Errorf("%+v", list)
	}
	var out operator.Affected
	if err := w.Admin().Do(t.Context(), "POST", "/v1/history/forget", map[string]any{"address": "kurt@a.example"}, &out); err != nil || out.Affected != 3 {
		t.Errorf("%+v, %v", out, err)
	}
	list = nil
	if err := w.Admin().Get(t.Context(), "/v1/history", url.Values{"to": {"kurt@a.example"}}, &list); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// What clients are refused is in the history, and so is the Subject where that is asked for.
func TestTheHistoryHasRefusalsAndSubjects(t *testing.T) {
	w := e2e.New(t, "paused = true\n[history]\nsubject = true\n")
	if err := w.Dialogue("250 EHLO client.example", "250 MAIL FROM:<anna@sender.example>", "501 RCPT TO:<nobody>"); err != nil {
		t.Fatal(err)
	}
	id, err := e2e.SendMail(w.Addr, "anna@sender.example", "Subject: =?utf-8?q?Rechnung_f=C3=BCr?=\r\n Oktober\r\n\r\nx\r\n", "kurt@a.example")
	if err != nil {
		t.Fatal(err)
	}
	var list []history.Record
	if err := w.Admin().Get(t.Context(), "/v1/history", url.Values{"event": {"refused"}}, &list); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if r := list[0]; r.Client != "127.0.0.1" || r.From != "anna@sender.example" || r.What != "RCPT" || !strings.HasPrefix(r.Reply, "501 ") {
		t.Errorf("%+v", r)
	}
	list = nil
	if err := w.Admin().Get(t.Context(), "/v1/history/"+id, nil, &list); err != nil || len(list) != 1 || list[0].Subject != "Rechnung für Oktober" {
		t.Errorf("%+v, %v", list, err)
	}
}

// How all mail of a search travelled is one document; a message that was not delivered has no
// part in it, and one of before the search is whole.
func TestEvidenceOfASearchIsOneDocument(t *testing.T) {
	w := e2e.New(t, "[admin]\nhttp = \"127.0.0.1:0\"\n")
	good, busy := w.Host("mx.a.example"), w.Host("mx.busy.example")
	w.Domain("a.example", testnet.Domain{MX: []string{good.Name}})
	w.Domain("busy.example", testnet.Domain{MX: []string{busy.Name}})
	w.SetFaults(busy, testnet.Faults{Replies: map[string]string{"rcpt": "450 4.2.1 later"}})
	ids := make(map[string]bool)
	for range 3 {
		id := w.Send("invoices@sender.example", "kurt@a.example", "lena@busy.example")
		w.Attempted(id)
		ids[id] = true
	}
	w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	w.Attempted(w.Send("invoices@sender.example", "otto@busy.example"))
	var all []history.Evidence
	if err := w.Admin().Get(t.Context(), "/v1/history-evidence", url.Values{"from": {"Invoices@sender.example"}}, &all); err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, e := range all {
		if !ids[e.QueueID] || e.Accepted.IsZero() || len(e.Deliveries) != 1 || len(e.To) != 2 || len(e.Chains) != 1 || !e.Chains[0].Whole {
			t.Errorf("%+v", e)
		}
	}
	path := "/history/evidence?from=invoices%40sender.example"
	if body := page(w, "/history?from=invoices@sender.example"); !strings.Contains(body, `href="`+path+`"`) {
		t.Errorf("no link to the document:\n%s", body)
	}
	status, header, body := browse(w, path)
	if status != 200 || !strings.HasPrefix(header.Get("Content-Disposition"), "attachment") || strings.Count(body, "kurt@a.example") < 3 || strings.Contains(body, "anna@sender.example") {
		t.Errorf("%d\n%s", status, body)
	}
	for path, want := range map[string]int{"/history/evidence?from=nobody@sender.example": 404, "/history/evidence?since=x": 400} {
		if status, _, _ := browse(w, path); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
}
