package adminapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// judge compares answers with the document.
type judge struct {
	t         *testing.T
	compiler  *jsonschema.Compiler
	described map[string]map[string]any
	tried     map[string]bool
	http      *http.Client
}

// newJudge reads the document, and takes what it does not describe for wrong: an object has
// no other fields.
func newJudge(t *testing.T, socket string) *judge {
	t.Helper()
	d := document(t)
	for _, s := range d["components"].(map[string]any)["schemas"].(map[string]any) {
		s.(map[string]any)["additionalProperties"] = false
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	return &judge{t: t, compiler: c, described: operations(t, d), tried: make(map[string]bool), http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// fits fails where a JSON value is not what the document says of an answer of an operation,
// "GET /v1/status", with a status.
func (j *judge) fits(operation string, status int, contentType string, value []byte) {
	j.t.Helper()
	method, path, _ := strings.Cut(operation, " ")
	escaped := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	place := fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%d/content/%s/schema", escaped.Replace(path), strings.ToLower(method), status, escaped.Replace(contentType))
	if status != http.StatusOK {
		place = "openapi.json#/components/schemas/Error"
		responses := j.described[operation]["responses"].(map[string]any)
		if responses[fmt.Sprint(status)] == nil {
			j.t.Errorf("%s: the document has no answer %d", operation, status)
		}
	}
	schema, err := j.compiler.Compile(place)
	if err != nil {
		j.t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		j.t.Errorf("%s: %v in\n%s", operation, err, value)
	}
	if list, ok := v.([]any); ok && len(list) == 0 {
		j.t.Errorf("%s: the list is empty, so nothing was compared", operation)
	}
}

// ask does an operation at a path and compares the answer. body is "" for none.
func (j *judge) ask(operation, path, body string, want int) {
	j.t.Helper()
	method, _, _ := strings.Cut(operation, " ")
	req, err := http.NewRequestWithContext(j.t.Context(), method, "http://relay"+path, strings.NewReader(body))
	if err != nil {
		j.t.Fatal(err)
	}
	res, err := j.http.Do(req)
	if err != nil {
		j.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		j.t.Fatal(err)
	}
	j.tried[operation] = true
	contentType := res.Header.Get("Content-Type")
	switch content := j.described[operation]["responses"].(map[string]any)["200"].(map[string]any)["content"].(map[string]any); {
	case j.described[operation] == nil || res.StatusCode != want:
		j.t.Errorf("%s %s: %d %s", method, path, res.StatusCode, text)
	case want == http.StatusOK && content[contentType] == nil:
		j.t.Errorf("%s: Content-Type %q is not described", operation, contentType)
	case contentType == "application/json":
		j.fits(operation, res.StatusCode, contentType, text)
	case len(text) == 0:
		j.t.Errorf("%s: an empty answer", operation)
	}
}

// watch compares the events of one attempt, which begins once they are awaited.
func (j *judge) watch(operation, path string, begin func()) {
	j.t.Helper()
	req, err := http.NewRequestWithContext(j.t.Context(), http.MethodGet, "http://relay"+path, http.NoBody)
	if err != nil {
		j.t.Fatal(err)
	}
	res, err := j.http.Do(req)
	if err != nil {
		j.t.Fatal(err)
	}
	defer res.Body.Close()
	begin()
	n := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); n++ {
		j.fits(operation, res.StatusCode, res.Header.Get("Content-Type"), lines.Bytes())
	}
	if n < 5 {
		j.t.Errorf("%s: %d events", operation, n)
	}
	j.tried[operation] = true
}

const sentReport = `{"organization-name":"Sender","date-range":{"start-datetime":"%[1]sT00:00:00Z","end-datetime":"%[1]sT23:59:59Z"},"contact-info":"tls@sender.example","report-id":"1",` +
	`"policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: testing","mx: mx1.own.example","max_age: 86400"],"policy-domain":"own.example","mx-host":["mx1.own.example"]},` +
	`"summary":{"total-successful-session-count":9,"total-failure-session-count":2},"failure-details":[{"result-type":"certificate-expired","receiving-mx-hostname":"mx1.own.example","failed-session-count":2}]}]}`

// The answers of a relay to every GET, and to most of what changes something, are what the
// document says.
func TestAnswersAreThoseOfTheDocument(t *testing.T) {
	w := e2e.New(t, "[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\n[[publish]]\ndomains = [\"own.example\"]\nmode = \"testing\"\nmx = [\"mx1.own.example\"]\n[reports]\naddress = \"drop@own.example\"\n")
	good, busy := w.Host("mx.good.example"), w.Host("mx.busy.example")
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}, TLSRPT: "mailto:x@reports.example", Policy: e2e.PolicyFor("enforce", good.Name)})
	w.Domain("busy.example", testnet.Domain{MX: []string{busy.Name}})
	w.SetFaults(busy, testnet.Faults{Replies: map[string]string{"rcpt": "452 4.2.2 the mailbox is full"}})
	sent := w.Send("anna@sender.example", "kurt@good.example")
	w.Attempted(sent)
	waits, removed, bounced := w.Send("anna@sender.example", "kurt@busy.example"), w.Send("anna@sender.example", "lena@busy.example"), w.Send("anna@sender.example", "otto@busy.example")
	for _, id := range []string{waits, removed, bounced} {
		w.Deferred(id)
	}
	today, yesterday := time.Now().UTC(), time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	j := newJudge(t, filepath.Join(w.Dir, "stsrelay.sock"))

	j.ask("POST /v1/received", "/v1/received?name=report.json", fmt.Sprintf(sentReport, yesterday), 200)
	if _, err := e2e.SendMail(w.Addr, "anna@sender.example", "Subject: no report\r\n\r\nx\r\n", "drop@own.example"); err != nil {
		t.Fatal(err)
	}
	var reports []struct{ ID string }
	if err := w.Admin().Get(t.Context(), "/v1/received", nil, &reports); err != nil || len(reports) != 1 {
		t.Fatal(err, reports)
	}
	j.ask("POST /v1/queue/{action}", "/v1/queue/remove", `{"ids":["`+removed+`"]}`, 200)
	j.ask("POST /v1/queue/{action}", "/v1/queue/bounce", `{"ids":["`+bounced+`","01ZZZZZZZZZZZZZZZZZZZZZZZZ"]}`, 200)
	j.ask("POST /v1/queue/{action}", "/v1/queue/bounce", `{}`, 400)
	j.ask("POST /v1/queue/{action}", "/v1/queue/hold", `{"ids":["`+waits+`"]}`, 200)
	j.ask("GET /v1/queue", "/v1/queue?state=held", "", 200)
	j.ask("POST /v1/queue/{action}", "/v1/queue/release", `{"ids":["`+waits+`"]}`, 200)
	since := today.AddDate(0, 0, -1).Format(time.RFC3339)
	until := today.AddDate(0, 0, 1).Format(time.RFC3339)
	for operation, path := range map[string]string{
		"GET /v1/status": "", "GET /v1/live": "", "GET /v1/store": "", "GET /v1/openapi.yaml": "", "GET /v1/queue": "", "GET /v1/queue/export": "", "GET /v1/summary": "", "GET /v1/trash": "",
		"GET /v1/policies": "", "GET /v1/history": "", "GET /v1/reports": "", "GET /v1/publish": "", "GET /v1/received": "", "GET /v1/received-mails": "", "GET /v1/received-summary": "",
		"GET /v1/queue/{id}": "/v1/queue/" + waits, "GET /v1/queue/{id}/content": "/v1/queue/" + waits + "/content", "GET /v1/queue/{id}/trace": "/v1/queue/" + waits + "/trace",
		"GET /v1/policies/{domain}": "/v1/policies/good.example", "GET /v1/policies/{domain}/stored": "/v1/policies/good.example/stored",
		"GET /v1/history/{id}": "/v1/history/" + bounced, "GET /v1/history/{id}/evidence": "/v1/history/" + sent + "/evidence", "GET /v1/history-evidence": "/v1/history-evidence?from=anna@sender.example&since=" + since, "GET /v1/history-summary": "/v1/history-summary?since=" + since + "&until=" + until,
		"GET /v1/reports/{day}": "/v1/reports/" + today.Format(time.DateOnly), "GET /v1/received/{id}": "/v1/received/" + reports[0].ID,
	} {
		if path == "" {
			_, path, _ = strings.Cut(operation, " ")
		}
		j.ask(operation, path, "", 200)
	}
	j.watch("GET /v1/trace", "/v1/trace?domain=busy.example&attempts=1", func() {
		if _, err := w.Relay.Operator().Change(t.Context(), operator.Actor{}, operator.Retry, operator.Selection{IDs: []string{waits}}); err != nil {
			t.Error(err)
		}
	})
	j.ask("POST /v1/trash/restore", "/v1/trash/restore", `{"all":true}`, 200)
	for operation, body := range map[string]string{
		"POST /v1/queue/pause": "", "POST /v1/queue/resume": "", "POST /v1/queue/undo": `{"within":"10m"}`, "POST /v1/trash/empty": "", "POST /v1/reload": "",
		"POST /v1/history/forget": `{"address":"kurt@good.example","dry_run":true}`,
	} {
		_, path, _ := strings.Cut(operation, " ")
		j.ask(operation, path, body, 200)
	}
	j.ask("POST /v1/policies/{domain}/refresh", "/v1/policies/good.example/refresh", "", 200)
	j.ask("POST /v1/policies/{domain}/refresh", "/v1/policies/busy.example/refresh", "", 502)
	j.ask("DELETE /v1/policies/{domain}", "/v1/policies/good.example", "", 200)
	j.ask("DELETE /v1/policies/{domain}", "/v1/policies/good.example", "", 404)
	j.ask("POST /v1/reports/{day}/send", "/v1/reports/yesterday/send", "", 400)
	j.ask("POST /v1/reports/{day}/send", "/v1/reports/2026-11-23/send?domain=none.example", "", 404)
	j.ask("POST /v1/publish/{domain}/renew", "/v1/publish/other.example/renew", "", 409)
	j.ask("GET /v1/queue/{id}", "/v1/queue/01ZZZZZZZZZZZZZZZZZZZZZZZZ", "", 404)
	j.ask("GET /v1/fleet", "/v1/fleet", "", 409) // package relay has a test with one
	j.ask("POST /v1/drain", "/v1/drain", `{"to":"nowhere"}`, 400)
	j.ask("POST /v1/queue/import", "/v1/queue/import", "no export", 422)
	for operation := range j.described {
		if !j.tried[operation] {
			t.Errorf("no answer of %s was compared", operation)
		}
	}
}
