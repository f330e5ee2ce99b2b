package inbound

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// readAll returns what is found.
func readAll(t *testing.T, data, name string) (found []Found) {
	t.Helper()
	if err := Read(strings.NewReader(data), name, func(f Found) bool { found = append(found, f); return true }); err != nil {
		t.Fatal(err)
	}
	return found
}

// readOne returns the one report that there is.
func readOne(t *testing.T, data, name string) Found {
	t.Helper()
	found := readAll(t, data, name)
	if len(found) != 1 || found[0].Err != nil {
		t.Fatalf("found %+v", found)
	}
	return found[0]
}

func compress(data string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(data))
	_ = z.Close()
	return b.String()
}

func archive(files map[string]string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range files {
		w, _ := z.Create(name)
		_, _ = w.Write([]byte(data))
	}
	_ = z.Close()
	return b.String()
}

// whole is a report with nothing odd.
const whole = `{"organization-name":"Sender Inc.","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-01T23:59:59Z"},
"contact-info":"tls@sender.example","report-id":"2026-11-01T00:00:00Z_r.example","policies":[{"policy":{"policy-type":"sts",
"policy-string":["version: STSv1","mode: testing","mx: *.r.example","max_age: 604800"],"policy-domain":"r.example","mx-host":["*.r.example"]},
"summary":{"total-successful-session-count":40,"total-failure-session-count":3},"failure-details":[{"result-type":"certificate-expired",
"sending-mta-ip":"192.0.2.1","receiving-mx-hostname":"mx1.r.example","receiving-mx-helo":"mx1","receiving-ip":"198.51.100.7","failed-session-count":3,
"additional-information":"https://sender.example/1","failure-reason-code":"x509"}]}]}`

func wholeReport() *Report {
	return &Report{
		Organization: "Sender Inc.", ID: "2026-11-01T00:00:00Z_r.example", Contact: "tls@sender.example", Domain: "r.example",
		Start: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 11, 1, 23, 59, 59, 0, time.UTC),
		Policies: []Policy{{
			Type: "sts", Domain: "r.example", Strings: []string{"version: STSv1", "mode: testing", "mx: *.r.example", "max_age: 604800"}, MXHosts: []string{"*.r.example"},
			Successful: 40, Failed: 3,
			Details: []Detail{{ResultType: "certificate-expired", SendingIP: "192.0.2.1", MXHost: "mx1.r.example", MXHelo: "mx1", ReceivingIP: "198.51.100.7", Sessions: 3,
				Reason: "x509", Information: "https://sender.example/1"}},
		}},
	}
}

// mailOf returns a mail as senders write it, with a report attached.
func mailOf(contentType, partType, attached string) string {
	text := base64.StdEncoding.EncodeToString([]byte(attached))
	return strings.ReplaceAll("Return-Path: <noreply@sender.example>\nFrom: =?UTF-8?Q?TLS_f=C3=BCr_alle?= <noreply@sender.example>\nTo: tls@r.example\n"+
		"Date: Mon, 2 Nov 2026 04:05:06 +0000\nSubject: Report Domain: r.example Submitter: sender.example\n Report-ID: <1@sender.example>\nMessage-ID: <1@sender.example>\n"+
		"TLS-Report-Domain: r.example\nTLS-Report-Submitter: sender.example\nMIME-Version: 1.0\n"+contentType+
		"\n\nThis is MIME.\n--b1\nContent-Type: text/plain; charset=utf-8\n\nThis is an aggregate TLS report from sender.example\n\n--b1\n"+partType+
		"\nContent-Disposition: attachment; filename=\"sender.example!r.example!1793491200!1793577599!1.json.gz\"\nContent-Transfer-Encoding: base64\n\n"+text[:20]+"\n"+text[20:]+"\n--b1--\n", "\n", "\r\n")
}

const (
	reportType = "Content-Type: multipart/report; report-type=\"tlsrpt\"; boundary=\"b1\""
	gzipType   = "Content-Type: application/tlsrpt+gzip"
)

func TestAReportIsReadFromEveryForm(t *testing.T) {
	mail := mailOf(reportType, gzipType, compress(whole))
	for _, tt := range []struct{ name, data string }{
		{"plain JSON", whole},
		{"JSON behind a byte order mark and blanks", "\xef\xbb\xbf\r\n  " + whole},
		{"gzip", compress(whole)},
		{"gzip within gzip", compress(compress(whole))},
		{"zip", archive(map[string]string{"sender.example!r.example!1!2.json": whole})},
		{"zip of gzip beside another file", archive(map[string]string{"readme.txt": "hello", "a.json.gz": compress(whole)})},
		{"mail", mail},
		{"mail with newlines alone", strings.ReplaceAll(mail, "\r\n", "\n")},
		{"mail whose type breaks the line without white space", mailOf("Content-Type: multipart/report;\nboundary=\"b1\"; report-type=tlsrpt", gzipType, compress(whole))},
		{"mail of type multipart/mixed", mailOf("Content-Type: multipart/mixed; boundary=b1", gzipType, compress(whole))},
		{"mail with a type that is no type", mailOf("Content-Type: multipart/report; boundary=b1; report-type=tls rpt; =", gzipType, compress(whole))},
		{"gzip that is said to be something else", mailOf(reportType, "Content-Type: application/octet-stream", compress(whole))},
		{"gzip that is said to be JSON", mailOf(reportType, "Content-Type: application/tlsrpt+json", compress(whole))},
		{"JSON that is said to be gzip", mailOf(reportType, gzipType, whole)},
		{"zip in a mail", mailOf(reportType, "Content-Type: application/zip", archive(map[string]string{"a.json": whole}))},
		{"a mail that is the report alone", "From: a@sender.example\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: BASE64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(compress(whole)))},
		{"JSON as quoted-printable text", "Subject: x\n\n" + whole},
		{"a mail with a list's footer that was passed on as an attachment of a signed mail", "From: me@r.example\r\nContent-Type: multipart/signed; boundary=b0\r\n\r\n--b0\r\nContent-Type: multipart/mixed; boundary=b2\r\n\r\n--b2\r\n\r\nSee below.\r\n--b2\r\nContent-Type: message/rfc822\r\n\r\n" +
			"TLS-Report-Domain: r.example\r\nContent-Type: multipart/mixed; boundary=b3\r\n\r\n--b3\r\n" + mail[strings.Index(mail, "Content-Type: multipart/report"):] + "\r\n--b3\r\n\r\nThe list\r\n--b3--\r\n--b2--\r\n--b0--\r\n"},
		{"a mail that was passed on as an attachment", "From: me@r.example\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n--b0\r\n\r\nSee below.\r\n--b0\r\nContent-Type: message/rfc822\r\n\r\n" + mail + "\r\n--b0--\r\n"},
		{"mail in a zip", archive(map[string]string{"report.eml": mail})},
		{"mbox", "From noreply@sender.example Mon Nov  2 04:05:06 2026\n" + strings.ReplaceAll(mail, "\r\n", "\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := readOne(t, tt.data, "")
			if want := wholeReport(); !reflect.DeepEqual(f.Report, want) {
				t.Errorf("read\n%+v\nwant\n%+v", f.Report, want)
			}
			z, err := gzip.NewReader(bytes.NewReader(f.Original))
			if err != nil {
				t.Fatal(err)
			}
			if original, err := io.ReadAll(z); err != nil || strings.TrimSpace(string(original)) != whole {
				t.Errorf("the original: %v, %q", err, original)
			}
		})
	}
}

func TestTheHeaderOfTheMailIsReturned(t *testing.T) {
	m := readOne(t, mailOf(reportType, gzipType, compress(whole)), "").Mail
	want := &Mail{From: "TLS für alle <noreply@sender.example>", Subject: "Report Domain: r.example Submitter: sender.example Report-ID: <1@sender.example>",
		MessageID: "<1@sender.example>", Date: time.Date(2026, 11, 2, 4, 5, 6, 0, time.UTC), ReportDomain: "r.example", Submitter: "sender.example"}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("%+v", m)
	}
}

// Each row changes one thing of a whole report.
func TestOddReportsAreRead(t *testing.T) {
	for _, tt := range []struct {
		name, old, new string
		change         func(*Report)
		odd            string
	}{
		{"no sending-mta-ip (Microsoft)", `"sending-mta-ip":"192.0.2.1",`, ``, func(r *Report) { r.Policies[0].Details[0].SendingIP = "" }, "no sending-mta-ip"},
		{"no receiving-mx-hostname", `"receiving-mx-hostname":"mx1.r.example",`, ``, func(r *Report) { r.Policies[0].Details[0].MXHost = "" }, "no receiving-mx-hostname"},
		{"policy-string as one text", `["version: STSv1","mode: testing","mx: *.r.example","max_age: 604800"]`, `"version: STSv1\r\nmode: testing\nmx: *.r.example\nmax_age: 604800\n"`, nil, "policy-string is one text and no array"},
		{"mx-host as one text", `"mx-host":["*.r.example"]`, `"mx-host":"*.r.example"`, nil, "mx-host is one text and no array"},
		{"mx-host null", `"mx-host":["*.r.example"]`, `"mx-host":null`, func(r *Report) { r.Policies[0].MXHosts = nil }, ""},
		{"contact-info null", `"tls@sender.example"`, `null`, func(r *Report) { r.Contact = "" }, "null in place of a text"},
		{"an empty text", `"failure-reason-code":"x509"`, `"failure-reason-code":""`, func(r *Report) { r.Policies[0].Details[0].Reason = "" }, "an empty text"},
		{"counts as texts", `:40,`, `:" 40 ",`, nil, "a count as text"},
		{"counts as fractions", `:40,`, `:4.0e1,`, nil, ""},
		{"a negative count", `:40,`, `:-40,`, func(r *Report) { r.Policies[0].Successful = 0 }, "a count that is no number of sessions"},
		{"an endless count", `:40,`, `:1e400,`, func(r *Report) { r.Policies[0].Successful = maxCount }, "a count that is no number of sessions"},
		{"a count that is a word", `:40,`, `:"NaN",`, func(r *Report) { r.Policies[0].Successful = 0 }, "a count as text"},
		{"the end is the next midnight", `2026-11-01T23:59:59Z`, `2026-11-02T00:00:00Z`, func(r *Report) { r.End = r.Start.Add(24 * time.Hour) }, "the end of the day is the next midnight"},
		{"times without a zone", `2026-11-01T23:59:59Z`, `2026-11-01 23:59:59`, nil, ""},
		{"times in another zone", `2026-11-01T23:59:59Z`, `2026-11-02T00:59:59+01:00`, nil, ""},
		{"a time as a number", `"2026-11-01T23:59:59Z"`, `1793577599`, nil, "a number in place of a text"},
		{"angle brackets and plus", `"2026-11-01T00:00:00Z_r.example"`, `"<133+9+@sender.example>"`, func(r *Report) { r.ID = "133+9+@sender.example" }, "report-id in angle brackets"},
		{"no report-id", `"report-id":"2026-11-01T00:00:00Z_r.example",`, ``, func(r *Report) { r.ID = "" }, "no report-id"},
		{"no contact-info", `"contact-info":"tls@sender.example",`, ``, func(r *Report) { r.Contact = "" }, ""},
		{"an unknown result type", `certificate-expired`, `Something-New`, func(r *Report) { r.Policies[0].Details[0].ResultType = "something-new" }, ""},
		{"an unknown field with a tree in it", `"contact-info"`, `"x":{"a":[1,{"b":null}],"c":true},"contact-info"`, nil, ""},
		{"an object in place of the details", `"failure-details":[`, `"failure-details":{"a":[1]},"more":[`, func(r *Report) { r.Policies[0].Details = nil }, "an object in place of a list"},
		{"no object in place of a policy", `"policies":[`, `"policies":[null,`, func(r *Report) {
			r.Policies = append([]Policy{{Domain: "r.example"}}, r.Policies...)
		}, "no object where one belongs"},
		{"details above the summary", `"failed-session-count":3`, `"failed-session-count":5`, func(r *Report) { r.Policies[0].Failed, r.Policies[0].Details[0].Sessions = 5, 5 }, "failure-details count more sessions than the summary"},
		{"a host with capitals and a dot", `mx1.r.example`, `MX1.R.example.`, nil, ""},
		{"no summary", `"summary":{"total-successful-session-count":40,"total-failure-session-count":3},`, ``, func(r *Report) { r.Policies[0].Successful = 0 }, "failure-details count more sessions than the summary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(whole, tt.old) {
				t.Fatal("the row changes nothing")
			}
			got, want := readOne(t, strings.Replace(whole, tt.old, tt.new, 1), "").Report, wholeReport()
			if tt.change != nil {
				tt.change(want)
			}
			if tt.odd != "" && !reflect.DeepEqual(got.Oddities[:1], []string{tt.odd}) || tt.odd == "" && got.Oddities != nil {
				t.Errorf("odd: %q", got.Oddities)
			}
			if got.Oddities = nil; !reflect.DeepEqual(got, want) {
				t.Errorf("read\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// The forms of whole reports as known senders write them.
func TestReportsOfKnownSenders(t *testing.T) {
	for _, tt := range []struct {
		name, file, data       string
		domain, id             string
		successful, failed     int64
		policies, details, odd int
	}{
		{"Google: a day, one policy, no failures", "google.com!r.example!1793491200!1793577599!001.json.gz", `{"organization-name":"Google Inc.","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-01T23:59:59Z"},
			"contact-info":"smtp-tls-reporting@google.com","report-id":"2026-11-01T00:00:00Z_r.example","policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: enforce","mx: mx.r.example","max_age: 604800",""],"policy-domain":"r.example","mx-host":["mx.r.example"]},
			"summary":{"total-successful-session-count":15,"total-failure-session-count":0}}]}`, "r.example", "2026-11-01T00:00:00Z_r.example", 15, 0, 1, 0, 1},
		{"Microsoft: no address of the sender, a plus in the ID", "microsoft.com!r.example!1793491200!1793577599!133.json.gz", `{"organization-name":"Microsoft Corporation","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-01T23:59:59Z"},
			"contact-info":"tlsrpt-noreply@microsoft.com","report-id":"133944+","policies":[{"policy":{"policy-type":"sts","policy-domain":"r.example"},"summary":{"total-successful-session-count":0,"total-failure-session-count":3},
			"failure-details":[{"result-type":"sts-policy-fetch-error","failed-session-count":3}]}]}`, "r.example", "133944+", 0, 3, 1, 1, 2},
		{"names of a mail host that the pattern does not cover", "", `{"organization-name":"Google Inc.","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-01T23:59:59Z"},"contact-info":"x","report-id":"1","policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: enforce","mx: *.mx.provider.example","max_age: 604800"],"policy-domain":"r.example","mx-host":["*.mx.provider.example"]},"summary":{"total-successful-session-count":0,"total-failure-session-count":7},
			"failure-details":[{"result-type":"validation-failure","sending-mta-ip":"192.0.2.3","receiving-ip":"198.51.100.9","receiving-mx-hostname":"r-example.h-v1.mx.provider.example","failed-session-count":7}]}]}`, "r.example", "1", 0, 7, 1, 1, 0},
		{"tlsrpt-reporter: no policy-domain where there is no policy", "sender.example!r.example!1793491200!1793577600!u.json.gz", `{"organization-name":"Sender","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-02T00:00:00Z"},"contact-info":"p@sender.example","report-id":"r@sender.example","policies":[{"policy":{"policy-type":"no-policy-found"},"summary":{"total-successful-session-count":2,"total-failure-session-count":0},"failure-details":[]},
			{"policy":{"policy-type":"tlsa","policy-string":["3 1 1 ab"],"policy-domain":"r.example","mx-host":["mx.r.example"]},"summary":{"total-successful-session-count":1,"total-failure-session-count":1},"failure-details":[{"result-type":"dnssec-invalid","sending-mta-ip":"192.0.2.3","receiving-mx-hostname":"mx.r.example","failed-session-count":1}]}]}`, "r.example", "r@sender.example", 3, 1, 2, 1, 3},
		{"Postfix: the policy domain of TLSA records is their host", "sender.example!r.example!1793491200!1793577599!u.json.gz", `{"organization-name":"Sender","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-01T23:59:59Z"},"contact-info":"p@sender.example","report-id":"1","policies":[
			{"policy":{"policy-type":"tlsa","policy-string":["3 1 1 ab"],"policy-domain":"mx1.r.example"},"summary":{"total-successful-session-count":4,"total-failure-session-count":0}},
			{"policy":{"policy-type":"tlsa","policy-string":["3 1 1 cd"],"policy-domain":"mx.provider.example"},"summary":{"total-successful-session-count":1,"total-failure-session-count":1},"failure-details":[{"result-type":"validation-failure","sending-mta-ip":"192.0.2.3","receiving-mx-hostname":"mx.provider.example","failed-session-count":1}]}]}`, "r.example", "1", 5, 1, 2, 1, 0},
		{"mox: the host of TLSA records beside the MTA-STS policy, without a name", "", `{"organization-name":"Sender","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-01T23:59:59Z"},"contact-info":"p@sender.example","report-id":"1","policies":[
			{"policy":{"policy-type":"tlsa","policy-string":["3 1 1 ab"],"policy-domain":"mx.provider.example","mx-host":[]},"summary":{"total-successful-session-count":4,"total-failure-session-count":0}},
			{"policy":{"policy-type":"sts","policy-string":["version: STSv1"],"policy-domain":"r.example","mx-host":["mx.provider.example"]},"summary":{"total-successful-session-count":4,"total-failure-session-count":0}}]}`, "r.example", "1", 8, 0, 2, 0, 0},
		{"nothing but the counts; the rest is in the file's name", "sender.example!r.example!1793491200!1793577599.json", `{"policies":[{"summary":{"total-successful-session-count":"2"}}]}`, "r.example", "", 2, 0, 1, 0, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := readOne(t, compress(tt.data), tt.file).Report
			successful, failed := r.Sessions()
			details := 0
			for _, p := range r.Policies {
				details += len(p.Details)
				if p.Domain != tt.domain {
					t.Errorf("policy of %q", p.Domain)
				}
			}
			if r.Domain != tt.domain || r.ID != tt.id || successful != tt.successful || failed != tt.failed || len(r.Policies) != tt.policies || details != tt.details || len(r.Oddities) != tt.odd {
				t.Errorf("%+v", r)
			}
			if day := r.Start.Format(time.DateOnly); day != "2026-11-01" {
				t.Errorf("day %s", day)
			}
		})
	}
}

func TestWhatIsNoReport(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		want       error
	}{
		{"nothing", "", ErrNoReport},
		{"a mail of a person", "From: me@r.example\r\nSubject: Re: TLS report\r\n\r\nWhat is this about?\r\n", ErrNoReport},
		{"a mail that begins with a brace", "Subject: x\r\n\r\n{hello}\r\n", ErrNoReport},
		{"other JSON", `{"a":1}`, ErrNoReport},
		{"an array", `[1,2]`, ErrNoReport},
		{"octets", "\x00\x01\x02\xff", ErrNoReport},
		{"a picture in a mail", mailOf(reportType, "Content-Type: image/png", "\x89PNG\r\n\x1a\n00000000000000000"), ErrNoReport},
		{"a file of Outlook", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ErrNoReport},
		{"a DMARC report", compress(`<?xml version="1.0"?><feedback></feedback>`), ErrNoReport},
		{"a report that breaks off", whole[:len(whole)/2], io.ErrUnexpectedEOF},
		{"gzip that breaks off", compress(whole)[:60], io.ErrUnexpectedEOF},
		{"deep nesting", `{"report-id":"1","x":` + strings.Repeat("[", 100_000), ErrTooLarge},
		{"a text without end", `{"report-id":"` + strings.Repeat("a", 1<<20), ErrTooLarge},
		{"blanks without end", `{"report-id":"1",` + strings.Repeat(" ", 1<<20), ErrTooLarge},
		{"mails in mails", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 1000) + whole, ErrNoReport},
		{"archives in archives", func() string {
			data := whole
			for range 10 {
				data = archive(map[string]string{"a.zip": data})
			}
			return data
		}(), ErrNoReport},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := readAll(t, tt.data, "")
			if len(found) != 1 || !errors.Is(found[0].Err, tt.want) {
				t.Errorf("%+v", found)
			}
		})
	}
}

func TestEachMailOfAnMboxIsRead(t *testing.T) {
	mail := strings.ReplaceAll(mailOf(reportType, gzipType, compress(whole)), "\r\n", "\n")
	box := "From a Mon Nov  2 04:05:06 2026\n" + mail + "\nFrom b Mon Nov  2 04:05:06 2026\nSubject: hello\n\n>From here on it is text.\n\nFrom c Mon Nov  2 04:05:06 2026\n" + mail
	found := readAll(t, box, "")
	if len(found) != 3 || found[0].Err != nil || !errors.Is(found[1].Err, ErrNoReport) || found[2].Err != nil || found[2].Where != "sender.example!r.example!1793491200!1793577599!1.json" {
		t.Fatalf("%+v", found)
	}
	if found[1].Mail == nil || found[1].Mail.Subject != "hello" || found[1].Where != "mail 2" {
		t.Errorf("the mail that is none: %+v", found[1])
	}
}

func TestWhatIsTooMuchIsSummed(t *testing.T) {
	detail := `{"result-type":"%s","sending-mta-ip":"192.0.2.1","receiving-mx-hostname":"mx","failed-session-count":1}`
	details := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(detail, []string{"certificate-expired", "starttls-not-supported"}[i%2])
		}
		return strings.Join(list, ",")
	}
	policy := `{"policy":{"policy-type":"sts","policy-domain":"r.example"},"summary":{"total-successful-session-count":1,"total-failure-session-count":2},"failure-details":[%s]}`
	t.Run("details", func(t *testing.T) {
		r := readOne(t, `{"report-id":"1","policies":[`+fmt.Sprintf(policy, details(1500))+`]}`, "").Report
		sessions := make(map[string]int64)
		for _, d := range r.Policies[0].Details {
			sessions[d.ResultType] += d.Sessions
		}
		if len(r.Policies[0].Details) != MaxDetails+2 || sessions["certificate-expired"] != 750 || sessions["starttls-not-supported"] != 750 || r.Policies[0].Failed != 1500 {
			t.Errorf("%d details, %v", len(r.Policies[0].Details), sessions)
		}
	})
	t.Run("policies", func(t *testing.T) {
		r := readOne(t, `{"report-id":"1","policies":[`+strings.TrimSuffix(strings.Repeat(fmt.Sprintf(policy, details(2))+",", 1200), ",")+`]}`, "").Report
		successful, failed := r.Sessions()
		if len(r.Policies) != MaxPolicies || r.Omitted.Policies != 200 || successful != 1200 || failed != 2400 {
			t.Errorf("%d policies, %+v, %d and %d", len(r.Policies), r.Omitted, successful, failed)
		}
	})
	t.Run("details of all policies", func(t *testing.T) {
		r := readOne(t, `{"report-id":"1","policies":[`+strings.TrimSuffix(strings.Repeat(fmt.Sprintf(policy, details(900))+",", 50), ",")+`]}`, "").Report
		kept := 0
		for _, p := range r.Policies {
			kept += len(p.Details)
		}
		if _, failed := r.Sessions(); kept > maxAllDetails+50*maxRest || failed != 45_000 {
			t.Errorf("%d details, %d failed", kept, failed)
		}
	})
}

// zeros is an endless file of one octet, behind a beginning.
type zeros struct {
	start string
	octet byte
}

func (z *zeros) Read(p []byte) (int, error) {
	n := copy(p, z.start)
	z.start = z.start[n:]
	for i := n; i < len(p); i++ {
		p[i] = z.octet
	}
	return len(p), nil
}

// What is large when it is decompressed costs no memory. The reader ends at MaxSize, so that
// more than twice as much tries nothing else.
func TestABombCostsNoMemory(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start string
		octet byte
	}{
		{"zeros", "", 0},
		{"blanks", "", ' '},
		{"blanks in a report", `{"report-id":"1",`, ' '},
		{"one text", `{"report-id":"`, 'a'},
		{"one number", `{"report-id":1`, '1'},
		{"brackets", `{"report-id":"1","x":`, '['},
		{"policies", `{"report-id":"1","policies":[`, '['},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
			_, _ = io.CopyN(z, &zeros{tt.start, tt.octet}, 2*MaxSize+1)
			_ = z.Close()
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			found := readAll(t, b.String(), "")
			runtime.ReadMemStats(&after)
			if len(found) != 1 || found[0].Err == nil {
				t.Errorf("%+v", found)
			}
			// All that was allocated together, and not what was in use at one time.
			if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
				t.Errorf("%d MiB were allocated", got>>20)
			}
			t.Logf("%d KiB allocated: %v", (after.TotalAlloc-before.TotalAlloc)>>10, found[0].Err)
		})
	}
}

func FuzzRead(f *testing.F) {
	mail := mailOf(reportType, gzipType, compress(whole))
	for _, seed := range []string{whole, compress(whole), archive(map[string]string{"a.json": whole}), mail, "From a\n" + mail + "\nFrom b\n" + mail,
		`{"policies":[{"failure-details":[{"failed-session-count":"1"}]}]}`, mailOf(reportType, "Content-Type: message/rfc822", mail)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		err := Read(bytes.NewReader(data), "a!b!1!2.json", func(found Found) bool {
			n++
			if (found.Report == nil) == (found.Err == nil) {
				t.Fatalf("%+v", found)
			}
			if r := found.Report; r != nil {
				successful, failed := r.Sessions()
				if successful < 0 || failed < 0 || len(r.Policies) > MaxPolicies || len(r.Oddities) > maxOddities {
					t.Fatalf("%+v", r)
				}
				for _, p := range r.Policies {
					var sessions int64
					for _, d := range p.Details {
						if d.Sessions < 0 || len(d.Reason) > maxText {
							t.Fatalf("%+v", d)
						}
						sessions = Sum(sessions, d.Sessions)
					}
					if sessions > p.Failed {
						t.Fatalf("%+v", p)
					}
				}
			}
			return true
		})
		if err != nil || n == 0 {
			t.Fatalf("%d found, %v", n, err)
		}
	})
}
