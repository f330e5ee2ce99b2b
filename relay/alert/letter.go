package alert

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/compose"
	"github.com/stsrelay/stsrelay/internal/human"
)

// letter is what the operator is told at a time, by mail or by the webhook.
type letter struct {
	at       time.Time
	language string
	// fresh are alerts that were not told before, still those that were, and over what
	// has ended since.
	fresh, still []Alert
	over         []told
	words        letterText
}

// letter compares what is present with what was told.
func (m *Monitor) letter(present []Alert, now time.Time) *letter {
	l := &letter{at: now, language: "en"}
	if m.o.Language != nil && letters[m.o.Language()] != (letterText{}) {
		l.language = m.o.Language()
	}
	l.words = letters[l.language]
	over := maps.Clone(m.told)
	for _, t := range present {
		if _, known := over[t.Key]; known {
			l.still = append(l.still, t)
		} else {
			l.fresh = append(l.fresh, t)
		}
		delete(over, t.Key)
	}
	for _, k := range slices.Sorted(maps.Keys(over)) {
		l.over = append(l.over, over[k])
	}
	return l
}

// mail returns the mail to the operator, header and body.
func (l *letter) mail(hostname, to string) []byte {
	var text strings.Builder
	section := func(title string, list []Alert) {
		if len(list) == 0 {
			return
		}
		text.WriteString(title + ":\r\n\r\n")
		for i := range list {
			said := list[i].In(l.language)
			text.WriteString("* " + oneLine(said.What) + "\r\n")
			if said.Remedy != "" {
				text.WriteString("  " + l.words.helps + oneLine(said.Remedy) + "\r\n")
			}
			text.WriteString("\r\n")
		}
	}
	section(l.words.fresh, l.fresh)
	section(l.words.still, l.still)
	var ended []Alert
	for _, t := range l.over {
		ended = append(ended, Alert{What: t.What})
	}
	section(l.words.over, ended)
	text.WriteString(l.words.end)

	letter := compose.Message{
		From: l.words.from + " <MAILER-DAEMON@" + hostname + ">", To: to, Subject: hostname + ": " + l.subject(), Date: l.at, ID: fmt.Sprintf("trouble.%d@%s", l.at.UnixNano(), hostname),
		AutoSubmitted: "auto-generated",
		Parts:         []compose.Part{{Type: compose.Text, Encoding: compose.QuotedPrintable, Content: []byte(text.String())}},
	}
	return letter.Bytes()
}

// subject says in a few words what there is.
func (l *letter) subject() string {
	first := func(list []Alert) string { return human.Shorten(oneLine(list[0].In(l.language).What), 100) }
	switch fresh, still := len(l.fresh), len(l.still); {
	case fresh+still == 0:
		return l.words.well
	case fresh == 1:
		return first(l.fresh)
	case fresh > 1:
		return fmt.Sprintf(l.words.manyFresh, fresh)
	case still == 1:
		return l.words.oneStill + first(l.still)
	default:
		return fmt.Sprintf(l.words.manyStill, still)
	}
}

// told by the webhook, as JSON. The keys are those of docs/monitoring.md.
type (
	posted struct {
		Hostname string    `json:"hostname"`
		At       time.Time `json:"at"`
		// Text is the whole in one line, for chat programs that show this field alone.
		Text string        `json:"text"`
		New  []postedAlert `json:"new"`
		// Still are those that were told before.
		Still []postedAlert `json:"still"`
		Over  []string      `json:"over"`
	}
	postedAlert struct {
		Key   string `json:"key"`
		What  string `json:"what"`
		Helps string `json:"helps"`
	}
)

// json returns the body of the webhook.
func (l *letter) json(hostname string) []byte {
	p := posted{Hostname: hostname, At: l.at.UTC().Truncate(time.Second), Text: hostname + ": " + l.subject(), New: l.posted(l.fresh), Still: l.posted(l.still), Over: []string{}}
	for _, t := range l.over {
		p.Over = append(p.Over, oneLine(t.What))
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // it is texts and a time
	}
	return body
}

// about names the alerts.
func (l *letter) about() string {
	var keys []string
	for _, a := range slices.Concat(l.fresh, l.still) {
		keys = append(keys, a.Key)
	}
	return strings.Join(keys, "\n") + "."
}

func (l *letter) posted(list []Alert) []postedAlert {
	out := []postedAlert{}
	for i := range list {
		said := list[i].In(l.language)
		out = append(out, postedAlert{list[i].Key, oneLine(said.What), oneLine(said.Remedy)})
	}
	return out
}

// oneLine keeps what strangers have written from beginning a line of its own.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
