package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// historyFlags are the flags of a search in the history.
type historyFlags struct {
	from, to, domain, messageID, id, verdict, proof, event, since, until string
	limit                                                                int
}

func (f *historyFlags) add(c *cobra.Command) {
	f.addFilter(c)
	c.Flags().IntVar(&f.limit, "limit", 0, "at most so many")
}

// addFilter adds the flags that say which records are meant.
func (f *historyFlags) addFilter(c *cobra.Command) {
	for _, flag := range []struct {
		value       *string
		name, usage string
	}{
		{&f.to, "to", "with this recipient"},
		{&f.from, "from", "of this sender"},
		{&f.domain, "domain", "with recipients of this domain"},
		{&f.messageID, "message-id", "with this Message-ID"},
		{&f.id, "id", "with this queue ID, or the beginning of one"},
		{&f.verdict, "verdict", "delivered, deferred or bounced"},
		{&f.proof, "proof", "who vouched for the host: dane, mta-sts, verified, encrypted, none"},
		{&f.event, "event", "accepted, attempt, operator, gap, forgot"},
		{&f.since, "since", "from this time on: 2026-11-27, \"2026-11-27 14:00\" (UTC), yesterday, or 24h for so long ago"},
		{&f.until, "until", "before this time"},
	} {
		c.Flags().StringVar(flag.value, flag.name, "", flag.usage)
	}
}

// query returns the flags as the relay takes them.
func (f *historyFlags) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	for name, value := range map[string]string{
		"from": f.from, "to": f.to, "domain": f.domain, "message_id": f.messageID, "id": f.id, "verdict": f.verdict, "proof": f.proof, "event": f.event,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if value == "" {
			continue
		}
		at, err := parseTime(value, now)
		if err != nil {
			return nil, usageError{fmt.Errorf("--%s: %w", name, err)}
		}
		q.Set(name, at.UTC().Format(time.RFC3339))
	}
	if f.limit < 0 {
		return nil, usageError{errors.New("--limit must be at least 1")}
	}
	if f.limit > 0 {
		q.Set("limit", strconv.Itoa(f.limit))
	}
	return q, nil
}

// parseTime reads a time as people write it. Days and hours are those of UTC, as in the
// log.
func parseTime(s string, now time.Time) (time.Time, error) {
	today := now.UTC().Truncate(24 * time.Hour)
	switch strings.ToLower(s) {
	case "today":
		return today, nil
	case "yesterday":
		return today.AddDate(0, 0, -1), nil
	}
	var ago config.Duration
	if ago.UnmarshalText([]byte(s)) == nil {
		return now.Add(-time.Duration(ago)), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly, "2006-01"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-11-27, \"2026-11-27 14:00\", yesterday, 24h or 7d", s)
}

func (a *app) historyCommand() *cobra.Command {
	var f historyFlags
	var asCSV bool
	c := &cobra.Command{
		Use: "history", Short: "What became of mail, also of mail that has left: newest first", Args: noArgs,
		Example: "  stsrelay history --to kurt@partner.example --since yesterday\n  stsrelay history --domain partner.example --proof none --since 7d",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			body, err := client.Open(cmd.Context(), http.MethodGet, "/v1/history", q, nil)
			if err != nil {
				return err
			}
			defer body.Close()
			switch {
			case a.json:
				return a.copyJSON(body)
			case asCSV:
				return a.printHistoryCSV(body)
			}
			return a.printHistory(body)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asCSV, "csv", false, "as CSV, for a spreadsheet")
	c.AddCommand(a.historyShow(), a.historyEvidence(), a.historySummary(), a.historyForget())
	return c
}

// records calls fn with each record of a JSON array as it comes.
func records(body io.Reader, fn func(*history.Record)) error {
	d := json.NewDecoder(body)
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		var r history.Record
		if err := d.Decode(&r); err != nil {
			return err
		}
		fn(&r)
	}
	return nil
}

func (a *app) printHistory(body io.Reader) error {
	n := 0
	err := records(body, func(r *history.Record) {
		n++
		a.printRecord(r)
	})
	if err == nil && n == 0 {
		fmt.Fprintln(a.out, "nothing of that is in the history")
	}
	return err
}

// printRecord prints one line, which fits into the terminal.
func (a *app) printRecord(r *history.Record) {
	line := recordLine(r)
	if columns := a.columns(); columns > 0 {
		line = human.Shorten(line, columns)
	}
	fmt.Fprintln(a.out, line)
}

func recordLine(r *history.Record) string {
	at := r.At.UTC().Format("2006-01-02 15:04:05")
	switch r.Kind {
	case history.Gap:
		missing := ""
		if r.Lines > 0 {
			missing = fmt.Sprintf(", %d are known", r.Lines)
		}
		return fmt.Sprintf("%s  gap       records may be missing from %s to %s%s", at, r.MissingFrom.UTC().Format(time.TimeOnly), r.MissingTo.UTC().Format("2006-01-02 15:04:05"), missing)
	case history.Forgot:
		return fmt.Sprintf("%s  forgot    an address was taken out of %s of this day", at, human.Plural(int(r.Lines), "record"))
	case history.Accepted:
		return fmt.Sprintf("%s  accepted  %s  %s → %s  %s from %s", at, shortID(r.QueueID), operator.Sender(r.From), recipientsOf(r), human.Size(r.Size), r.Client)
	case history.Operator:
		if len(r.To) == 0 { // it is about no recipients of a message
			return fmt.Sprintf("%s  operator  %s%s", at, strings.TrimSpace(shortID(r.QueueID)+"  "+r.What), by(r))
		}
		return fmt.Sprintf("%s  operator  %s  %s → %s  %s%s", at, shortID(r.QueueID), operator.Sender(r.From), recipientsOf(r), r.What, by(r))
	case history.Notice:
		return fmt.Sprintf("%s  notice    %s  to %s: message %s", at, shortID(r.QueueID), recipientsOf(r), r.Notice)
	case history.Refused:
		if r.Lines > 0 {
			return fmt.Sprintf("%s  refused   %d further commands of clients", at, r.Lines)
		}
		return fmt.Sprintf("%s  refused   %s of %s, from %s: %s", at, cmp.Or(r.What, "session"), r.Client, operator.Sender(r.From), r.Reply)
	default:
		return fmt.Sprintf("%s  %-9s %s  %s → %s  %s", at, r.Verdict, shortID(r.QueueID), operator.Sender(r.From), recipientsOf(r), fate(r))
	}
}

// by says who the operator was, where that is known.
func by(r *history.Record) string {
	if r.By == "" {
		return ""
	}
	return " (" + r.By + ")"
}

// fate says where a message went and over what, or why it did not.
func fate(r *history.Record) string {
	proof := ""
	if r.TLS != nil {
		proof = string(r.TLS.Proof)
		if r.TLS.Version != "" {
			proof = r.TLS.Version + ", " + proof
		}
	}
	switch {
	case r.Verdict == "delivered":
		return fmt.Sprintf("%s (%s): %s", r.Host, proof, r.Reply)
	case r.Error != "":
		return r.Why + ": " + r.Error
	}
	return r.Why
}

func recipientsOf(r *history.Record) string {
	if len(r.To) > 3 {
		return fmt.Sprintf("%s and %d more", r.To[0], len(r.To)-1)
	}
	return strings.Join(r.To, ", ")
}

// shortID is enough of a queue ID to find it by.
func shortID(id string) string { return id[:min(len(id), 16)] }

func (a *app) printHistoryCSV(body io.Reader) error {
	w := csv.NewWriter(a.out)
	_ = w.Write([]string{"at", "event", "queue_id", "message_id", "from", "to", "domain", "verdict", "why", "host", "ip", "tls", "cipher", "proof", "policy_mode", "certificate_sha256", "reply", "error"})
	err := records(body, func(r *history.Record) {
		t := r.TLS
		if t == nil {
			t = new(history.TLS)
		}
		fingerprint := ""
		if t.Certificate != nil {
			fingerprint = t.Certificate.SHA256
		}
		row := []string{r.At.UTC().Format(time.RFC3339Nano), string(r.Kind), r.QueueID, r.MessageID, r.From, strings.Join(r.To, " "), r.Domain, r.Verdict, r.Why, r.Host, r.IP,
			t.Version, t.Cipher, string(t.Proof), t.PolicyMode, fingerprint, r.Reply, r.Error}
		for i, v := range row {
			if v != "" && strings.ContainsRune("=+-@\t\r", rune(v[0])) {
				row[i] = "'" + v // a spreadsheet would take it for a formula
			}
		}
		_ = w.Write(row)
	})
	w.Flush()
	return errors.Join(err, w.Error())
}

func (a *app) historyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID|MESSAGE-ID", Short: "All that is known of one message, in its order", Args: oneArg("ID"),
		Example: "  stsrelay history show 01KAR7M3QVJ0Z6\n  stsrelay history show '<report-7@example.com>'",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var list []history.Record
			if err := client.Get(cmd.Context(), "/v1/history/"+url.PathEscape(args[0]), nil, &list); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			if id := list[0].MessageID; id != "" {
				fmt.Fprintf(a.out, "%s  %s\n", list[0].QueueID, id)
			}
			for i := range list {
				a.printRecord(&list[i])
			}
			return nil
		},
	}
}
